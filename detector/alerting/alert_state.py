"""What the alert state machine remembers of entities, and the records that move it on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, FloatArray, IntArray

# What is remembered of an entity between batches. A stretch is one time of firing. A span is unbroken: at
# every record the entity was firing, or some of its last n records were suspicious, or an alert had resolved
# less than the cooldown ago. An alert is a span with one or more stretches.
ALERT_STATE = np.dtype(
    [
        ("suspicious", np.uint64),  # the last 64 records, newest in the lowest bit
        ("suspected_since", np.float64),  # time since when some of the last n always were
        ("calm_records", np.int64),
        ("severe", np.bool_),  # whether the newest record's score is a critical one, and ...
        ("severe_since", np.float64),  # ... since when all were
        ("released", np.bool_),  # from a lasting episode, and not calm since
        ("loud", np.bool_),  # since m of the last n records were suspicious, and ...
        ("loud_since", np.float64),
        ("quiet_since", np.float64),  # ... until a calm run or a release; -inf where nothing ever was loud
        ("away_since", np.float64),  # the first record a cooldown later; inf before it, -inf as above
        ("recurs", np.bool_),  # what was loud last: it began while an alert fired, or within its cooldown
        ("firing", np.bool_),
        ("fired_at", np.float64),  # of the stretch, as the next three
        ("fired_score", np.float64),  # the peak at that time
        ("rises", np.int64),  # how often its peak grew by another factor
        ("keep_alives", np.int64),
        ("records", np.int64),  # of the open span, as all that follows
        ("start", np.float64),
        ("first_offset", np.int64),
        ("stretches", np.int64),
        ("critical", np.bool_),
        ("told_severity", np.int64),  # another process told of it with that one of SEVERITIES; 0: none did
        ("surprise_nats", np.float64),
        ("peak", np.float64),
        ("peak_score", np.float64),
        ("peak_p_value", np.float64),
        ("peak_log_likelihood", np.float64),
        ("peak_member", np.int64),
        ("peak_too_likely", np.bool_),
        ("last_suspicious", np.float64),
    ]
)

StateRows = NDArray[np.void]
"""Shape (E,), dtype ALERT_STATE."""


class Scored(NamedTuple):
    """The scored records of a batch: N rows of E entities, entity after entity, each in time order."""

    time: FloatArray
    clock: FloatArray
    """Time less silence, which is what lasts is measured in."""
    offset: IntArray
    log_likelihood: FloatArray
    p_value: FloatArray
    anomaly_score: FloatArray
    member: IntArray
    """Which member of a committee was heard."""
    too_likely: BoolArray
    """Which side of surprise the p-value speaks of."""
    lengths: IntArray
    """Records of each entity, shape (E,), each >= 1."""


def replaced(state: StateRows, where: IntArray, new: StateRows) -> StateRows:
    """Return a copy of the rows with ``new`` at ``where``.

    take() and put() move structures whole; copy() and an index would do it field by field, many times slower.
    """
    rows = state.take(np.arange(len(state)))
    np.put(rows, where, new)
    return rows


def initial_alert_state(n: int) -> StateRows:
    """Return the state of entities never seen, shape (n,), dtype ALERT_STATE."""
    state = np.zeros(n, dtype=ALERT_STATE)
    state["quiet_since"] = state["away_since"] = -np.inf
    return state
