"""What was found: alert episodes held against labelled incidents.

An episode lasts from its first suspicious record to its last. Episodes of one entity with at most
``GAP_RECORDS`` records between them are one alarm. An incident is found by an alarm that overlaps it,
and counts once; an alarm that overlaps none is one false alarm.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

GAP_RECORDS = 10


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that really happened. Times are event times, seconds since 1970 UTC."""

    entity: str
    start: float
    """Of its first record."""
    end: float
    """Of its last record."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert episode of one entity under one detector."""

    entity: str
    start: float
    """Of the first suspicious record."""
    fired: float
    """Of the record at which the alert fired."""
    end: float
    """Of the last suspicious record, as far as is known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether an incident was found."""

    incident: Incident
    delay_s: float | None
    """From its first record to the alert, negative if that was firing already; None: missed."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One detector against the labels."""

    findings: tuple[Finding, ...]
    """One per incident, in the order given."""
    false_alarms: tuple[tuple[Episode, ...], ...]
    """Alarms that overlap no incident, each the episodes it consists of."""

    @property
    def found(self) -> int:
        """How many incidents were found."""
        return sum(finding.delay_s is not None for finding in self.findings)

    @property
    def fired_before(self) -> int:
        """How many of those found began under an alert that was firing already."""
        return sum(finding.delay_s is not None and finding.delay_s < 0 for finding in self.findings)

    @property
    def false_episodes(self) -> int:
        """Episodes in the false alarms: what a budget counts."""
        return sum(len(alarm) for alarm in self.false_alarms)


def evaluate(incidents: Sequence[Incident], episodes: Iterable[Episode], interval_s: float) -> Evaluation:
    """Hold one detector's episodes against the incidents.

    Args:
        incidents: What really happened while the detector watched.
        episodes: What it reported, in any order.
        interval_s: Time between two records of an entity.
    """
    merged = alarms(episodes, interval_s)
    findings = tuple(
        Finding(incident, _delay_s(incident, [alarm for alarm in merged if _overlaps(alarm, incident)]))
        for incident in incidents
    )
    false = tuple(
        tuple(alarm) for alarm in merged if not any(_overlaps(alarm, incident) for incident in incidents)
    )
    return Evaluation(findings, false)


def alarms(episodes: Iterable[Episode], interval_s: float) -> list[list[Episode]]:
    """Join episodes of one entity that lie close together, each alarm in time order."""
    longest_gap_s = (GAP_RECORDS + 1) * interval_s
    joined: list[list[Episode]] = []
    ordered = sorted(episodes, key=lambda episode: (episode.entity, episode.start))
    for _, of_entity in groupby(ordered, key=lambda episode: episode.entity):
        current: list[Episode] = []
        for episode in of_entity:
            if current and episode.start - max(e.end for e in current) > longest_gap_s:
                joined.append(current)
                current = []
            current.append(episode)
        joined.append(current)
    return joined


def _overlaps(alarm: Sequence[Episode], incident: Incident) -> bool:
    return (
        alarm[0].entity == incident.entity
        and alarm[0].start <= incident.end
        and max(episode.end for episode in alarm) >= incident.start
    )


def _delay_s(incident: Incident, overlapping: Sequence[Sequence[Episode]]) -> float | None:
    # An episode that was over before the incident began told nobody of it.
    fired = [e.fired for alarm in overlapping for e in alarm if e.end >= incident.start]
    return min(fired) - incident.start if fired else None
