"""An alert that another process told of, and that goes on here: its state, as its newest event has it.

What is not on the event begins anew: m of n, calm records, and how what follows compares with what was. The
first scored record tells that it goes on, so whoever waits for news of the alert has them.
"""

from typing import NamedTuple

import numpy as np

from detector.alerting.alert_state import StateRows, initial_alert_state
from detector.alerting.event import AlertEvent, Explained
from detector.alerting.rules import CRITICAL

_DUE = -1
"""Keep-alives told so far: fewer than the none that are due at once."""


class ToldAlert(NamedTuple):
    """What was told of an entity's newest alert under one detector."""

    newest: AlertEvent
    """Its newest event: what the entity sent up to its record, is decided."""
    fired_at: float
    """Of the stretch, seconds since 1970 UTC, or where that is not known the alert's start."""
    is_open: bool


def reopened_state(told: ToldAlert, members: list[str]) -> StateRows:
    """Return the alert state of an entity whose alert is open, shape (1,), dtype ALERT_STATE.

    Args:
        told: Of an alert that is open.
        members: Names of the detector's members now.
    """
    event, state = told.newest, initial_alert_state(1)
    for name, value in (
        ("firing", True),
        ("fired_at", told.fired_at),
        # From here on: it is told of again where it rises above what was told.
        ("fired_score", event.anomaly_score),
        ("keep_alives", _DUE),
        ("records", event.records),
        ("start", event.start),
        ("first_offset", event.first_offset),
        ("stretches", event.reopened + 1),
        ("critical", event.severity == CRITICAL),
        ("surprise_nats", event.surprise_nats),
        ("peak", event.peak),
        ("peak_score", event.anomaly_score),
        ("peak_p_value", event.p_value),
        ("peak_log_likelihood", event.log_likelihood),
        ("peak_member", members.index(event.member) if event.member in members else 0),
        ("peak_too_likely", event.side == "too_likely"),
        # Of those that are known to be suspicious.
        ("last_suspicious", event.peak),
    ):
        state[name] = np.asarray(value)
    return state


def explained_before(told: ToldAlert) -> Explained:
    """Return why the alert was raised, as it was told."""
    event = told.newest
    return Explained(event.explained, event.reasons, event.regime)
