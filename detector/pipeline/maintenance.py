"""Records in maintenance are scored, against what their entities did before, and change next to nothing.

Inside a window nothing fires and nothing is learnt. An alert that is open when it begins is resolved. Each
record is compared with its entity's past up to the window, as if those between had not been; so neither do
records after the window follow from what was done inside. What had been noticed up to its beginning is
forgotten: averages of surprise begin at the usual ones, m of n and values that stay at nothing; a level that
has become normal stays so. Totals of counters alone are followed, so that the first rate after the window is
that of its own interval.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.alerting.aftermath import levels_kept
from detector.alerting.alert_state import initial_alert_state
from detector.batch import Batch, IntArray, Scores
from detector.models.sequences import lagged, runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, put, take
from detector.pipeline.events import resolved_by_maintenance
from detector.pipeline.run import Outcome, no_scores, run


def run_around(
    detector: Detector,
    state: EntityState,
    batch: Batch,
    order: IntArray,
    lengths: IntArray,
    kind: NDArray[np.int8],
) -> Outcome:
    """Do what ``pipeline.run`` does, with some of the records in maintenance.

    Args:
        detector: Model, rules and threshold.
        state: As for ``run``; it is not used afterwards.
        batch: N records.
        order: Rows of the batch, entity after entity, shape (N,).
        lengths: Records of each entity, shape (E,), each >= 1.
        kind: Of each record the kind of its window, values of ``OperatorRule``, 0 outside, shape (N,).
    """
    inside = kind[order] != 0
    starts = starts_of(lengths)
    entity = np.repeat(np.arange(len(lengths)), lengths)
    # An entity's records fall into stretches, by turns inside and outside: the nth of all of them together.
    turns = np.cumsum(inside != lagged(inside, inside[starts], starts))
    stretch = turns - turns[starts][entity]
    scores, events = no_scores(detector, len(batch)), []
    for nth in range(int(stretch.max()) + 1):
        for part_inside in (False, True):
            rows = np.flatnonzero((stretch == nth) & (inside == part_inside))
            if rows.size == 0:
                continue
            own = runs_of(entity[rows])
            of = entity[rows[starts_of(own)]]
            step = _inside if part_inside else run
            outcome = step(detector, take(state, of), batch, order[rows], own)
            put(state, of, outcome.state)
            scores = merged(scores, outcome.scores, order[rows])
            events += outcome.events
    rule = np.zeros(len(batch), dtype=np.int8) if scores.rule is None else scores.rule
    return Outcome(state, replace(scores, rule=np.where(kind != 0, kind, rule)), events)


def _inside(
    detector: Detector, state: EntityState, batch: Batch, order: IntArray, lengths: IntArray
) -> Outcome:
    """Score records in maintenance; arguments and answer as those of ``run``."""
    entity = np.repeat(np.arange(len(lengths)), lengths)
    in_time = batch.time[order] >= state.time[entity]
    scores = no_scores(detector, len(batch))
    order, entity = order[in_time], entity[in_time]
    if order.size == 0:
        return Outcome(state, scores, [])
    own = runs_of(entity)
    of = entity[starts_of(own)]
    before = take(state, of)
    anew = _noticed_nothing(detector, before)
    events = [
        resolved_by_maintenance(detector, batch, before, e, int(order[start]))
        for e, start in enumerate(starts_of(own).tolist())
        if before.alert["firing"][e]
    ]
    transforms = detector.model.transforms
    values, time = batch.values.take(order, axis=0), batch.time[order]
    # Every record by itself, so that none is seen in the light of another.
    each = replace(
        take(anew, np.repeat(np.arange(len(of)), own)),
        counters=transforms.remembered(anew.counters, values, time, own),
    )
    scored = run(detector, each, batch, order, np.ones(len(order), dtype=np.int64), decides=False)
    after = replace(anew, counters=transforms.rates(anew.counters, values, time, own)[1])
    return Outcome(put(state, of, after), scored.scores, events)


def _noticed_nothing(detector: Detector, state: EntityState) -> EntityState:
    """Return the state without what an alert may come of."""
    n = len(state.time)
    return replace(
        state,
        alert=initial_alert_state(n),
        aftermath=levels_kept(state.aftermath),
        average=tuple(member.initial_average(state.model) for member in detector.model.members),
        matters=np.full_like(state.matters, np.nan),
        stuck=np.full_like(state.stuck, np.nan),
        led_up=np.full(n, None),
    )


def merged(scores: Scores, part: Scores, rows: IntArray) -> Scores:
    """Write the rows of a part into the scores, in place, and return them."""
    for name in ("status", "log_likelihood", "p_value", "anomaly_score", "exceeds_threshold", "alert"):
        getattr(scores, name)[rows] = getattr(part, name)[rows]
    if part.rule is None:
        return scores
    rule = np.zeros(len(scores.status), dtype=np.int8) if scores.rule is None else scores.rule
    rule[rows] = part.rule[rows]
    return replace(scores, rule=rule)
