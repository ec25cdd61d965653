"""Ends the process when the loop hangs, as both Kafka clients can: a supervisor starts it again."""

import logging
import os
import threading
import time
from collections.abc import Callable

STALLED_EXIT_CODE = 70

_log = logging.getLogger(__name__)


class Watchdog:
    """A thread that looks at the loop's last sign of life, from ``start`` until ``stop``."""

    def __init__(
        self,
        stalled_after_s: float = 30.0,
        stop_within_s: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        """Args:
        stalled_after_s: Silence of the loop after which the process ends with code 70.
        stop_within_s: Time from a request to stop until the process ends, whatever the broker does.
        clock: Monotonic seconds.
        end_process: Ends it at once; threads that hang cannot be joined.
        """
        self._stalled_after_s = stalled_after_s
        self._stop_within_s = stop_within_s
        self._clock = clock
        self._end_process = end_process
        self._sign_of_life_s = clock()
        self._stop_asked_s: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._sign_of_life_s = self._clock()
        self._thread.start()

    def stop(self) -> None:
        self._done.set()

    def feed(self) -> None:
        """Say that the loop made progress."""
        self._sign_of_life_s = self._clock()

    def stop_asked(self) -> None:
        """Say that the process was told to stop; from now on it has ``stop_within_s``."""
        if self._stop_asked_s is None:
            self._stop_asked_s = self._clock()

    def look(self) -> None:
        """End the process if it is time to."""
        now = self._clock()
        if self._stop_asked_s is not None:
            if now - self._stop_asked_s > self._stop_within_s:
                # Nothing is lost by it: what was not committed comes again.
                _log.warning(
                    "the broker did not answer in the %.0f s after the request to stop; ending without it: "
                    "records that are not committed come again at the next start",
                    self._stop_within_s,
                )
                self._end(0)
        elif now - self._sign_of_life_s > self._stalled_after_s:
            _log.error(
                "the loop made no progress for %.0f s, inside the Kafka client or with what it polled; "
                "ending the process with code %d so that a supervisor restarts it: nothing is lost, some "
                "outputs may come twice",
                now - self._sign_of_life_s,
                STALLED_EXIT_CODE,
            )
            self._end(STALLED_EXIT_CODE)

    def _end(self, code: int) -> None:
        for handler in logging.getLogger().handlers:
            handler.flush()
        self._end_process(code)

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self.look()
