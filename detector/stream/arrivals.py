"""Versions that arrive while the loop runs: what it tells their source, and when it asks for them."""

from typing import Protocol

from detector.batch import IntArray
from detector.stream.watch import Watch


class Arrivals(Protocol):
    """Where versions of one detector come from. Every call comes from the loop's one thread."""

    def seen(self, slots: IntArray) -> None:
        """Take note of a batch of the detector's input: the slot of each record's entity, shape (N,)."""
        ...

    def forget(self, slots: IntArray) -> None:
        """Drop what is known of entities whose partitions went elsewhere."""
        ...

    def arrived(self) -> Watch | None:
        """Return a new watch, which replaces the one of its name, if there is one; None without news.

        Called between any two polls, so it returns at once: versions are loaded elsewhere.
        """
        ...
