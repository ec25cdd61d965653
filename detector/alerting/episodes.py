"""The alert state machine: from anomaly scores to firing episodes, for all entities at once.

Whether an entity is firing is a latch: a record that completes m of n sets it, one that completes a calm run
clears it, and the newer of the two decides. So the whole of a batch is a few array operations, and only
transitions, which are rare, are looked at one by one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.rules import AlertRules
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import lagged, running_last, starts_of

# What is remembered of an entity between batches. A span is an unbroken stretch in which the entity was
# firing or some of its last n records were suspicious; an episode is the part of a span from its start on.
ALERT_STATE = np.dtype(
    [
        ("suspicious", np.uint64),  # the last 64 records, newest in the lowest bit
        ("calm_records", np.int64),
        ("firing", np.bool_),
        ("fired_at", np.float64),
        ("released", np.bool_),  # from a lasting episode, and not calm since
        ("records", np.int64),  # of the open span, as all that follows
        ("start", np.float64),
        ("first_offset", np.int64),
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


_SPAN_FIELDS = (
    "records",
    "start",
    "first_offset",
    "surprise_nats",
    "peak",
    "peak_score",
    "peak_p_value",
    "peak_log_likelihood",
    "peak_member",
    "peak_too_likely",
    "last_suspicious",
)

Bits = NDArray[np.uint64]
StateRows = NDArray[np.void]
"""Shape (E,), dtype ALERT_STATE."""


class Scored(NamedTuple):
    """The scored records of a batch: N rows of E entities, entity after entity, each in time order."""

    time: FloatArray
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


@dataclass(frozen=True, slots=True)
class Transition:
    """An episode starts firing, or resolves, at ``row``."""

    row: int
    entity: int
    """Index into the E entities."""
    fires: bool
    released: bool
    """Whether it resolves for having lasted too long."""
    span: np.void
    """What is known of it so far, the fields of ALERT_STATE."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules make of a batch."""

    state: StateRows
    """State after, shape (E,), dtype ALERT_STATE."""
    firing: BoolArray
    """Shape (N,), whether the record lies inside a firing episode."""
    transitions: list[Transition]
    """In row order."""


def initial_alert_state(n: int) -> StateRows:
    """Return the state of entities never seen, shape (n,), dtype ALERT_STATE."""
    return np.zeros(n, dtype=ALERT_STATE)


def decide(state: StateRows, scored: Scored, rules: AlertRules) -> Decision:
    """Run the state machine over a batch.

    Args:
        state: State before, shape (E,), dtype ALERT_STATE.
        scored: The batch's scored records.
        rules: m of n, and hysteresis.
    """
    lengths, starts = scored.lengths, starts_of(scored.lengths)
    after = state.copy()
    suspicious = scored.anomaly_score >= 1.0
    window = _window(suspicious, state["suspicious"], starts, lengths, rules.fire_of)
    calm_run = _calm_run(scored.anomaly_score < rules.resolve_below, state["calm_records"], starts, lengths)
    ends = starts + lengths - 1
    after["suspicious"] = _newest_bits(suspicious, state["suspicious"], starts, lengths)
    after["calm_records"] = calm_run[ends]

    fires = suspicious & (window >= rules.fire_m)
    resolves = calm_run >= rules.resolve_records
    idle = not (suspicious.any() or state["firing"].any() or (state["records"] > 0).any())
    if idle and not state["released"].any():
        return Decision(after, np.zeros(suspicious.size, dtype=bool), [])

    last_fire = running_last(fires, starts, lengths)
    last_resolve = running_last(resolves, starts, lengths)
    untouched = (last_fire < 0) & (last_resolve < 0)
    firing = np.where(untouched, np.repeat(state["firing"], lengths), last_fire > last_resolve)
    fired_at = _fired_at(firing, state, scored.time, starts, lengths)
    lasting = firing & (scored.time - fired_at > rules.release_after_s)
    released = lasting | (np.repeat(state["released"], lengths) & (last_resolve < 0))
    firing &= ~released
    transitions = _spans(after, state, scored, suspicious, window > 0, firing, released)
    after["firing"], after["fired_at"], after["released"] = firing[ends], fired_at[ends], released[ends]
    return Decision(after, firing, transitions)


def count_episodes(anomaly_score: FloatArray, lengths: IntArray, rules: AlertRules) -> int:
    """Return how many episodes would have fired over E runs of scored records."""
    starts = starts_of(lengths)
    nothing = np.zeros(len(lengths), dtype=np.int64)
    suspicious = anomaly_score >= 1.0
    window = _window(suspicious, nothing.astype(np.uint64), starts, lengths, rules.fire_of)
    calm_run = _calm_run(anomaly_score < rules.resolve_below, nothing, starts, lengths)
    last_fire = running_last(suspicious & (window >= rules.fire_m), starts, lengths)
    last_resolve = running_last(calm_run >= rules.resolve_records, starts, lengths)
    firing = last_fire > last_resolve
    return int((firing & ~_previous(firing, nothing > 0, starts)).sum())


def _window(suspicious: BoolArray, before: Bits, starts: IntArray, lengths: IntArray, n: int) -> IntArray:
    """Return how many of each record's last n, itself included, are suspicious."""
    position = np.arange(suspicious.size) - np.repeat(starts, lengths)
    count = suspicious.astype(np.int64)
    earlier = np.repeat(before, lengths)
    for back in range(1, n):
        inside = position >= back
        shifted = np.zeros_like(suspicious)
        shifted[back:] = suspicious[:-back] if back < suspicious.size else False
        bit = np.maximum(back - 1 - position, 0).astype(np.uint64)
        remembered = (earlier >> bit) & np.uint64(1)
        count += np.where(inside, shifted, remembered.astype(np.int64))
    return count


def _newest_bits(suspicious: BoolArray, before: Bits, starts: IntArray, lengths: IntArray) -> Bits:
    """Return the last 64 records of each entity as bits, newest lowest."""
    shift = np.minimum(lengths, 63).astype(np.uint64)
    bits = np.where(lengths > 63, np.uint64(0), before << shift)
    rows = np.flatnonzero(suspicious)
    if rows.size:
        entity = np.repeat(np.arange(len(lengths)), lengths)[rows]
        age = starts[entity] + lengths[entity] - 1 - rows
        recent = age < 64
        np.bitwise_or.at(bits, entity[recent], np.uint64(1) << age[recent].astype(np.uint64))
    return bits


def _calm_run(calm: BoolArray, before: IntArray, starts: IntArray, lengths: IntArray) -> IntArray:
    """Return the length of the run of calm records that ends at each row."""
    last_loud = running_last(~calm, starts, lengths)
    row = np.arange(calm.size)
    since_start = row - np.repeat(starts, lengths) + 1
    return np.where(last_loud >= 0, row - last_loud, since_start + np.repeat(before, lengths))


def _spans(
    after: StateRows,
    state: StateRows,
    scored: Scored,
    suspicious: BoolArray,
    in_window: BoolArray,
    firing: BoolArray,
    released: BoolArray,
) -> list[Transition]:
    """Write the open spans into ``after`` and return the transitions."""
    starts = starts_of(scored.lengths)
    entity = np.repeat(np.arange(len(starts)), scored.lengths)
    was_firing = _previous(firing, state["firing"], starts)
    closes = was_firing & ~firing
    is_open = in_window | firing | was_firing
    rows = np.flatnonzero(is_open)
    for name in _SPAN_FIELDS:
        after[name] = 0
    if rows.size == 0:
        return []

    continues = _previous(is_open & ~closes, state["records"] > 0, starts)
    # A group is the part of one span that lies in this batch; the first of an entity may go on from before.
    first = np.flatnonzero(~continues[rows] | np.isin(rows, starts))
    before = state[entity[rows[first]]]
    before[~continues[rows[first]]] = np.zeros(1, dtype=ALERT_STATE)
    spans = _extend(before, scored, suspicious, rows, first)

    transitions = []
    for row in np.flatnonzero(firing != was_firing):
        position = int(np.searchsorted(rows, row))
        group = int(np.searchsorted(first, position, side="right")) - 1
        so_far = rows[first[group] : position + 1]
        span = _extend(before[group : group + 1], scored, suspicious, so_far, np.zeros(1, dtype=np.int64))[0]
        transitions.append(
            Transition(int(row), int(entity[row]), bool(firing[row]), bool(released[row]), span)
        )

    last_rows = starts + scored.lengths - 1
    still_open = np.flatnonzero((is_open & ~closes)[last_rows])
    group_of = np.searchsorted(first, np.searchsorted(rows, last_rows[still_open]), side="right") - 1
    for name in _SPAN_FIELDS:
        after[name][still_open] = spans[name][group_of]
    return transitions


def _fired_at(
    firing: BoolArray, state: StateRows, time: FloatArray, starts: IntArray, lengths: IntArray
) -> FloatArray:
    """Return for each firing row when its episode began to fire."""
    begins = firing & ~_previous(firing, state["firing"], starts)
    last = running_last(begins, starts, lengths)
    return np.where(last >= 0, time[np.maximum(last, 0)], np.repeat(state["fired_at"], lengths))


def _extend(
    before: StateRows, scored: Scored, suspicious: BoolArray, rows: IntArray, first: IntArray
) -> StateRows:
    """Add records to spans: ``rows`` fall into one group per span, which begin at ``first``."""
    spans = before.copy()
    new = spans["records"] == 0
    sizes = np.diff(np.concatenate((first, [rows.size])))
    head = rows[first]
    spans["records"] += sizes
    spans["start"] = np.where(new, scored.time[head], spans["start"])
    spans["first_offset"] = np.where(new, scored.offset[head], spans["first_offset"])

    guilty = suspicious[rows]
    nats = np.where(guilty, -np.log(scored.p_value[rows]), 0.0)
    spans["surprise_nats"] += np.add.reduceat(nats, first)
    when = np.maximum.reduceat(np.where(guilty, scored.time[rows], -np.inf), first)
    spans["last_suspicious"] = np.where(np.isfinite(when), when, spans["last_suspicious"])

    score = scored.anomaly_score[rows]
    highest = np.maximum.reduceat(score, first)
    at_peak = np.where(score == np.repeat(highest, sizes), np.arange(rows.size), rows.size)
    peak = rows[np.minimum.reduceat(at_peak, first)]
    higher = new | (highest > spans["peak_score"])
    for name, column in (
        ("peak", scored.time),
        ("peak_score", scored.anomaly_score),
        ("peak_p_value", scored.p_value),
        ("peak_log_likelihood", scored.log_likelihood),
        ("peak_member", scored.member),
        ("peak_too_likely", scored.too_likely),
    ):
        spans[name] = np.where(higher, column[peak], spans[name])
    return spans


def _previous(marked: BoolArray, before: BoolArray, starts: IntArray) -> BoolArray:
    """Return each row's predecessor within its entity: ``before`` (E,) at the first."""
    return lagged(marked, before, starts)
