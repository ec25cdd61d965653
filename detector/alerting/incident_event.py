"""What is told of an incident: an event on the alerts topic, as that of a single alert is."""

from dataclasses import dataclass
from typing import NamedTuple

from detector.alerting.event import Transition, UpdatedBecause
from detector.batch import Source

MEMBERS_LISTED = 50
"""An event names at most so many of its members; it counts them all."""


class IncidentMember(NamedTuple):
    """An entity's part in an incident."""

    entity: str
    alert_id: str
    """Of its newest episode in it."""
    start: float
    feature: str | None
    """The one that surprised most."""
    anomaly_score: float
    """Of that episode's peak so far; NaN where that is not known."""
    firing: bool
    """Whether it goes on, as of this event."""


@dataclass(frozen=True, slots=True)
class IncidentEvent:
    """What happened to many entities under one detector. Times are event times, seconds since 1970 UTC."""

    id: str
    """Unique per event and the same after a redelivery."""
    incident_id: str
    transition: Transition
    detector: str
    role: str
    version: str
    severity: str
    """The worst of its members."""
    time: float
    """Of the newest event of a member."""
    start: float
    """Of the member that began first."""
    end: float | None
    """When the last member resolved; None while firing."""
    expires_at: float | None
    """When the last of its members expires that nothing more is heard of; None when resolved."""
    entities: int
    """How many are or were in it."""
    firing: int
    """How many of their episodes go on."""
    members: tuple[IncidentMember, ...]
    """Those that came first, at most ``MEMBERS_LISTED``."""
    features: tuple[tuple[str, int], ...]
    """What surprised most, and in how many of the entities; commonest first."""
    labels: dict[str, str]
    """Those that all members have in common."""
    updated_because: UpdatedBecause | None
    """``severity``; ``spread``: more have joined; ``keep_alive``: nothing new; None unless updated."""
    source: Source
    """Where the first member's records are; with ``first_offset`` it says where the incident began."""
    first_offset: int
