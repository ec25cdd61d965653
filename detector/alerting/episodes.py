"""The alert state machine: from anomaly scores to firing episodes, for all entities at once.

Whether an entity is loud is a latch: a record that completes m of n sets it, one that completes a calm run
clears it, and the newer of the two decides. What is loud fires; and what was loud again within its cooldown
goes on firing until it has stayed away for that long, since what comes and goes would wake people each time.
So the whole of a batch is a few array operations, nearly all of them over the few entities that are
suspicious or were lately, and only what is told is looked at one by one.
"""

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.alerting.alert_state import Scored, StateRows, initial_alert_state
from detector.alerting.rules import AlertRules
from detector.alerting.spans import Marks, Transition, follow_spans
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import lagged, running_last, running_maximum, starts_of

RISE = 1.5
"""A peak is told again when it reaches this times what was told at firing, this squared times, and so on."""
_RISES: FloatArray = np.power(RISE, np.arange(1.0, 60.0))

Bits = NDArray[np.uint64]
T = TypeVar("T", bound=np.generic)


class Decision(NamedTuple):
    """What the rules make of a batch."""

    state: StateRows
    """State after, shape (E,), dtype ALERT_STATE."""
    loud: BoolArray
    """Shape (N,), whether the record belongs to what fires, rather than to the calm until that is over."""
    transitions: list[Transition]
    """In row order."""


class FireOfEach(NamedTuple):
    """When episodes of E entities start, where they differ in that; see ``AlertRules``. Shape (E,) each."""

    m: IntArray
    of: IntArray
    for_s: FloatArray

    def take(self, entities: IntArray) -> "FireOfEach":
        return FireOfEach(self.m.take(entities), self.of.take(entities), self.for_s.take(entities))


def decide(
    state: StateRows, scored: Scored, rules: AlertRules, own_fire: FireOfEach | None = None
) -> Decision:
    """Run the state machine over a batch.

    Args:
        state: State before, shape (E,), dtype ALERT_STATE.
        scored: The batch's scored records.
        rules: When an episode starts, gets critical and ends, and what is told of it.
        own_fire: When it starts instead, for each entity; None: as ``rules`` have it for all.
    """
    lengths, starts = scored.lengths, starts_of(scored.lengths)
    ends = starts + lengths - 1
    after = state.take(np.arange(len(state)))
    suspicious = scored.anomaly_score >= 1.0
    calm_run = _calm_run(scored.anomaly_score < rules.resolve_below, state["calm_records"], starts, lengths)
    after["suspicious"] = _newest_bits(suspicious, state["suspicious"], starts, lengths)
    after["calm_records"] = calm_run[ends]

    loud = np.zeros(suspicious.size, dtype=bool)
    # The others have nothing open, and nothing begins.
    awake = state["firing"] | (state["records"] > 0) | state["released"]
    if suspicious.any():
        awake |= np.logical_or.reduceat(suspicious, starts)
    if not awake.any():
        return Decision(after, loud, [])
    entities, rows = np.flatnonzero(awake), np.flatnonzero(np.repeat(awake, lengths))
    part = Scored(
        scored.time.take(rows),
        scored.clock.take(rows),
        scored.offset.take(rows),
        scored.log_likelihood.take(rows),
        scored.p_value.take(rows),
        scored.anomaly_score.take(rows),
        scored.member.take(rows),
        scored.too_likely.take(rows),
        lengths.take(entities),
    )
    moved = after.take(entities)
    own_fire = None if own_fire is None else own_fire.take(entities)
    here = _decide_awake(moved, state.take(entities), part, calm_run.take(rows), rules, own_fire)
    np.put(after, entities, moved)
    loud[rows] = here.loud
    transitions = [t._replace(row=int(rows[t.row]), entity=int(entities[t.entity])) for t in here.transitions]
    return Decision(after, loud, transitions)


def count_episodes(anomaly_score: FloatArray, time: FloatArray, lengths: IntArray, rules: AlertRules) -> int:
    """Return how often ``decide`` would have fired over E runs of scored records.

    Again within the cooldown counts as well: people are told of it. And if it did not, a threshold that lets
    something fire at any time would look like one alert that never ends, the quietest of all.

    Args:
        anomaly_score: Shape (N,), entity after entity.
        time: Seconds, shape (N,), rising within each entity.
        lengths: Records of each entity, shape (E,), each >= 1.
        rules: As for ``decide``.
    """
    # After a calm run nothing is open, so the calm rows that follow it change nothing.
    starts, calm_run = starts_of(lengths), max(rules.resolve_records, rules.fire_of)
    last_loud = running_last(anomaly_score >= rules.resolve_below, starts, lengths)
    rows = np.flatnonzero((last_loud >= 0) & (np.arange(anomaly_score.size) - last_loud <= calm_run))
    anomaly_score, time = anomaly_score[rows], time[rows]
    lengths = np.diff(np.searchsorted(rows, starts), append=rows.size)
    lengths = lengths[lengths > 0]
    state = initial_alert_state(len(lengths))
    calm = _calm_run(anomaly_score < rules.resolve_below, state["calm_records"], starts_of(lengths), lengths)
    latch = _latch(state, anomaly_score, time, lengths, calm, rules)
    return int((latch.loud & ~latch.was_loud).sum())


class _Latch(NamedTuple):
    """Who is loud at each of N rows: from m of n suspicious records until a calm run, or a release."""

    in_window: BoolArray
    """Whether some of the last n are suspicious."""
    suspected_since: FloatArray
    loud: BoolArray
    was_loud: BoolArray
    """At the record before."""
    loud_since: FloatArray
    """Where loud."""
    released: BoolArray


def _latch(
    state: StateRows,
    anomaly_score: FloatArray,
    clock: FloatArray,
    lengths: IntArray,
    calm_run: IntArray,
    rules: AlertRules,
    own_fire: FireOfEach | None = None,
) -> _Latch:
    starts = starts_of(lengths)
    suspicious = anomaly_score >= 1.0
    m: int | IntArray = rules.fire_m
    of: int | IntArray = rules.fire_of
    for_s: float | FloatArray = rules.fire_for_s
    if own_fire is not None:
        m, of = np.repeat(own_fire.m, lengths), np.repeat(own_fire.of, lengths)
        for_s = np.repeat(own_fire.for_s, lengths)
    window = _window(suspicious, state["suspicious"], starts, lengths, of)
    in_window = window > 0
    seen = _lowest_bits(rules.fire_of if own_fire is None else own_fire.of)
    suspected_since = _since(
        in_window, (state["suspicious"] & seen) > 0, clock, state["suspected_since"], starts, lengths
    )
    fires = suspicious & (window >= m) & (clock - suspected_since >= for_s)
    resolves = calm_run >= rules.resolve_records
    last_fire = running_last(fires, starts, lengths)
    last_resolve = running_last(resolves, starts, lengths)
    untouched = (last_fire < 0) & (last_resolve < 0)
    loud = np.where(untouched, np.repeat(state["loud"], lengths), last_fire > last_resolve)
    loud_since = _since(loud, state["loud"], clock, state["loud_since"], starts, lengths)
    lasting = loud & (clock - loud_since > rules.release_after_s)
    released = lasting | (np.repeat(state["released"], lengths) & (last_resolve < 0))
    loud &= ~released
    was_loud = lagged(loud, state["loud"], starts)
    return _Latch(in_window, suspected_since, loud, was_loud, loud_since, released)


def _decide_awake(
    after: StateRows,
    state: StateRows,
    scored: Scored,
    calm_run: IntArray,
    rules: AlertRules,
    own_fire: FireOfEach | None,
) -> Decision:
    """Decide over entities of which something is open, or begins; writes into ``after``."""
    lengths, starts = scored.lengths, starts_of(scored.lengths)
    ends = starts + lengths - 1
    time, score = scored.time, scored.anomaly_score
    clock = scored.clock
    latch = _latch(state, score, clock, lengths, calm_run, rules, own_fire)
    gets_loud, gets_quiet = latch.loud & ~latch.was_loud, latch.was_loud & ~latch.loud
    quiet_since = _at_last(gets_quiet, time, state["quiet_since"], starts, lengths)
    # What came back once may come back again: it is over only when it has stayed away for the cooldown.
    stays_away = ~latch.loud & (time - quiet_since >= rules.cooldown_s)
    gets_away = stays_away & ~lagged(stays_away, ~state["loud"] & (state["away_since"] < np.inf), starts)
    away_since = _at_last(
        gets_quiet | gets_away, np.where(stays_away, time, np.inf), state["away_since"], starts, lengths
    )
    since_quiet = time - lagged(quiet_since, state["quiet_since"], starts)
    since_away = time - lagged(away_since, state["away_since"], starts)
    returns, stayed_away = since_quiet < rules.cooldown_s, since_away >= rules.cooldown_s
    # Between these two it recurs if it did the last time, and so was not over yet.
    recurs = _at_last(
        (gets_loud & (returns | stayed_away)) | (gets_quiet & latch.released),
        gets_loud & returns,
        state["recurs"],
        starts,
        lengths,
    )
    firing = latch.loud | (recurs & ~stays_away)
    since_resolved = np.where(lagged(recurs, state["recurs"], starts), since_away, since_quiet)
    cooled = since_resolved >= rules.cooldown_s
    resolved_at = np.where(recurs, away_since, quiet_since)
    cooling = ~firing & (time - resolved_at < rules.cooldown_s)
    was_firing = lagged(firing, state["firing"], starts)
    fired_at = _since(firing, state["firing"], time, state["fired_at"], starts, lengths)
    begins, resolves = firing & ~was_firing, was_firing & ~firing
    was_over = lagged(cooling | resolves, (state["stretches"] > 0) & ~state["firing"], starts)
    severed = was_over & cooled
    # What was suspicious before the last alert was over begins nothing.
    suspect, end = running_last(score >= 1.0, starts, lengths), running_last(severed, starts, lengths)
    pending = np.where((suspect < 0) & (end < 0), np.repeat(state["records"] > 0, lengths), suspect >= end)
    pending &= latch.in_window

    severe = score >= rules.critical_score
    severe_since = _since(severe, state["severe"], clock, state["severe_since"], starts, lengths)
    escalates = firing & severe & (clock - severe_since >= rules.critical_for_s)

    is_kept = (pending & ~resolves) | firing | cooling
    peak = _running_peak(score, lagged(is_kept, state["records"] > 0, starts) & ~severed, state, starts)
    fired_score = _at_last(begins, peak, state["fired_score"], starts, lengths)
    rises = np.zeros(score.size, dtype=np.int64)
    rises[firing] = np.searchsorted(_RISES, peak[firing] / fired_score[firing], side="right")
    keep_alives = np.where(firing, (time - fired_at) // rules.keep_alive_s, 0).astype(np.int64)
    goes_on = firing & was_firing
    marks = Marks(
        is_open=pending | firing | resolves | cooling,
        is_kept=is_kept,
        severed=severed,
        begins=begins,
        resolves=resolves,
        released=latch.released,
        escalates=escalates,
        rises=goes_on & (rises > lagged(rises, state["rises"], starts)),
        keeps_alive=goes_on & (keep_alives > lagged(keep_alives, state["keep_alives"], starts)),
    )
    for name, column in (
        ("suspected_since", latch.suspected_since),
        ("severe", severe),
        ("severe_since", severe_since),
        ("released", latch.released),
        ("loud", latch.loud),
        ("loud_since", latch.loud_since),
        ("quiet_since", quiet_since),
        ("away_since", away_since),
        ("recurs", recurs),
        ("firing", firing),
        ("fired_at", fired_at),
        ("fired_score", fired_score),
        ("rises", rises),
        ("keep_alives", keep_alives),
    ):
        after[name] = column[ends]
    return Decision(after, latch.loud, follow_spans(after, state, scored, marks))


def _lowest_bits(n: int | IntArray) -> Bits:
    """Return numbers with the lowest n bits set, 1 <= n <= 64."""
    return ~np.uint64(0) >> (64 - np.asarray(n)).astype(np.uint64)


def _window(
    suspicious: BoolArray, before: Bits, starts: IntArray, lengths: IntArray, n: int | IntArray
) -> IntArray:
    """Return how many of each record's last n, itself included, are suspicious; n may be shape (N,)."""
    position = np.arange(suspicious.size) - np.repeat(starts, lengths)
    count = suspicious.astype(np.int64)
    earlier = np.repeat(before, lengths)
    for back in range(1, int(np.max(n, initial=1))):
        inside = position >= back
        shifted = np.zeros_like(suspicious)
        shifted[back:] = suspicious[:-back] if back < suspicious.size else False
        bit = np.maximum(back - 1 - position, 0).astype(np.uint64)
        remembered = (earlier >> bit) & np.uint64(1)
        count += np.where(inside, shifted, remembered.astype(np.int64)) * (back < n)
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


def _since(
    marked: BoolArray,
    marked_before: BoolArray,
    time: FloatArray,
    before: FloatArray,
    starts: IntArray,
    lengths: IntArray,
) -> FloatArray:
    """Return for each marked row the time at which the unbroken run of marked rows up to it began."""
    return _at_last(marked & ~lagged(marked, marked_before, starts), time, before, starts, lengths)


def _at_last(
    marked: BoolArray, value: NDArray[T], before: NDArray[T], starts: IntArray, lengths: IntArray
) -> NDArray[T]:
    """Return the value at the last marked row up to each row; ``before`` (E,) where there is none yet."""
    last = running_last(marked, starts, lengths)
    return np.where(last >= 0, value[np.maximum(last, 0)], np.repeat(before, lengths))


def _running_peak(score: FloatArray, continues: BoolArray, state: StateRows, starts: IntArray) -> FloatArray:
    """Return the largest score of each row's span up to it; a row that continues is of its predecessor's."""
    known, begins = score.copy(), ~continues
    known[starts] = np.where(begins[starts], known[starts], np.maximum(known[starts], state["peak_score"]))
    begins[starts] = True
    return running_maximum(known, np.cumsum(begins))
