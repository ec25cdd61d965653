"""Score, decide, learn: the one path of a batch in daemon, backtest and calibration.

Records are laid out entity after entity, each in time order, so that a batch of many entities and a backlog
of few take the same few array operations. What is learnt from records (levels, sketches of tails, thresholds
of entities) shows at records that an entity's own past decides, never at the edge of a batch: so a row's
numbers have the same bits in any batch.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detector.alerting.aftermath import Compared, judge_aftermath
from detector.alerting.alert_state import Scored, initial_alert_state, replaced
from detector.alerting.echo import with_echo
from detector.alerting.episodes import decide
from detector.alerting.event import (
    AlertEvent,
)
from detector.batch import RAISING, Batch, BoolArray, FloatArray, IntArray, Scores, Status
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, put, take
from detector.pipeline.events import event_of, resolved_by_mute, severity_of, without_old_severity
from detector.pipeline.leads import Leads
from detector.pipeline.operator_rules import ruled
from detector.pipeline.reasons import Explainer, averages_surprise
from detector.pipeline.rows import Rows, Said, rows_of, score
from detector.scoring.arrival import refused


class Outcome(NamedTuple):
    """What a batch led to."""

    state: EntityState
    scores: Scores
    events: list[AlertEvent]


def run(
    detector: Detector,
    state: EntityState,
    batch: Batch,
    order: IntArray,
    lengths: IntArray,
    *,
    decides: bool = True,
) -> Outcome:
    """Score a batch, decide, and move the state on.

    Args:
        detector: Model, rules and threshold.
        state: Of the E entities in the batch, in the order in which ``order`` lists them; it stays as it is.
        batch: N records with the model's features as columns.
        order: Shape (N,), rows of the batch entity after entity, each entity's as they arrived.
        lengths: Records of each entity, shape (E,), each >= 1.
        decides: Whether alerts may come of it, and thresholds be steered by it.
    """
    time = batch.time[order]
    unused = refused(time, batch.values, order, state.time, state.values, lengths)
    kept = order
    kept_lengths = lengths
    present = np.ones(len(lengths), dtype=bool)
    if unused is not None:
        counts = unused == Status.SCORED
        kept = order[counts]
        kept_lengths = np.add.reduceat(counts, starts_of(lengths)).astype(np.int64)
        present = kept_lengths > 0
        kept_lengths = kept_lengths[present]
    before = take(state, np.flatnonzero(present)) if unused is not None else state
    transforms = detector.model.transforms
    events: list[AlertEvent] = []
    if decides:
        before, events = _muted(detector, before, batch, kept[starts_of(kept_lengths)])
    rows = rows_of(detector, before, batch, kept, kept_lengths)

    after, status, said = score(detector, before, batch, rows)
    n = len(batch)
    scores = no_scores(detector, n)
    if unused is not None:
        scores.status[order] = unused
    scores.status[rows.order] = status
    scored = status == Status.SCORED
    which = _selection(scored)
    out = rows.order[which]
    p_value = said.p_value[which]
    after, threshold = _steered(detector, after, p_value, batch.time[out], scored, rows.lengths, decides)
    if detector.entity_rules is not None:
        override = np.repeat(before.override, rows.lengths)[which]
        threshold = threshold + detector.entity_rules.threshold_nats[override]
    nats = -np.log(p_value)
    anomaly_score = judged = nats / threshold
    if decides and out.size and detector.echoes:
        after, above_echoes = _echoing(before, after, nats, threshold, scored, rows.lengths)
        anomaly_score = nats / above_echoes
    scores.log_likelihood[out] = said.conditionals[0].log_likelihood[which]
    if transforms.logs.size:
        scores.log_likelihood[out] += transforms.log_derivative(rows.scaled)[which]
    scores.p_value[out] = p_value
    scores.anomaly_score[out] = anomaly_score
    scores.exceeds_threshold[out] = anomaly_score >= 1.0

    if out.size and decides:
        if said.of_late is not None:
            judged = _still(judged, said.of_late[which], threshold, detector.rules.resolve_below)
        if detector.feature_rules is not None or detector.entity_rules is not None:
            after, judged, of_row = ruled(detector, before, after, rows, scored, said, judged)
            if of_row.any():
                rule = np.zeros(n, dtype=np.int8)
                rule[out] = of_row
                scores = replace(scores, rule=rule)
        after, told = _decide(detector, before, after, batch, rows, scored, said, scores, threshold, judged)
        events += told
    if unused is not None:
        # Into a copy: whoever gave the state may still want to know what was before.
        after = put(take(state, np.arange(len(present))), np.flatnonzero(present), after)
    return Outcome(after, scores, events)


def _muted(
    detector: Detector, state: EntityState, batch: Batch, first: IntArray
) -> tuple[EntityState, list[AlertEvent]]:
    """Resolve what was open when its entity was muted, at the first row of each, shape (E,)."""
    if detector.entity_rules is None:
        return state, []
    ends = np.flatnonzero(state.alert["firing"] & detector.entity_rules.muted[state.override])
    if ends.size == 0:
        return state, []
    events = [resolved_by_mute(detector, batch, state, e, int(first[e])) for e in ends.tolist()]
    return replace(state, alert=replaced(state.alert, ends, initial_alert_state(ends.size))), events


def no_scores(detector: Detector, n: int, status: Status = Status.LATE) -> Scores:
    """Return scores of n records that have none, for one reason."""
    return Scores(
        detector.name,
        detector.role,
        detector.version,
        np.full(n, status, dtype=np.int8),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.zeros(n, dtype=bool),
        np.zeros(n, dtype=bool),
    )


def _steered(
    detector: Detector,
    state: EntityState,
    p_value: FloatArray,
    time: FloatArray,
    scored: BoolArray,
    lengths: IntArray,
    moves: bool,
) -> tuple[EntityState, FloatArray | float]:
    """Return the state with thresholds moved on, and those of the scored rows, nats, shape (M,) or one.

    Unless ``moves``, they stay where they are.
    """
    if detector.steering is None or p_value.size == 0:
        return state, -float(np.log(detector.threshold.p_value))
    entity = np.repeat(np.arange(len(lengths)), lengths)[scored]
    if not moves:
        return state, state.steering["threshold"][entity]
    own = runs_of(entity)
    with_scores = entity[starts_of(own)]
    steered, threshold = detector.steering.steer(state.steering.take(with_scores), p_value, time, own)
    return replace(state, steering=replaced(state.steering, with_scores, steered)), threshold


def _echoing(
    before: EntityState,
    after: EntityState,
    nats: FloatArray,
    threshold: FloatArray | float,
    scored: BoolArray,
    lengths: IntArray,
) -> tuple[EntityState, FloatArray | float]:
    """Return the state with what is loud remembered, and thresholds that echoes do not reach."""
    entity = np.repeat(np.arange(len(lengths)), lengths)
    records = before.records[entity] + np.arange(len(entity)) - starts_of(lengths)[entity]
    entity = entity[scored]
    own = runs_of(entity)
    with_scores = entity[starts_of(own)]
    moved, threshold = with_echo(after.echo.take(with_scores), nats, threshold, records[scored], own)
    echo = after.echo.copy()
    echo[with_scores] = moved
    return replace(after, echo=echo), threshold


def _still(
    anomaly_score: FloatArray, of_late: FloatArray, threshold: FloatArray | float, calm: float
) -> FloatArray:
    """Return the scores that alerts go by: a slow average remembers what is over, so a fast one has to alarm.

    Args:
        anomaly_score: Shape (M,).
        of_late: p-values by the averages that forget soon, shape (M,).
        threshold: Nats, shape (M,) or one for all.
        calm: Lower scores stay as they are.
    """
    loud = np.flatnonzero(anomaly_score >= calm)
    if loud.size == 0:
        return anomaly_score
    still = -np.log(of_late[loud]) / np.broadcast_to(threshold, anomaly_score.shape)[loud]
    judged = anomaly_score.copy()
    judged[loud] = np.where(still < 1.0, np.minimum(judged[loud], still), judged[loud])
    return judged


def _selection(chosen: BoolArray) -> IntArray | slice:
    """Return an index for the chosen rows; nearly always that is all of them, and a slice copies nothing."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _decide(
    detector: Detector,
    before: EntityState,
    after: EntityState,
    batch: Batch,
    rows: Rows,
    scored: BoolArray,
    said: Said,
    scores: Scores,
    threshold: FloatArray | float,
    judged: FloatArray,
) -> tuple[EntityState, list[AlertEvent]]:
    """Run the alert rules over the scored rows and write the events; marks ``scores.alert``.

    ``threshold`` is that of these rows, nats, shape (M,) or one; ``judged`` are their anomaly scores as the
    operator's rules leave them, shape (M,).
    """
    position = np.flatnonzero(scored)
    out = rows.order.take(position)
    entity = np.repeat(np.arange(len(rows.lengths)), rows.lengths).take(position)
    lengths = runs_of(entity)
    with_scores = entity.take(starts_of(lengths))
    time, p_value = batch.time.take(out), scores.p_value.take(out)
    clock = rows.heard.clock.take(position)

    def compared(some: IntArray) -> Compared:
        nats = -np.log(p_value[some])
        deviation = detector.model.density.deviation(said.conditionals[0], position[some])
        # An entity's own threshold is high for what it does often, and its level knows that already.
        own = np.full(len(some), -np.log(detector.threshold.p_value))
        if detector.entity_rules is not None:
            own += detector.entity_rules.threshold_nats[before.override[entity[some]]]
        # What the committee says stands for features without a unit, and for what it sees in all together.
        return Compared(np.column_stack([deviation, nats]), own)

    known, restless = before.aftermath.take(with_scores), before.restless.take(with_scores)
    aftermath = judge_aftermath(known, restless, judged, p_value, clock, lengths, detector.rules, compared)
    own = np.flatnonzero((aftermath.anomaly_score != judged) & (aftermath.anomaly_score >= 1.0))
    if own.size:
        exact = p_value[own] ** (aftermath.anomaly_score[own] / judged[own])
        p_value[own] = np.maximum(exact, np.finfo(np.float64).tiny)
    judged = aftermath.anomaly_score
    if scores.rule is not None:
        # What the operator calls an alert is one, whatever was before it.
        judged = np.where(np.isin(scores.rule[out], RAISING), np.maximum(judged, 1.0), judged)
    own_fire = None
    if detector.entity_rules is not None:
        own_fire = detector.entity_rules.fire_of_each(before.override.take(with_scores), detector.rules)
    decision = decide(
        before.alert.take(with_scores),
        Scored(
            time,
            clock,
            batch.offset.take(out),
            scores.log_likelihood.take(out),
            p_value,
            judged,
            said.member.take(position),
            said.too_likely.take(position),
            lengths,
        ),
        detector.rules,
        own_fire,
    )
    scores.alert[out] = decision.loud
    after = replace(after, alert=replaced(before.alert, with_scores, decision.state))
    if aftermath.restless is not restless:
        after = replace(after, restless=replaced(before.restless, with_scores, aftermath.restless))
    if aftermath.state is not known:
        remembered = before.aftermath.copy()
        remembered[with_scores] = aftermath.state
        after = replace(after, aftermath=remembered)
    levels = {int(position[row]): level for row, level in aftermath.levels.items()}
    explainer = Explainer(detector, batch, rows, before, said, levels)
    members = [k for k, member in enumerate(detector.model.members) if averages_surprise(member)]
    loud = (judged >= detector.rules.resolve_below) & ~decision.loud
    leads = Leads(explainer, members, before.led_up, with_scores, lengths, position, loud)
    explained, events = before.explained.copy(), []
    suspicious = decision.loud & (judged >= 1.0)
    for transition in decision.transitions:
        row, e = int(position[transition.row]), int(with_scores[transition.entity])
        severity = severity_of(detector, before.override[e])
        what = without_old_severity(transition, severity)
        if what.explained:
            led_up = leads.up_to(what.row, what.entity) if what.told == "firing" else ()
            explained[e] = explainer.explained(row, led_up)
        elif suspicious[what.row] and not what.span["peak_too_likely"]:
            moved = explainer.moved(row, explained[e])
            if moved is not None:
                explained[e] = moved
                what = what._replace(told="moved") if what.told == "kept_alive" else what
        at = int(rows.order[row])
        usual_s = float(rows.heard.usual_s[row])
        events.append(event_of(detector, batch, what, at, explained[e], severity, usual_s))
    return replace(after, explained=explained, led_up=leads.after()), events
