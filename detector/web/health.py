"""Whether the process is alive and able to work: what the health endpoints answer."""

import time
from collections.abc import Callable

LATE_AFTER_S = 20.0
"""Longer than any wait that the Kafka clients bound, shorter than the watchdog's patience of 30 s."""


class Health:
    """What the loop last said of itself. Written by one thread, read by another, a field at a time."""

    def __init__(
        self, late_after_s: float = LATE_AFTER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._late_after_s = late_after_s
        self._clock = clock
        self._beat_s = clock()
        self.broker_reachable = False
        self.broker_problem = ""
        """Why it does not work, as far as known."""
        self.assigned_partitions = 0
        self.models_loaded = False
        self.notes: dict[str, str] = {}
        """What is to be known of detectors that do not score yet, or of an output; it stops nothing else."""

    def heartbeat(self, monotonic_s: float) -> None:
        """Note that the loop made progress at this time of the clock."""
        self._beat_s = monotonic_s

    def heartbeat_age_s(self) -> float:
        """Return how long ago the loop made progress; from the start, before the first time."""
        return max(0.0, self._clock() - self._beat_s)

    def alive(self) -> bool:
        """Return whether the loop makes progress; the broker's absence does not matter here."""
        return self.heartbeat_age_s() <= self._late_after_s

    def note(self, what: str, text: str) -> None:
        """Set what is to be known of a detector or an output, see ``notes``; empty for nothing."""
        # A new dictionary: the web server's thread may be reading the old one.
        others = {name: said for name, said in self.notes.items() if name != what}
        self.notes = {**others, what: text} if text else others

    def missing(self) -> dict[str, str]:
        """Return what is not there yet and why that matters; empty when ready."""
        reasons = {}
        if not self.models_loaded:
            reasons["models"] = "not loaded yet"
        if not self.broker_reachable:
            reasons["broker"] = self.broker_problem or "no broker answered yet"
        if self.assigned_partitions == 0:
            reasons["partitions"] = (
                "none assigned: other replicas have them all, or the group is still forming"
            )
        if not self.alive():
            reasons["loop"] = f"no progress for {self.heartbeat_age_s():.0f} s"
        return reasons
