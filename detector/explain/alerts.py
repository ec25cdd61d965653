"""What the alerts topic says: the events of one alert, and who else alarmed then."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from detector.delivery.alert import MAX_ALERT_BYTES, Alert, Time
from detector.stream.port import RawRecords


class Event(Alert, frozen=True, kw_only=True):
    """An event with what only its explanation needs; see ``alerting.event.AlertEvent``."""

    peak: Time | None = None
    p_value: float | None = None
    surprise_nats: float | None = None
    members_left_out: int = 0


@dataclass(slots=True)
class Episode:
    """One episode, or incident, as far as the topic tells. Times are event times, seconds since 1970."""

    alert_id: str
    kind: str
    detector: str
    input: str
    """Of an absence; else empty."""
    entity: str
    version: str
    role: str
    severity: str
    start_s: float
    end_s: float | None
    """None: no event says that it is over, or it fired again since."""
    heard_s: float
    """Of its newest event."""
    anomaly_score: float | None
    feature: str | None
    """The one that surprises most, by its newest event."""
    entities: int
    """In an incident, or absent."""


@dataclass(slots=True)
class AlertsRead:
    """Everything that an alerts topic holds, an entry for each episode."""

    events: int = 0
    first_s: float = float("inf")
    last_s: float = float("-inf")
    """Event times of the oldest and the newest event."""
    told: list[Event] = field(default_factory=list)
    """Events of the alert asked for, in order; repeats are left out."""
    episodes: dict[str, Episode] = field(default_factory=dict)


_decoder = msgspec.json.Decoder(Event)


def read_alerts(polls: Iterable[RawRecords], alert_id: str) -> AlertsRead:
    """Read events; what is no event is passed over.

    Args:
        polls: Records of the alerts topic, each partition's in order.
        alert_id: Whose events to keep.
    """
    read = AlertsRead()
    for event in _events(polls):
        read.events += 1
        time_s = event.time.timestamp()
        read.first_s, read.last_s = min(read.first_s, time_s), max(read.last_s, time_s)
        _note(read.episodes, event, time_s)
        if event.alert_id == alert_id and event not in read.told:
            read.told.append(event)
    return read


def overlapping(read: AlertsRead, alert_id: str, from_s: float, until_s: float) -> list[Episode]:
    """Return the other episodes of models in service that were on at some time in [from_s, until_s].

    An episode that no event ends counts until its newest event. By start, incidents first.
    """
    others = [
        episode
        for episode in read.episodes.values()
        if episode.alert_id != alert_id
        and episode.role == "champion"
        and episode.start_s <= until_s
        and (episode.heard_s if episode.end_s is None else episode.end_s) >= from_s
    ]
    return sorted(others, key=lambda episode: (episode.kind != "incident", episode.start_s, episode.entity))


def _events(polls: Iterable[RawRecords]) -> Iterator[Event]:
    for raw in polls:
        for value in raw.value:
            if not value or len(value) > MAX_ALERT_BYTES:
                continue
            try:
                yield _decoder.decode(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue


def _note(episodes: dict[str, Episode], event: Event, time_s: float) -> None:
    known = episodes.get(event.alert_id)
    feature = event.features[0].feature if event.features else None
    feature = event.reasons[0].feature if event.reasons else feature
    if known is None:
        known = episodes[event.alert_id] = Episode(
            event.alert_id,
            event.kind,
            event.detector,
            event.input,
            event.entity,
            event.version,
            event.role,
            event.severity,
            event.start.timestamp(),
            None,
            time_s,
            event.anomaly_score,
            feature,
            event.entities,
        )
    if event.state == "resolved":
        known.end_s = (event.end or event.time).timestamp()
    elif time_s >= known.heard_s:
        # It fired again. What is older was written twice.
        known.end_s = None
    known.severity, known.heard_s = event.severity, max(known.heard_s, time_s)
    known.feature = feature or known.feature
    known.entities = max(known.entities, event.entities)
    if event.anomaly_score is not None:
        known.anomaly_score = event.anomaly_score
