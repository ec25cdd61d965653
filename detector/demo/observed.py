"""What the daemon said, as read from its output topics: scores counted by offset, alerts as episodes."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from detector.demo.evaluation import Episode

_RECENT = 8


class Origin(msgspec.Struct, gc=False):
    """Which record a score belongs to."""

    topic: str
    partition: int
    offset: int


class ScoreLine(msgspec.Struct, gc=False):
    """The fields of a score record that are used here; the others are skipped."""

    entity: str
    detector: str
    status: str
    origin: Origin
    anomaly_score: float | None = None


class ReasonLine(msgspec.Struct):
    """One feature of an alert."""

    feature: str
    expected: float
    std: float
    nats: float
    actual: float | None = None


class RegimeLine(msgspec.Struct):
    """What the model takes for the cause of an alert."""

    text: str


class AlertLine(msgspec.Struct):
    """The fields of an alert event that are used here."""

    alert_id: str
    state: str
    detector: str
    entity: str
    time: datetime
    start: datetime
    p_value: float
    anomaly_score: float
    return_period: str
    """In words."""
    reopened: int = 0
    end: datetime | None = None
    reasons: list[ReasonLine] = []
    regime: RegimeLine | None = None


@dataclass
class Alert:
    """One episode, from its events so far."""

    firing: AlertLine
    resolved: AlertLine | None = None
    reopened: int = 0

    def episode(self, now: float) -> Episode:
        """Return it as an interval; one that still fires lasts until ``now``, seconds since 1970."""
        end = self.resolved.end if self.resolved else None
        fired = self.firing.time.timestamp()
        until = end.timestamp() if end else max(now, fired)
        return Episode(self.firing.entity, self.firing.start.timestamp(), fired, until)


@dataclass
class Observed:
    """Everything consumed so far."""

    topic: str
    """The input's: scores of other topics are none of ours."""
    detectors: Sequence[str]
    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    """Records by status, each counted once, by detector."""
    duplicates: int = 0
    """Scores that came again: delivery is at least once."""
    latest: dict[tuple[str, str], float] = field(default_factory=dict)
    """Newest anomaly score by detector and entity."""
    alerts: dict[str, Alert] = field(default_factory=dict)
    """By id, in the order in which they fired."""
    recent: deque[tuple[Alert, bool]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """The newest transitions, newest last: the alert, and whether it fired (else it resolved)."""

    def __post_init__(self) -> None:
        self._seen: dict[str, set[tuple[int, int]]] = {name: set() for name in self.detectors}
        self.statuses = {name: Counter() for name in self.detectors}
        self._decode_score = msgspec.json.Decoder(ScoreLine).decode
        self._decode_alert = msgspec.json.Decoder(AlertLine).decode

    @property
    def answered(self) -> int:
        """Return how many records every detector has given a status."""
        return min(len(seen) for seen in self._seen.values())

    def add_scores(self, values: Sequence[bytes]) -> None:
        """Count score records."""
        for value in values:
            line = self._decode_score(value)
            if line.origin.topic != self.topic or line.detector not in self._seen:
                continue
            place = (line.origin.partition, line.origin.offset)
            seen = self._seen[line.detector]
            if place in seen:
                self.duplicates += 1
                continue
            seen.add(place)
            self.statuses[line.detector][line.status] += 1
            if line.anomaly_score is not None:
                self.latest[line.detector, line.entity] = line.anomaly_score

    def add_alerts(self, values: Sequence[bytes]) -> None:
        """Take in alert events; one that came before changes nothing."""
        for value in values:
            line = self._decode_alert(value)
            known = self.alerts.get(line.alert_id)
            if line.state == "firing":
                if known is None:
                    alert = self.alerts[line.alert_id] = Alert(line)
                    self.recent.append((alert, True))
                elif line.reopened > known.reopened:
                    known.reopened, known.resolved = line.reopened, None
            elif line.state == "resolved" and known is not None and known.resolved is None:
                known.resolved = line
                self.recent.append((known, False))

    def firing(self) -> set[tuple[str, str]]:
        """Return detector and entity of the alerts that fire now."""
        return {(a.firing.detector, a.firing.entity) for a in self.alerts.values() if a.resolved is None}

    def episodes(self, detector: str, now: float) -> list[Episode]:
        """Return one detector's episodes; those that still fire last until ``now``."""
        return [a.episode(now) for a in self.alerts.values() if a.firing.detector == detector]
