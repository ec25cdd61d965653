"""An alert that another process told of: the state that its newest event left, as far as the event says.

An open one goes on, and the first scored record tells so, for whoever waits for news of it. One that is over
is the same alert again if it fires within its cooldown. One that ended as the new normal leaves a level that
is normal still. What is not on the event begins anew: m of n, calm records, and how what follows compares
with what was.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.alerting.alert_state import StateRows, initial_alert_state
from detector.alerting.event import AlertEvent, Explained
from detector.alerting.rules import CRITICAL, SEVERITIES, AlertRules

_DUE = -1
"""Keep-alives told so far: fewer than the none that are due at once."""


class ToldAlert(NamedTuple):
    """What was told of an entity's newest alert under one detector."""

    newest: AlertEvent
    """Its newest event: what the entity sent up to its record, is decided."""
    fired_at: float
    """Of the stretch, seconds since 1970 UTC, or where that is not known the alert's start."""
    is_open: bool

    def bears_on(self, time: float, rules: AlertRules) -> bool:
        """Whether it says anything of what the entity does at a time, seconds since 1970 UTC.

        A level that is normal now is known for as long as it took to become so, and no longer: whether the
        entity has been calm since is told to nobody, and an incident must not be taken for that level.
        """
        over_s = time - self.newest.time
        match self.newest.resolved_because:
            case "calm":
                return over_s < rules.cooldown_s
            case "new_normal":
                return over_s < rules.release_after_s
        return self.is_open


def reopened_state(told: ToldAlert, members: Sequence[str]) -> StateRows:
    """Return the alert state of an entity after an event, shape (1,), dtype ALERT_STATE.

    Args:
        told: Of an alert that is open, or that is over.
        members: Names of members by number, that of the peak among them.
    """
    event, state = told.newest, initial_alert_state(1)
    for name, value in (
        ("loud", told.is_open),
        # What came back may have been calm since it fired: when is not told.
        ("loud_since", event.time if event.reopened else told.fired_at),
        ("quiet_since", -np.inf if told.is_open else event.time),
        ("recurs", told.is_open and event.reopened > 0),
        ("firing", told.is_open),
        ("released", event.resolved_because == "new_normal"),
        ("fired_at", told.fired_at),
        # From here on: it is told of again where it rises above what was told.
        ("fired_score", event.anomaly_score),
        ("keep_alives", _DUE),
        ("records", event.records),
        ("start", event.start),
        ("first_offset", event.first_offset),
        ("stretches", event.reopened + 1),
        ("critical", event.severity == CRITICAL),
        ("told_severity", SEVERITIES.index(event.severity)),
        ("surprise_nats", event.surprise_nats),
        ("peak", event.peak),
        ("peak_score", event.anomaly_score),
        ("peak_p_value", event.p_value),
        ("peak_log_likelihood", event.log_likelihood),
        ("peak_member", members.index(event.member)),
        ("peak_too_likely", event.side == "too_likely"),
        ("last_suspicious", event.last_suspicious),
    ):
        state[name] = np.asarray(value)
    return state


def explained_before(told: ToldAlert) -> Explained:
    """Return why the alert was raised, as it was told."""
    event = told.newest
    return Explained(event.explained, event.reasons, event.regime)
