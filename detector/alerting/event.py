"""The alert event: one when an alert fires, some while it goes on, one when it resolves."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from detector.batch import Source
from detector.models.contract import Regime

Transition = Literal["firing", "updated", "resolved"]
Side = Literal["unlikely", "too_likely"]
UpdatedBecause = Literal["severity", "peak", "feature", "spread", "keep_alive"]
ResolvedBecause = Literal["calm", "new_normal", "maintenance", "muted"]

# A keep-alive that is late or lost is no end yet.
LASTS_KEEP_ALIVES = 3.0

# A fixed namespace, so that the same record under the same detector gives the same id for ever.
_NAMESPACE = uuid.UUID("6d7f1c1e-5b55-5a0e-9a57-0d3a3d3c6a11")


class Stuck(NamedTuple):
    """A value that has stayed exactly the same for longer than it may."""

    value: float
    """As decoded, of a counter its total."""
    since: float
    """Time of the first record with it, seconds since 1970 UTC."""
    for_s: float
    """From then to the record that is explained."""
    after_s: float
    """What is too long."""


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often a value came of late, or how large a count was in the mean."""

    of: Literal["share", "mean"]
    value: str | float | None
    """Of a share: the text, 1 of a flag that is set, or None: all texts that are not common."""
    actual: float
    """In the average over the newest records."""
    expected: float
    """What is usual for the entity."""
    records: int
    """About so many the average is over."""


@dataclass(frozen=True, slots=True)
class FeatureReason:
    """One feature's part in an alert, in the units of the data."""

    feature: str
    actual: float | str | None
    """Text where the feature is categorical; None where the record has no value."""
    expected: float | str | None
    """What the model expected of it, given the other features and the entity's past: of a categorical
    feature the likeliest text, None where that is one that was not seen in training."""
    std: float | None
    """Standard deviation of that expectation; None where the feature is categorical or binary."""
    nats: float
    """How much more surprising it is than usual: -log p(actual | the other features, the past), less the mean
    of that for a Gaussian of the same spread. In no unit, so features compare; about 0 is normal."""
    unit: str | None = None
    valid_range: tuple[float | None, float | None] | None = None
    """The range that the value is outside of, None for an open end; None where it is not."""
    stuck: Stuck | None = None
    """None where the value moves, or may stay."""
    frequency: Frequency | None = None
    """What is surprising, where it is not the value itself; ``nats`` are of this then."""


class Explained(NamedTuple):
    """Why one record is improbable."""

    time: float
    reasons: tuple[FeatureReason, ...]
    regime: Regime | None


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """What happened to one entity under one detector. Times are event times, seconds since 1970 UTC."""

    id: str
    """Unique per transition and the same after a redelivery, so consumers can drop repeats."""
    alert_id: str
    """The same for all events of one alert."""
    transition: Transition
    detector: str
    role: str
    version: str
    entity: str
    severity: str
    """The configured one, or ``critical`` once it was very anomalous for long; it never falls."""
    reopened: int
    """How often it fired again within the cooldown after it had resolved."""
    time: float
    """Of the record that caused the event."""
    expires_at: float | None
    """When to take it to be over, unless more was heard of it by then; None when resolved."""
    start: float
    """Of the first suspicious record that counted towards firing."""
    peak: float
    """Of the record with the largest anomaly score so far."""
    end: float | None
    """Of the last suspicious record; None while firing."""
    last_suspicious: float
    """Of the newest suspicious record, while firing, too."""
    records: int
    """Scored records since ``start``, it included."""
    surprise_nats: float
    """Sum of -log(p_value) over the suspicious records since ``start``."""
    p_value: float
    anomaly_score: float
    log_likelihood: float
    """These three belong to the peak."""
    return_period_s: float
    """How long normal traffic of one entity takes, on average, to be as improbable as the peak."""
    side: Side
    """Of the peak. ``too_likely``: it is improbable for being more typical than normal traffic ever is."""
    member: str
    """To which member of the committee the peak was most improbable, and over how many records."""
    explained: float
    """Of the record that fired, or of the newest one since whose score rose far above those before it, or of
    which another feature was the cause."""
    reasons: tuple[FeatureReason, ...]
    """Of that record, most surprising first (least, if it was too likely)."""
    regime: Regime | None
    """What the model takes for the cause of the same record; None where the family has no discrete cause."""
    labels: dict[str, str]
    """Of the record that caused the event."""
    updated_because: UpdatedBecause | None
    """What is new: the severity, the peak, the feature that is the cause, or nothing but that it goes on.
    None unless updated."""
    resolved_because: ResolvedBecause | None
    """``calm``; ``new_normal``: it lasted so long that it counts as normal; ``maintenance``: a window began
    in which nothing fires; ``muted``: nothing fires of its entity any more. None while firing."""
    source: Source
    first_offset: int
    """Of the first suspicious record that counted towards firing."""
    last_offset: int
    """Of the record that caused the event."""
    incident_id: str | None = None
    """The incident that it is a part of, with other entities; None: of none, so far as is known by now."""


def alert_id(source: Source, first_offset: int, detector: str, entity: str) -> str:
    """Return the id of an alert: a function of where it started and who watched."""
    name = f"{source.topic}|{source.partition}|{first_offset}|{detector}|{entity}"
    return str(uuid.uuid5(_NAMESPACE, name))


def event_id(alert: str, transition: Transition, offset: int) -> str:
    """Return the id of one event of an alert, caused by the record at ``offset``."""
    return str(uuid.uuid5(_NAMESPACE, f"{alert}|{transition}|{offset}"))


def shared_labels(labels: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return those that all of one or more have in common."""
    shared, *others = labels
    for other in others:
        shared = {name: text for name, text in shared.items() if other.get(name) == text}
    return dict(shared)


def expires_at(time: float, keep_alive_s: float, interval_s: float) -> float:
    """Return when an alert is over that nothing is heard of after ``time``.

    That is three keep-alives later, or three records where these come more rarely.

    Args:
        time: Of the record that caused its newest event, seconds.
        keep_alive_s: How often more is told of it, provided that there are records.
        interval_s: The usual time between two records of an entity.
    """
    return time + LASTS_KEEP_ALIVES * max(keep_alive_s, interval_s)
