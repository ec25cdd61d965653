"""Signals that end a process in order, and those that do not."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_log = logging.getLogger(__name__)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and SIGINT call ``stop``, and SIGHUP nothing; the handlers of before come back."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    def explain(_number: int, _frame: FrameType | None) -> None:
        _log.warning("SIGHUP changes nothing: the configuration is read at the start; restart to apply it")

    handlers = {signal.SIGTERM: handle, signal.SIGINT: handle, signal.SIGHUP: explain}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
