"""A thread beside the loop's: what takes long is done there, one thing after another."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Works from ``start`` until ``stop``; what is under way then holds up no process that ends."""

    def __init__(self) -> None:
        self._works: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._works.put(None)

    def do(self, work: Callable[[], T]) -> "Future[T]":
        """Return at once what will hold the result of ``work``, or what it raised."""
        future: Future[T] = Future()

        def into_future() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        self._works.put(into_future)
        return future

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            work()
