"""Entities that stay restless after an incident: what has become usual for them is not news.

A level that has moved for good may look nearly normal, so that its incident ends as calm, while each of its
records is a little less probable than it was. Then the next one that is a little farther out would fire
again, and so on until the model is trained anew. So from the end of an incident on it is counted how many of
an entity's records have a p-value below .1: a tenth of them, if it is as it was. Where it is more than
a third its records have to be twice as surprising to fire; but more than .6 is no level that looks normal, it
is an incident that goes on after a pause. A long calm ends it, and after the next incident what was counted
before weighs little.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.blocks import teaching_weight
from detector.models.sequences import lagged, running_last, starts_of

FORGOTTEN_AFTER = 500.0
"""Calm records in a row, as ``teaching_weight`` counts them, after which nothing is left of an incident."""
RESTLESS_STATE = np.dtype(
    [
        ("followed", np.bool_),
        ("time", np.float64),
        ("surprising", np.float64),
        ("records", np.float64),
        ("calm", np.float64),
    ]
)
"""Whether an incident is not long over; then the time of the newest record, how many have been surprising
since, of how many, and how many have been calm at the end, all in weights."""
_SURPRISING = 0.1
_AS_BEFORE = 25.0
"""Records as they should be that every count begins with."""
_RESTLESS, _ILL, _ASKED = 0.32, 0.6, 2.0
"""Between which shares of surprising records surprise is divided, and by what."""

RestlessRows = NDArray[np.void]
"""Shape (E,), dtype RESTLESS_STATE."""


class Calm(NamedTuple):
    """What N records are that belong to no incident, in the light of the last one."""

    state: RestlessRows
    """After, shape (E,)."""
    divisor: FloatArray
    """Of the surprise of each row, >= 1, shape (N,)."""


def never_restless(n: int) -> RestlessRows:
    """Return the state of entities never seen, shape (n,)."""
    return np.zeros(n, RESTLESS_STATE)


def after_incident(before: RestlessRows, time: float) -> RestlessRows:
    """Return the state of entities whose incident is over with their record at a time, shape (E,)."""
    state = counted_anew(before)
    state["followed"], state["time"], state["calm"] = True, time, 0.0
    return state


def counted_anew(state: RestlessRows) -> RestlessRows:
    """Return the same with counts that weigh little beside what is seen from now on, shape (E,)."""
    carried = state.copy()
    share = np.minimum(1.0, _AS_BEFORE / np.maximum(state["records"], 1.0))
    # In 64ths still, as ``teaching_weight`` has them.
    for name in ("surprising", "records"):
        carried[name] = np.rint(64.0 * share * state[name]) / 64.0
    return carried


def divisor_of(state: RestlessRows) -> FloatArray:
    """Return what the surprise of each entity's next record is divided by, shape (E,)."""
    return _divisor(state["surprising"], state["records"])


def follow_calm(
    state: RestlessRows, p_value: FloatArray, is_calm: BoolArray, time: FloatArray, lengths: IntArray
) -> Calm:
    """Follow records that belong to no incident.

    Args:
        state: Before, shape (E,), all ``followed``.
        p_value: Shape (N,), entity after entity, each in time order.
        is_calm: Shape (N,), records that would end an alert.
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
    """
    starts = starts_of(lengths)
    ends = starts + lengths - 1
    entity = np.repeat(np.arange(len(lengths)), lengths)
    weight = teaching_weight(time - lagged(time, state["time"], starts))
    surprising = np.where(p_value < _SURPRISING, weight, 0.0)
    # Sums of 64ths are exact, so these have the same bits in any batch.
    records, n_surprising = np.cumsum(weight), np.cumsum(surprising)
    before = (records - weight)[starts]
    surprising_before = (n_surprising - surprising)[starts]
    seen = state["records"][entity] + records - before[entity]
    seen_surprising = state["surprising"][entity] + n_surprising - surprising_before[entity]
    last = running_last(~is_calm, starts, lengths)
    calm = np.where(last >= 0, records - records[last], state["calm"][entity] + records - before[entity])
    forgotten = running_last(calm >= FORGOTTEN_AFTER, starts, lengths) >= 0
    divisor = np.where(forgotten, 1.0, _divisor(seen_surprising - surprising, seen - weight))
    after = never_restless(len(lengths))
    goes_on = ~forgotten[ends]
    for name, column in (
        ("followed", goes_on),
        ("time", time[ends]),
        ("surprising", seen_surprising[ends]),
        ("records", seen[ends]),
        ("calm", calm[ends]),
    ):
        after[name] = np.where(goes_on, column, 0)
    return Calm(after, divisor)


def _divisor(surprising: FloatArray, records: FloatArray) -> FloatArray:
    share = (surprising + _AS_BEFORE * _SURPRISING) / (records + _AS_BEFORE)
    return np.asarray(np.where((share < _RESTLESS) | (share > _ILL), 1.0, _ASKED))
