"""What is told of an alert: each of its transitions as an event."""

from typing import Literal

import numpy as np

from detector.alerting.event import (
    AlertEvent,
    Explained,
    ResolvedBecause,
    UpdatedBecause,
    alert_id,
    event_id,
    expires_at,
)
from detector.alerting.rules import CRITICAL, INFO, SEVERITIES
from detector.alerting.spans import Told, Transition
from detector.batch import Batch
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState

_UPDATES: dict[Told, UpdatedBecause] = {
    "escalated": "severity",
    "rose": "peak",
    "moved": "feature",
    "kept_alive": "keep_alive",
}
_ENDS: dict[Told, ResolvedBecause] = {
    "resolved": "calm",
    "released": "new_normal",
    "interrupted": "maintenance",
    "muted": "muted",
}


def without_old_severity(transition: Transition, severity: str) -> Transition:
    """Return a transition as it is told of: an alert that was as severe before does not get so.

    Args:
        transition: As the rules have it.
        severity: That the entity's alerts have at first.
    """
    span = transition.span
    if transition.told != "escalated" or _reached(span, severity) != SEVERITIES[_told_before(span, severity)]:
        return transition
    return transition._replace(told="rose" if transition.explained else "kept_alive")


def event_of(
    detector: Detector,
    batch: Batch,
    transition: Transition,
    at: int,
    explained: Explained,
    severity: str,
    usual_s: float,
) -> AlertEvent:
    """Return what is told at row ``at`` of the batch.

    Args:
        detector: Whose alert it is.
        batch: With the record that leads to it.
        transition: What happened.
        at: Row of the record.
        explained: Why the alert was raised.
        severity: That the entity's alerts have at first.
        usual_s: Usual time between two records of the entity, seconds.
    """
    span, told = transition.span, transition.told
    source, entity = batch.sources[int(batch.source[at])], batch.entity[at]
    time, offset = float(batch.time[at]), int(batch.offset[at])
    alert = alert_id(source, int(span["first_offset"]), detector.name, entity)
    kind: Literal["firing", "updated", "resolved"] = (
        "firing" if told == "firing" else "resolved" if told in _ENDS else "updated"
    )
    over = kind == "resolved"
    p_value = float(span["peak_p_value"])
    return AlertEvent(
        id=event_id(alert, kind, offset),
        alert_id=alert,
        transition=kind,
        detector=detector.name,
        role=detector.role,
        version=detector.version,
        entity=entity,
        severity=_reached(span, severity),
        reopened=int(span["stretches"]) - 1,
        time=time,
        expires_at=None if over else expires_at(time, detector.rules.keep_alive_s, usual_s),
        start=float(span["start"]),
        peak=float(span["peak"]),
        end=float(span["last_suspicious"]) if over else None,
        last_suspicious=float(span["last_suspicious"]),
        records=int(span["records"]),
        surprise_nats=float(span["surprise_nats"]),
        p_value=p_value,
        anomaly_score=float(span["peak_score"]),
        log_likelihood=float(span["peak_log_likelihood"]),
        return_period_s=detector.interval_s / p_value,
        side="too_likely" if span["peak_too_likely"] else "unlikely",
        member=detector.member_names[int(span["peak_member"])],
        explained=explained.time,
        reasons=explained.reasons,
        regime=explained.regime,
        labels={name: value for name, column in batch.labels.items() if (value := column[at]) is not None},
        updated_because=_UPDATES.get(told),
        resolved_because=_ENDS.get(told),
        source=source,
        first_offset=int(span["first_offset"]),
        last_offset=offset,
    )


def resolved_by_maintenance(
    detector: Detector, batch: Batch, state: EntityState, e: int, at: int
) -> AlertEvent:
    """Return the end of the alert that entity e's state has open, because of row ``at`` of the batch."""
    return _cut_off(detector, batch, state, e, at, "interrupted")


def resolved_by_mute(detector: Detector, batch: Batch, state: EntityState, e: int, at: int) -> AlertEvent:
    """Return the same where nothing fires of the entity any more."""
    return _cut_off(detector, batch, state, e, at, "muted")


def _cut_off(detector: Detector, batch: Batch, state: EntityState, e: int, at: int, told: Told) -> AlertEvent:
    transition = Transition(at, e, told, explained=False, span=state.alert[e])
    severity = severity_of(detector, state.override[e])
    return event_of(detector, batch, transition, at, state.explained[e], severity, detector.interval_s)


def severity_of(detector: Detector, override: int) -> str:
    """Return the severity of an entity's alerts at first, by its override."""
    severity = detector.rules.severity
    return severity if detector.entity_rules is None else detector.entity_rules.severity(override, severity)


def _reached(span: np.void, severity: str) -> str:
    """Return how severe an alert is by now; who asks for information alone does not expect to be woken."""
    critical = span["critical"] and severity != INFO
    return CRITICAL if critical else SEVERITIES[_told_before(span, severity)]


def _told_before(span: np.void, severity: str) -> int:
    """Return how severe an alert is without what its records showed, as an index into SEVERITIES."""
    return max(SEVERITIES.index(severity), int(span["told_severity"]))
