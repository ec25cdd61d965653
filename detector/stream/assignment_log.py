"""What a group gave and took since the loop last asked, whichever thread the client reports it on."""

import threading
from collections.abc import Iterable

from detector.batch import Source


class AssignmentLog:
    """Turns a client's whole assignments into partitions gained and lost.

    An eager rebalance takes every partition and gives most of them straight back. Only what differs between
    two assignments is kept here, so the state of a partition that stays need not be dropped. A partition lost
    and later regained is in both lists: somebody else may have read it in between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: frozenset[Source] = frozenset()
        self._assigned: dict[Source, None] = {}
        self._revoked: dict[Source, None] = {}

    def replace(self, assignment: Iterable[Source]) -> None:
        """Record the whole assignment after a rebalance, or an empty one once membership was lost."""
        now = frozenset(assignment)
        with self._lock:
            for source in sorted(self._held - now):
                # Never told of it, so nothing has to be let go.
                if source in self._assigned:
                    del self._assigned[source]
                else:
                    self._revoked[source] = None
            for source in sorted(now - self._held):
                self._assigned[source] = None
            self._held = now

    def held(self) -> frozenset[Source]:
        return self._held

    def take_assigned(self) -> list[Source]:
        with self._lock:
            taken = list(self._assigned)
            self._assigned.clear()
        return taken

    def take_revoked(self) -> list[Source]:
        with self._lock:
            taken = list(self._revoked)
            self._revoked.clear()
        return taken
