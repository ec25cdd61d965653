"""An observer that adds up what it is told."""

from collections import Counter
from collections.abc import Mapping

from detector.batch import Source


class Counts:
    """``DeliveryObserver`` for tests."""

    def __init__(self) -> None:
        self.readings: Counter[str] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Attempts by receiver and outcome."""
        self.endings: Counter[tuple[str, str]] = Counter()
        self.waits: dict[str, int] = {}
        self.over = 0
        self.open = 0
        self.partitions = 0
        self.reachable: list[bool] = []
        self.behind: Mapping[Source, int] = {}

    def read(self, outcome: str) -> None:
        self.readings[outcome] += 1

    def expired(self) -> None:
        self.over += 1

    def attempted(self, receiver: str, address: str, outcome: str) -> None:
        self.outcomes[receiver, outcome] += 1

    def finished(self, receiver: str, address: str, ending: str) -> None:
        self.endings[receiver, ending] += 1

    def waiting(self, receiver: str, address: str, notifications: int, oldest_s: float) -> None:
        self.waits[receiver] = notifications

    def open_episodes(self, episodes: int) -> None:
        self.open = episodes

    def lag(self, lag: Mapping[Source, int]) -> None:
        self.behind = lag

    def assigned(self, partitions: int) -> None:
        self.partitions = partitions

    def broker(self, reachable: bool, problem: str = "") -> None:
        self.reachable.append(reachable)

    def heartbeat(self, monotonic_s: float) -> None:
        """Alive."""
