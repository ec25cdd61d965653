"""The event of something that is not there: an entity, many of them at once, or a feature of records."""

import uuid
from dataclasses import dataclass, replace
from typing import Literal

from detector.alerting.event import Transition
from detector.batch import Source

Kind = Literal["absence", "vanished_feature"]
ResolvedBecause = Literal["returned", "expired"]

MANY_ENTITIES = "*"
"""In place of an entity's name, where an event is about many."""
ENTITIES_LISTED = 50
"""An event names at most so many entities; it counts them all."""

KEEP_ALIVE_S = 1800.0
"""How often more is told of an absence that lasts."""
LASTS_S = 3.0 * KEEP_ALIVE_S
"""Silence for so long may be taken for its end."""

_NAMESPACE = uuid.UUID("0b7c8a0e-43d1-5c5f-9d0e-5a1f7e2c9b64")


@dataclass(frozen=True, slots=True)
class AbsenceEvent:
    """What is absent from one input. Times are event times, seconds since 1970 UTC."""

    kind: Kind
    alert_id: str
    """The same for all events of one absence."""
    transition: Transition
    input: str
    entity: str
    """``MANY_ENTITIES`` where several are absent at once."""
    entities: tuple[str, ...]
    """Who is absent, at most ``ENTITIES_LISTED``."""
    absent: int
    """How many are."""
    alive: int
    """How many the input had before, they included."""
    features: tuple[str, ...]
    """What vanished; empty where entities are absent."""
    severity: str
    time: float
    """Of the stream, when it was noticed."""
    told: int
    """How often more was told of it; 0 when it fires."""
    start: float
    """Of the last record before, or when it came if its clock is ahead; of features, of the first without."""
    end: float | None
    """When the first record after came: its time, or the stream's where that is later; None while absent."""
    usual_interval_s: float | None
    """Between two records of an entity; of many the median; None where it is not known."""
    labels: dict[str, str]
    resolved_because: ResolvedBecause | None
    source: Source
    offset: int
    """Of the record that ``start`` is of."""

    @property
    def id(self) -> str:
        """Unique per event, and the same after a redelivery."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.alert_id}|{self.transition}|{self.told}"))

    @property
    def expires_at(self) -> float | None:
        """When to take it to be over unless more is heard of it by then; None when it is."""
        return None if self.transition == "resolved" else self.time + LASTS_S


def absence_id(kind: Kind, input: str, entity: str, source: Source, offset: int, feature: str = "") -> str:
    """Return the id of an absence: a function of the last record before it."""
    name = f"{kind}|{source.topic}|{source.partition}|{offset}|{input}|{feature}|{entity}"
    return str(uuid.uuid5(_NAMESPACE, name))


def kept_alive(event: AbsenceEvent, time_s: float) -> AbsenceEvent:
    """Return the event that an absence goes on."""
    return replace(event, transition="updated", time=time_s, told=event.told + 1)


def resolved(event: AbsenceEvent, time_s: float, because: ResolvedBecause) -> AbsenceEvent:
    """Return the event that an absence is over; it never comes before the others, nor ends before them."""
    time = max(event.time, time_s)
    return replace(event, transition="resolved", time=time, end=time, resolved_because=because)


def listed(entities: list[str]) -> tuple[str, ...]:
    """Return as many names as an event holds, in order."""
    return tuple(sorted(entities)[:ENTITIES_LISTED])
