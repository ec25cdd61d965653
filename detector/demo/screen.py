"""Where the live view goes: a screen that redraws itself on a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from detector.demo.view import Snapshot, plain_line, render

_REDRAW_S = 0.2
_LINE_S = 2.0


class Screen:
    """Shows snapshots, not more often than anybody can read them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._shown_s = float("-inf")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def wants(self, now_s: float) -> bool:
        """Return whether it is time for another snapshot; ``now_s`` is monotonic."""
        return now_s - self._shown_s >= (_LINE_S if self._live is None else _REDRAW_S)

    def show(self, snapshot: Snapshot, now_s: float) -> None:
        """Show a snapshot at once."""
        self._shown_s = now_s
        if self._live is not None:
            self._live.update(render(snapshot), refresh=True)
        else:
            self._console.print(plain_line(snapshot), markup=False, highlight=False, soft_wrap=True)
