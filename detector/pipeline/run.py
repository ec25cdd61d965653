"""Score, decide, learn: the one path of a batch in daemon, backtest and calibration.

Records are laid out entity after entity, each in time order, so that a batch of many entities and a backlog
of few take the same few array operations. What is learnt from records (levels, sketches of tails, thresholds
of entities) shows at records that an entity's own past decides, never at the edge of a batch: so a row's
numbers have the same bits in any batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.aftermath import judge_aftermath
from detector.alerting.alert_state import Scored, replaced
from detector.alerting.echo import with_echo
from detector.alerting.episodes import decide
from detector.alerting.event import (
    AlertEvent,
    Explained,
    FeatureReason,
    ResolvedBecause,
    UpdatedBecause,
    alert_id,
    event_id,
    expires_at,
)
from detector.alerting.feature_rules import FeatureRules
from detector.alerting.rules import CRITICAL, INFO
from detector.alerting.spans import Told, Transition
from detector.batch import Batch, BoolArray, FloatArray, IntArray, OperatorRule, Scores, Status
from detector.models.contract import Explanation, Regime
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, put, take
from detector.pipeline.rows import Rows, Said, rows_of, score
from detector.scoring.arrival import refused
from detector.scoring.explained_rows import explain_rows
from detector.scoring.lead_up import LED_UP, Loud, Seen, most_surprising
from detector.scoring.member import Member

_TOP_FEATURES = 5
_UPDATES: dict[Told, UpdatedBecause] = {"escalated": "severity", "rose": "peak", "kept_alive": "keep_alive"}
_ENDS: dict[Told, ResolvedBecause] = {
    "resolved": "calm",
    "released": "new_normal",
    "interrupted": "maintenance",
}


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
        state: Of the E entities in the batch, in the order in which ``order`` lists them.
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
    if decides and out.size and detector.echoes:
        after, threshold = _echoing(before, after, -np.log(p_value), threshold, scored, rows.lengths)
    anomaly_score = -np.log(p_value) / threshold
    scores.log_likelihood[out] = said.conditionals[0].log_likelihood[which]
    if transforms.logs.size:
        scores.log_likelihood[out] += transforms.log_derivative(rows.scaled)[which]
    scores.p_value[out] = p_value
    scores.anomaly_score[out] = anomaly_score
    scores.exceeds_threshold[out] = anomaly_score >= 1.0

    events: list[AlertEvent] = []
    if out.size and decides:
        judged = anomaly_score
        if detector.feature_rules is not None or detector.entity_rules is not None:
            after, judged, of_row = _ruled(detector, before, after, rows, scored, said, anomaly_score)
            if of_row.any():
                rule = np.zeros(n, dtype=np.int8)
                rule[out] = of_row
                scores = replace(scores, rule=rule)
        after, events = _decide(detector, before, after, batch, rows, scored, said, scores, judged)
    if unused is not None:
        after = put(state, np.flatnonzero(present), after)
    return Outcome(after, scores, events)


def account(detector: Detector, state: EntityState, batch: Batch, member: int) -> tuple[FeatureReason, ...]:
    """Return what a member of the committee says of every feature of a record, in the model's order.

    Args:
        detector: Model, rules and threshold.
        state: Of the record's entity before the record, one row.
        batch: One record.
        member: Its index.
    """
    one = np.ones(1, dtype=np.int64)
    rows = rows_of(detector, state, batch, one - 1, one)
    _, _, said = score(detector, state, batch, rows)
    heard = said._replace(member=np.array([member]), too_likely=np.zeros(1, dtype=bool))
    return _Explainer(detector, batch, rows, state, heard).all_features(0)


def no_scores(detector: Detector, n: int) -> Scores:
    """Return scores of n records that all are late."""
    return Scores(
        detector.name,
        detector.role,
        detector.version,
        np.full(n, Status.LATE, dtype=np.int8),
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


def _selection(chosen: BoolArray) -> IntArray | slice:
    """Return an index for the chosen rows; nearly always that is all of them, and a slice copies nothing."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _ruled(
    detector: Detector,
    before: EntityState,
    after: EntityState,
    rows: Rows,
    scored: BoolArray,
    said: Said,
    anomaly_score: FloatArray,
) -> tuple[EntityState, FloatArray, NDArray[np.int8]]:
    """Let the operator's rules decide over the M scored rows.

    Returns:
        The state after, the scores that alerts go by, shape (M,), and the rule that decided, shape (M,).
    """
    position = np.flatnonzero(scored)
    entity = np.repeat(np.arange(len(rows.lengths)), rows.lengths).take(position)
    judged, rule = anomaly_score.copy(), np.zeros(len(position), dtype=np.int8)
    features = detector.feature_rules
    if features is not None:
        if features.judges_deviations:
            after, rule = _deviations(detector, features, before, after, rows, position, entity, said, judged)
        outside = features.out_of_range(rows.values.take(position, axis=0)).any(axis=1)
        rule[outside] = OperatorRule.OUT_OF_RANGE
        judged[outside] = np.maximum(judged[outside], 1.0)
    if detector.entity_rules is not None:
        rule[detector.entity_rules.muted[before.override[entity]] & (judged >= 1.0)] = OperatorRule.MUTED
    judged[(rule == OperatorRule.DEVIATION) | (rule == OperatorRule.MUTED)] = 0.0
    return after, judged, rule


def _deviations(
    detector: Detector,
    features: FeatureRules,
    before: EntityState,
    after: EntityState,
    rows: Rows,
    position: IntArray,
    entity: IntArray,
    said: Said,
    anomaly_score: FloatArray,
) -> tuple[EntityState, NDArray[np.int8]]:
    """Find suspicious rows whose deviations do not matter; arguments and answer as in ``_ruled``."""
    rule = np.zeros(len(position), dtype=np.int8)
    suspicious = anomaly_score >= 1.0
    own = runs_of(entity)
    with_scores = entity[starts_of(own)]
    matters = before.matters.copy()
    if not suspicious.any():
        matters[with_scores] = np.nan
        return replace(after, matters=matters), rule
    at = position[suspicious]
    nats, weight = np.empty((len(at), 2)), np.empty(len(at))
    transforms = detector.model.transforms
    for k, member in enumerate(detector.model.members):
        heard = said.member[at] == k
        if not heard.any():
            continue
        part = at[heard]
        explanation = explain_rows(
            member.density,
            before.family[k],
            said.conditionals[k],
            rows.gap_s,
            rows.lengths,
            before.model,
            part,
        )
        in_units = transforms.explained_in_units(explanation, rows.scaled[part])
        nats[heard] = features.excess_nats(explanation, rows.values[part], in_units.expected)
        weight[heard] = member.time_scale.weight
    matters[with_scores], share = features.shares(matters[with_scores], nats, weight, suspicious, own)
    stays = features.stays(share, anomaly_score[suspicious], said.too_likely[at])
    rule[np.flatnonzero(suspicious)[~stays]] = OperatorRule.DEVIATION
    return replace(after, matters=matters), rule


def _decide(
    detector: Detector,
    before: EntityState,
    after: EntityState,
    batch: Batch,
    rows: Rows,
    scored: BoolArray,
    said: Said,
    scores: Scores,
    judged: FloatArray,
) -> tuple[EntityState, list[AlertEvent]]:
    """Run the alert rules over the scored rows and write the events; marks ``scores.alert``.

    ``judged`` are the anomaly scores of these rows as the operator's rules leave them, shape (M,).
    """
    position = np.flatnonzero(scored)
    out = rows.order.take(position)
    entity = np.repeat(np.arange(len(rows.lengths)), rows.lengths).take(position)
    lengths = runs_of(entity)
    with_scores = entity.take(starts_of(lengths))
    alert_rows, time = before.alert.take(with_scores), batch.time.take(out)
    aftermath, judged = judge_aftermath(alert_rows["aftermath"], judged, time, lengths, detector.rules)
    if aftermath is not None:
        alert_rows["aftermath"] = aftermath
    decision = decide(
        alert_rows,
        Scored(
            time,
            batch.offset.take(out),
            scores.log_likelihood.take(out),
            scores.p_value.take(out),
            judged,
            said.member.take(position),
            said.too_likely.take(position),
            lengths,
        ),
        detector.rules,
    )
    scores.alert[out] = decision.firing
    after = replace(after, alert=replaced(before.alert, with_scores, decision.state))
    explainer = _Explainer(detector, batch, rows, before, said)
    members = [k for k, member in enumerate(detector.model.members) if _averages_surprise(member)]
    loud = (judged >= detector.rules.resolve_below) & ~decision.firing
    leads = _Leads(explainer, members, before.led_up, with_scores, lengths, position, loud)
    explained, events = before.explained.copy(), []
    for transition in decision.transitions:
        row, e = int(position[transition.row]), int(with_scores[transition.entity])
        if transition.explained:
            led_up = leads.up_to(transition.row, transition.entity) if transition.told == "firing" else ()
            explained[e] = explainer.explained(row, led_up)
        severity = _severity(detector, before.override[e])
        at = int(rows.order[row])
        events.append(_event(detector, batch, transition, at, explained[e], severity))
    return replace(after, explained=explained, led_up=leads.after()), events


def resolved_by_maintenance(
    detector: Detector, batch: Batch, state: EntityState, e: int, at: int
) -> AlertEvent:
    """Return the end of the alert that entity e's state has open, because of row ``at`` of the batch."""
    transition = Transition(at, e, "interrupted", explained=False, span=state.alert[e])
    severity = _severity(detector, state.override[e])
    return _event(detector, batch, transition, at, state.explained[e], severity)


def _severity(detector: Detector, override: int) -> str:
    """Return the severity of an entity's alerts at first, by its override."""
    severity = detector.rules.severity
    return severity if detector.entity_rules is None else detector.entity_rules.severity(override, severity)


def _event(
    detector: Detector, batch: Batch, transition: Transition, at: int, explained: Explained, severity: str
) -> AlertEvent:
    """Return what is told at row ``at`` of the batch, of an alert that has this severity at first."""
    span, told = transition.span, transition.told
    if severity == INFO and told == "escalated":
        # Who asks for information alone does not expect to be woken.
        told = "rose" if transition.explained else "kept_alive"
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
        severity=CRITICAL if span["critical"] and severity != INFO else severity,
        reopened=int(span["stretches"]) - 1,
        time=time,
        expires_at=None if over else expires_at(time, detector.rules.keep_alive_s, detector.interval_s),
        start=float(span["start"]),
        peak=float(span["peak"]),
        end=float(span["last_suspicious"]) if over else None,
        records=int(span["records"]),
        surprise_nats=float(span["surprise_nats"]),
        p_value=p_value,
        anomaly_score=float(span["peak_score"]),
        log_likelihood=float(span["peak_log_likelihood"]),
        return_period_s=detector.interval_s / p_value,
        side="too_likely" if span["peak_too_likely"] else "unlikely",
        member=detector.model.members[int(span["peak_member"])].name,
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


@dataclass(slots=True)
class _Explainer:
    """Why rows of a batch are improbable, for the few that alerts are explained by."""

    detector: Detector
    batch: Batch
    rows: Rows
    before: EntityState
    said: Said
    _reached: dict[tuple[int, int], tuple[int, FloatArray]] = field(default_factory=dict)
    _starts: IntArray = field(init=False)
    """The first row of every entity."""

    def __post_init__(self) -> None:
        self._starts = starts_of(self.rows.lengths)

    def explained(self, row: int, led_up: tuple[Loud, ...]) -> Explained:
        """Return why a row is improbable, and the average of the row and what led up to it.

        Rows of one entity must be asked for in rising order.
        """
        time = float(self.batch.time[self.rows.order[row]])
        return Explained(time, self._reasons(row, led_up), self._regime(row))

    def loud(self, row: int, members: Sequence[int]) -> Loud:
        """Return a row as members saw it; rows of one entity must be asked for in rising order."""
        seen = {}
        for k in members:
            own = self.said.conditionals[k]
            seen[k] = Seen(
                self._state_before(k, row)[1] if self.before.family[k].shape[1] else np.empty((1, 0)),
                own.residual[row : row + 1].copy(),
                own.expected[row : row + 1].copy(),
                None if own.spread is None else own.spread[row : row + 1].copy(),
            )
        values, scaled = self.rows.values[row].copy(), self.rows.scaled[row : row + 1].copy()
        return Loud(values, scaled, self.rows.gap_s[row : row + 1].copy(), seen)

    def _reasons(self, row: int, led_up: tuple[Loud, ...]) -> tuple[FeatureReason, ...]:
        """Return the features that surprised most (least, if too likely), with what they should have been.

        Those outside their valid range come first. They are those of the member that was heard.
        """
        explanation, actual = self._explained(row, led_up)
        nats = explanation.nats[0]
        order = np.argsort(nats if self.said.too_likely[row] else -nats, kind="stable")
        if self.detector.feature_rules is not None:
            outside = self.detector.feature_rules.out_of_range(actual)
            order = np.concatenate((order[outside[order]], order[~outside[order]]))
        top = [int(j) for j in order if not np.isnan(nats[j])][:_TOP_FEATURES]
        return tuple(self._reason(j, float(actual[j]), explanation) for j in top)

    def all_features(self, row: int) -> tuple[FeatureReason, ...]:
        """Return every feature's part, in the model's order; nats are NaN where the record lacks it."""
        explanation, actual = self._explained(row, ())
        return tuple(self._reason(j, float(actual[j]), explanation) for j in range(actual.size))

    def _explained(self, row: int, led_up: tuple[Loud, ...]) -> tuple[Explanation, FloatArray]:
        """Return what was expected, in the units of the data, with nats beyond the usual, and the values.

        Of an average every feature is explained where it surprised most; but texts and what is outside its
        range are those of the row.
        """
        k, model = int(self.said.member[row]), self.detector.model
        member, actual = model.members[k], self.rows.values[row]
        records: tuple[Loud, ...] = (self.loud(row, [k]),)
        if _averages_surprise(member) and not self.said.too_likely[row]:
            records = (*led_up, *records)
        of_model = int(self.before.model[self._entity(row)])
        explanations = [loud.explained(k, member.density, of_model, model.transforms) for loud in records]
        newest = np.array([model.vocabulary(j) is not None for j in range(actual.size)])
        if self.detector.feature_rules is not None:
            newest |= self.detector.feature_rules.out_of_range(actual)
        return most_surprising(explanations, [loud.values for loud in records], newest)

    def _reason(self, j: int, actual: float, explanation: Explanation) -> FeatureReason:
        """Return feature j's part; a category is told by its text and has no spread."""
        model, rules = self.detector.model, self.detector.feature_rules
        expected, std = float(explanation.expected[0, j]), float(explanation.std[0, j])
        vocabulary = model.vocabulary(j)
        return FeatureReason(
            feature=model.feature_names[j],
            actual=actual if vocabulary is None else self.batch.category_texts.get(actual),
            expected=expected if vocabulary is None else vocabulary.text(expected),
            std=None if vocabulary is not None or np.isnan(std) else std,
            nats=float(explanation.nats[0, j]),
            unit=model.units[j],
            valid_range=None if rules is None else rules.range_left(j, actual),
        )

    def _regime(self, row: int) -> Regime | None:
        """Return the most probable cause of a row."""
        k = int(self.said.member[row])
        e, family_row = self._state_before(k, row)
        residual = self.said.conditionals[k].residual[row : row + 1]
        family = self.detector.model.members[k].density.family_of(int(self.before.model[e]))
        return family.regime(family_row, residual, self.rows.gap_s[row : row + 1])

    def _state_before(self, k: int, row: int) -> tuple[int, FloatArray]:
        """Return the row's entity and the state of member k's family before the row, (1, state_size).

        The entity's past within the batch is run again, each part of it once: keeping the state before every
        row would cost every row.
        """
        e = self._entity(row)
        start = int(self._starts[e])
        reached, state = self._reached.get((k, e), (start, self.before.family[k][e : e + 1].copy()))
        if row > reached and state.size:
            part = slice(reached, row)
            state, _ = self.detector.model.members[k].density.scan_family(
                state,
                self.said.conditionals[k].residual[part],
                self.rows.gap_s[part],
                np.array([row - reached]),
                self.before.model[e : e + 1],
            )
        self._reached[k, e] = row, state
        return e, state

    def _entity(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1


@dataclass(frozen=True, slots=True)
class _Leads:
    """The loud records before others, for committees that average surprise.

    A record is loud that is not calm and does not fire. What led up to a record are the loud ones directly
    before it, no more than ``LED_UP``, be they of this batch or of one before.
    """

    explainer: _Explainer
    members: list[int]
    """Those that average."""
    before: NDArray[np.object_]
    """Of each entity, as in ``EntityState``."""
    with_scores: IntArray
    """Entities that have scored rows."""
    lengths: IntArray
    """Their scored rows."""
    position: IntArray
    """Of each of the M scored rows among the rows."""
    loud: BoolArray
    """Shape (M,)."""

    def after(self) -> NDArray[np.object_]:
        """Return what led up to the records of the next batch; the last that rows may be asked for."""
        if not self.members:
            return self.before
        last = starts_of(self.lengths) + self.lengths - 1
        led_up = self.before.copy()
        led_up[self.with_scores] = None
        for i in np.flatnonzero(self.loud[last]).tolist():
            led_up[self.with_scores[i]] = self.up_to(int(last[i]) + 1, i)
        return led_up

    def up_to(self, at: int, i: int) -> tuple[Loud, ...]:
        """Return what led up to scored row ``at`` of the i-th entity with scores."""
        if not self.members:
            return ()
        start, first = int(self.lengths[:i].sum()), at
        while first > start and at - first < LED_UP and self.loud[first - 1]:
            first -= 1
        of_batch = [self.explainer.loud(int(self.position[row]), self.members) for row in range(first, at)]
        earlier = (self.before[self.with_scores[i]] or ()) if first == start else ()
        return (*earlier, *of_batch)[-LED_UP:]


def _averages_surprise(member: Member) -> bool:
    """Whether a member speaks of more than the newest record, and of how improbable they were."""
    return member.time_scale.is_average and not member.time_scale.of_deviation
