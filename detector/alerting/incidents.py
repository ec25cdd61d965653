"""Incidents: episodes of many entities that begin together become one event with its members.

Independent false alarms coincide too: E entities that each fire b times per second start clusters of n
within a window W about E·b·P(Poisson(E·b·W) ≥ n − 1) times per second. An incident needs so many entities
that chance makes one less than once a year, and never fewer than the operator says. Time is event time.
"""

import uuid
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy.special import gammainc

from detector.alerting.event import AlertEvent, Transition, UpdatedBecause, shared_labels
from detector.alerting.incident_event import MEMBERS_LISTED, IncidentEvent, IncidentMember
from detector.alerting.reopened import ToldAlert
from detector.alerting.rules import SEVERITIES, IncidentRules
from detector.batch import Source

_FEATURES_LISTED = 5
_CHANCE_EVERY_S = 365 * 86_400.0
_UPDATED_EVERY_S = 60.0

_NAMESPACE = uuid.UUID("2f1d6f0e-7c3a-5d0b-8a51-9f0c2b7f4e90")


class _Origin(NamedTuple):
    """Where an incident began, and who says so."""

    entity: str
    detector: str
    role: str
    version: str
    source: Source
    first_offset: int


class _Firing(NamedTuple):
    entity: str
    lapses_s: float
    """When the episode is taken to be over unless more is heard of it."""


@dataclass(slots=True)
class _Incident:
    id: str
    first: _Origin
    start: float
    joined: float
    """When the newest member came that came with more others than chance brings together."""
    time: float
    severity: str
    labels: dict[str, str]
    members: dict[str, IncidentMember] = field(default_factory=dict)
    """By entity."""
    firing: dict[str, _Firing] = field(default_factory=dict)
    """By episode."""
    clock_s: float = -np.inf
    """The newest time that was read while it went on, on any partition."""
    lapses_s: float = np.inf
    """No member lapses before."""
    expires_at: float = -np.inf
    told_time: float = -np.inf
    told_entities: int = 0
    told_severity: str = ""
    reopened: int = 0
    """How often it was over and opened again."""
    lately: deque[float] = field(default_factory=deque)
    """When the newest members came."""


class _Begun(NamedTuple):
    episode: AlertEvent
    firing: bool


class _Elsewhere(NamedTuple):
    entity: str
    incident_id: str
    lasts_s: float
    """How long the episode goes on unless more is heard of it ..."""
    lapses_s: float = -np.inf
    """... which is until then; not known before records are read."""


@dataclass(frozen=True, slots=True)
class IncidentState:
    """What one detector remembers between batches; nothing while all is quiet."""

    recent: Mapping[str, _Begun] = field(default_factory=dict)
    """Episodes that began lately and belong to no incident, by id."""
    incident: _Incident | None = None
    """The one that goes on; without anybody firing, it waits for those who may still join."""
    over: _Incident | None = None
    """The last one that ended: a partition that is behind in time may still bring members of it."""
    elsewhere: Mapping[str, _Elsewhere] = field(default_factory=dict)
    """Episodes that belong to an incident of which another process tells, by id."""

    @property
    def waits(self) -> bool:
        """Whether time alone may end an incident: members may never be heard of again."""
        return self.incident is not None


class Grouped(NamedTuple):
    """What episodes became."""

    state: IncidentState
    incident_of: Mapping[str, str]
    """Incident by episode, for those of this call that belong to one."""
    events: list[IncidentEvent]


def group(
    state: IncidentState,
    episodes: Sequence[AlertEvent],
    rules: IncidentRules,
    entities: int,
    episodes_per_entity_s: float,
    now: float,
) -> Grouped:
    """Group the events of one detector's episodes.

    At most one incident goes on at a time: it takes whoever begins within ``rules.within_s`` of its newest
    members that came together with as many others as would make an incident. So it spreads as far as there is
    more to it than chance, and whoever begins later is told of by itself. It is over when all members are,
    and nobody may join any more. Somebody who began in its time and is read of later, opens it again. A
    member that nothing is heard of is over when its own alert expires, and one that had been open before when
    nothing of it was suspicious for ``rules.within_s``.

    Args:
        state: Before.
        episodes: Events of a batch, of entities in any order, each entity's in time order.
        rules: How many, within what time.
        entities: How many are watched.
        episodes_per_entity_s: Episodes that one entity's normal traffic has per second, by the budget.
        now: Event time of the newest record that was read.
    """
    recent = dict(state.recent)
    elsewhere = {
        id: of._replace(lapses_s=now + of.lasts_s) if np.isneginf(of.lapses_s) else of
        for id, of in state.elsewhere.items()
    }
    current, over = _copy(state.incident), state.over
    if current is not None:
        current.clock_s = max(current.clock_s, now)
    incident_of: dict[str, str] = {}
    events: list[IncidentEvent] = []
    fewest = fewest_entities(rules, entities, episodes_per_entity_s) if episodes else 0
    for episode in sorted(episodes, key=lambda event: event.time):
        id = episode.alert_id
        if current is not None:
            _lapse(current, episode.time)
        if episode.transition != "firing":
            resolves = episode.transition == "resolved"
            goes_on = not resolves and not _stays_away(episode, rules)
            if id in recent:
                recent[id] = _Begun(recent[id].episode, goes_on)
            elif current is not None and (id in current.firing or _was_in(current, episode)):
                incident_of[id] = current.id
                _noted(current, episode, firing=goes_on)
            elif over is not None and _was_in(over, episode):
                incident_of[id] = over.id
            elif id in elsewhere:
                of = elsewhere.pop(id)
                incident_of[id] = of.incident_id
                if not resolves:
                    elsewhere[id] = of._replace(lapses_s=max(of.lapses_s, now + _lasts_s(episode)))
            continue
        if current is not None and not current.firing and episode.time > current.joined + rules.within_s:
            events += _told(current, resolved=True)
            current, over = None, current
        if current is None and over is not None and _in_time_of(over, episode, rules):
            clock_s = max(over.clock_s, now)
            current, over = _copy(replace(over, reopened=over.reopened + 1, clock_s=clock_s)), None
        if current is not None and _was_in(current, episode):
            # The same alert, open again: no news of how far the incident spreads.
            _noted(current, episode, firing=True)
            incident_of[id] = current.id
            continue
        if current is not None and episode.time <= current.joined + rules.within_s:
            _join(current, episode, rules, fewest, firing=True)
            incident_of[id] = current.id
            continue
        recent[id] = _Begun(episode, True)
        recent = {
            key: begun for key, begun in recent.items() if begun.episode.time > episode.time - rules.within_s
        }
        if len({begun.episode.entity for begun in recent.values()}) < fewest:
            continue
        if current is None:
            current = _begin(next(iter(recent.values())).episode, now)
        for begun in recent.values():
            _join(current, begun.episode, rules, fewest, firing=begun.firing)
            incident_of[begun.episode.alert_id] = current.id
        recent = {}
    if current is not None:
        _lapse(current, current.clock_s)
    if current is not None and not current.firing and now > current.joined + rules.within_s:
        events += _told(current, resolved=True)
        current, over = None, current
    if current is not None:
        events += _told(current)
    here = {episode.alert_id for episode in episodes}
    return Grouped(
        IncidentState(recent, current, over, {id: of for id, of in elsewhere.items() if of.lapses_s > now}),
        {id: of for id, of in incident_of.items() if id in here},
        events,
    )


def forget(state: IncidentState, entities: Collection[str]) -> IncidentState:
    """Return the state without entities whose records somebody else reads now; nothing is told of them.

    Whoever reads where an incident began, tells of it.
    """
    if state == IncidentState():
        return state
    gone = frozenset(entities)
    recent = {id: begun for id, begun in state.recent.items() if begun.episode.entity not in gone}
    elsewhere = {id: of for id, of in state.elsewhere.items() if of.entity not in gone}
    current = _copy(state.incident)
    if current is not None and current.firing:
        current.firing = {id: of for id, of in current.firing.items() if of.entity not in gone}
        if current.first.entity in gone:
            now = max(current.clock_s, current.time)
            elsewhere |= {
                id: _Elsewhere(of.entity, current.id, of.lapses_s - now) for id, of in current.firing.items()
            }
            current = None
        elif not current.firing:
            current = None
    return IncidentState(recent, current, state.over, elsewhere)


def restore(
    state: IncidentState, incidents: Sequence[IncidentEvent], alerts: Sequence[ToldAlert]
) -> IncidentState:
    """Return the state with what another process told of entities that are read here from now on.

    Args:
        state: Before.
        incidents: The newest event of each that goes on and began here: from now on this process tells of it.
        alerts: Those that are open.
    """
    current, elsewhere = _copy(state.incident), dict(state.elsewhere)
    for told in incidents:
        if current is None:
            current = _restored(told)
    for alert in alerts:
        episode = alert.newest
        # Who began before it was known to be an incident, does not say so.
        if current is not None and (episode.incident_id == current.id or _was_in(current, episode)):
            _heard(current, episode)
            began = alert.fired_at if episode.reopened else episode.start
            current.members[episode.entity] = _member(episode, began)
            current.joined = max(current.joined, began)
        elif episode.incident_id is not None:
            of = _Elsewhere(episode.entity, episode.incident_id, _lasts_s(episode))
            elsewhere[episode.alert_id] = of
    if current is not None:
        for id, of in list(elsewhere.items()):
            if of.incident_id == current.id:
                _goes_on(current, id, of.entity, current.expires_at)
                del elsewhere[id]
    return IncidentState(state.recent, current, state.over, elsewhere)


def fewest_entities(rules: IncidentRules, entities: int, episodes_per_entity_s: float) -> int:
    """Return how many entities it takes that chance makes an incident less than once a year."""
    rate = entities * episodes_per_entity_s
    expected = rate * rules.within_s
    counts = np.arange(rules.entities, rules.entities + int(expected + 20 * np.sqrt(expected)) + 20)
    # The regularised gamma function is P(Poisson(expected) >= n - 1).
    clusters = rate * _CHANCE_EVERY_S * gammainc(np.maximum(counts - 1, 1), expected)
    return int(counts[int(np.argmax(clusters <= 1.0))])


def _begin(first: AlertEvent, now: float) -> _Incident:
    id = str(uuid.uuid5(_NAMESPACE, first.alert_id))
    origin = _Origin(
        first.entity, first.detector, first.role, first.version, first.source, first.first_offset
    )
    labels = dict(first.labels)
    return _Incident(id, origin, _began(first), first.time, first.time, first.severity, labels, clock_s=now)


def _restored(told: IncidentEvent) -> _Incident:
    members = {member.entity: member for member in told.members}
    first = told.members[0].entity if told.members else ""
    return _Incident(
        told.incident_id,
        _Origin(first, told.detector, told.role, told.version, told.source, told.first_offset),
        told.start,
        max((member.start for member in told.members), default=told.start),
        told.time,
        told.severity,
        dict(told.labels),
        members,
        expires_at=-np.inf if told.expires_at is None else told.expires_at,
        told_time=told.time,
        told_entities=told.entities,
        told_severity=told.severity,
    )


def _began(fired: AlertEvent) -> float:
    """Return when the episode that fires began: the start of an alert that is open again was long before."""
    return fired.time if fired.reopened else fired.start


def _member(episode: AlertEvent, began: float) -> IncidentMember:
    score, feature = episode.anomaly_score, _cause(episode)
    return IncidentMember(episode.entity, episode.alert_id, began, feature, score, firing=True)


def _cause(episode: AlertEvent) -> str | None:
    return episode.reasons[0].feature if episode.reasons else None


def _join(
    incident: _Incident, episode: AlertEvent, rules: IncidentRules, fewest: int, *, firing: bool
) -> None:
    began = _began(episode)
    incident.members[episode.entity] = _member(episode, began)
    incident.start = min(incident.start, began)
    incident.lately.append(episode.time)
    while incident.lately[0] <= episode.time - rules.within_s:
        incident.lately.popleft()
    if len(incident.lately) >= fewest:
        incident.joined = max(incident.joined, episode.time)
    incident.labels = shared_labels([incident.labels, episode.labels])
    _noted(incident, episode, firing=firing)


def _was_in(incident: _Incident, episode: AlertEvent) -> bool:
    member = incident.members.get(episode.entity)
    return member is not None and member.alert_id == episode.alert_id


def _stays_away(episode: AlertEvent, rules: IncidentRules) -> bool:
    """Return whether an alert that is open again only waits for whether it comes back once more."""
    return episode.reopened > 0 and episode.time - episode.last_suspicious > rules.within_s


def _in_time_of(incident: _Incident, episode: AlertEvent, rules: IncidentRules) -> bool:
    return incident.start - rules.within_s <= episode.time <= incident.joined + rules.within_s


def _goes_on(incident: _Incident, id: str, entity: str, lapses_s: float) -> None:
    incident.firing[id] = _Firing(entity, lapses_s)
    incident.lapses_s = min(incident.lapses_s, lapses_s)


def _heard(incident: _Incident, episode: AlertEvent) -> None:
    """Take an episode to go on until it expires; on a partition that is behind it has as long as others."""
    expires_at = np.inf if episode.expires_at is None else episode.expires_at
    behind_s = max(incident.clock_s - episode.time, 0.0)
    _goes_on(incident, episode.alert_id, episode.entity, expires_at + behind_s)


def _lasts_s(episode: AlertEvent) -> float:
    """Return how long an episode goes on after this event of it unless more is heard of it."""
    return np.inf if episode.expires_at is None else episode.expires_at - episode.time


def _lapse(incident: _Incident, time_s: float) -> None:
    """Take members to be over that nothing was heard of for too long."""
    if time_s >= incident.lapses_s:
        incident.firing = {id: of for id, of in incident.firing.items() if of.lapses_s > time_s}
        incident.lapses_s = min((of.lapses_s for of in incident.firing.values()), default=np.inf)


def _noted(incident: _Incident, episode: AlertEvent, *, firing: bool) -> None:
    incident.time = max(incident.time, episode.time)
    if episode.expires_at is not None:
        incident.expires_at = max(incident.expires_at, episode.expires_at)
    incident.severity = max(incident.severity, episode.severity, key=_rank)
    if _was_in(incident, episode):
        member = incident.members[episode.entity]
        incident.members[episode.entity] = member._replace(
            feature=_cause(episode), anomaly_score=episode.anomaly_score
        )
    if firing:
        _heard(incident, episode)
    else:
        incident.firing.pop(episode.alert_id, None)


def _told(incident: _Incident, *, resolved: bool = False) -> list[IncidentEvent]:
    """Return the event of what is not told yet, if it is time: few of them, however many members join."""
    first = not incident.told_entities
    due = (
        first
        or incident.severity != incident.told_severity
        or len(incident.members) >= 2 * incident.told_entities
        or incident.time >= incident.told_time + _UPDATED_EVERY_S
    )
    events = []
    if due and (first or not resolved):
        events.append(_event(incident, "firing") if first else _event(incident, "updated", _news(incident)))
        incident.told_time, incident.told_severity = incident.time, incident.severity
        incident.told_entities = len(incident.members)
    if resolved:
        events.append(_event(incident, "resolved"))
    return events


def _news(incident: _Incident) -> UpdatedBecause:
    if incident.severity != incident.told_severity:
        return "severity"
    return "spread" if len(incident.members) > incident.told_entities else "keep_alive"


def _event(
    incident: _Incident, transition: Transition, updated_because: UpdatedBecause | None = None
) -> IncidentEvent:
    first, members = incident.first, list(incident.members.values())
    features = Counter(member.feature for member in members if member.feature is not None)
    # Who is read of late changes what is told, but not the time of the newest event.
    entities = max(len(members), incident.told_entities)
    told = f"|{incident.time}|{entities}|{incident.severity}|{incident.reopened}"
    again = "" if transition == "firing" else told
    return IncidentEvent(
        id=str(uuid.uuid5(_NAMESPACE, f"{incident.id}|{transition}{again}")),
        incident_id=incident.id,
        transition=transition,
        detector=first.detector,
        role=first.role,
        version=first.version,
        severity=incident.severity,
        time=incident.time,
        start=incident.start,
        end=incident.time if transition == "resolved" else None,
        expires_at=None if transition == "resolved" else incident.expires_at,
        # Of one that another process began, not every member may be known.
        entities=entities,
        firing=len(incident.firing),
        members=tuple(
            member._replace(firing=member.alert_id in incident.firing) for member in members[:MEMBERS_LISTED]
        ),
        features=tuple(features.most_common(_FEATURES_LISTED)),
        labels=dict(incident.labels),
        updated_because=updated_because,
        source=first.source,
        first_offset=first.first_offset,
    )


def _copy(incident: _Incident | None) -> _Incident | None:
    if incident is None:
        return None
    return replace(
        incident,
        members=dict(incident.members),
        firing=dict(incident.firing),
        lately=deque(incident.lately),
    )


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
