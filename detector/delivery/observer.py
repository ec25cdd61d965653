"""What the deliverer tells whoever counts: metrics in production, a list in tests."""

from collections.abc import Mapping
from typing import Protocol

from detector.batch import Source


class DeliveryObserver(Protocol):
    """Reports of the loop and, from threads of their own, of the receivers: every method is thread-safe.

    ``receiver`` is its name, ``address`` the host:port of one of its replicas.
    """

    def read(self, outcome: str) -> None:
        """Count an event read, by ``Reading``."""
        ...

    def expired(self) -> None:
        """Count an episode that was taken to be over because nothing was heard of it."""
        ...

    def attempted(self, receiver: str, address: str, outcome: str) -> None:
        """Count a request, by ``Outcome``; a repetition of what fires is one too."""
        ...

    def finished(self, receiver: str, address: str, ending: str) -> None:
        """Count a notification that needs no more attempts, by ``Ending``."""
        ...

    def waiting(self, receiver: str, address: str, notifications: int, oldest_s: float) -> None:
        """Set how many notifications wait for a receiver, and since when the oldest does."""
        ...

    def open_episodes(self, episodes: int) -> None:
        """Set how many episodes fire."""
        ...

    def lag(self, lag: Mapping[Source, int]) -> None:
        """Set records between position and high watermark per partition; replaces what was said before."""
        ...

    def assigned(self, partitions: int) -> None:
        """Set how many partitions this process owns; ready needs at least one."""
        ...

    def broker(self, reachable: bool, problem: str = "") -> None:
        """Set whether Kafka works, and why not; not ready while it does not."""
        ...

    def heartbeat(self, monotonic_s: float) -> None:
        """Note that the loop is alive, by ``time.monotonic``; healthy while this is recent."""
        ...
