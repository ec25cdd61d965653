"""Score, decide, learn: the one path of a batch in daemon, backtest and calibration.

Records are laid out entity after entity, each in time order, so that a batch of many entities and a backlog
of few take the same few array operations. Nothing that is learnt here feeds back into a score of the same
batch: state moves on once all of it is scored and decided. A row's numbers have the same bits in any batch.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.budget import Threshold
from detector.alerting.episodes import Scored, StateRows, Transition, decide, initial_alert_state
from detector.alerting.event import AlertEvent, FeatureReason, alert_id, event_id
from detector.alerting.rules import AlertRules
from detector.batch import Batch, BoolArray, FloatArray, IntArray, Scores, Status
from detector.models.contract import Explanation, Regime
from detector.models.sequences import lagged, runs_of, starts_of
from detector.scoring.scoring_model import Conditionals, ScoringModel

_TOP_FEATURES = 5


@dataclass(frozen=True, slots=True)
class Detector:
    """A named watch with its trained model: nothing here changes while it runs."""

    name: str
    role: str
    version: str
    model: ScoringModel
    rules: AlertRules
    threshold: Threshold
    min_features: int
    """A record with fewer present features is not scored."""
    interval_s: float
    """The usual time between two records of an entity."""


@dataclass(frozen=True, slots=True)
class EntityState:
    """What a detector remembers of E entities: a struct of arrays, gathered and scattered by the shell."""

    time: FloatArray
    """Of the newest record, shape (E,), -inf before the first."""
    records: IntArray
    """Seen so far, shape (E,)."""
    model: IntArray
    """Which of the stacked models scores the entity, shape (E,)."""
    predictor: FloatArray
    family: FloatArray
    alert: StateRows


class Outcome(NamedTuple):
    """What a batch led to."""

    state: EntityState
    scores: Scores
    events: list[AlertEvent]


def initial_state(detector: Detector, entities: list[str]) -> EntityState:
    """Return the state of entities never seen, E rows."""
    density = detector.model.density
    known = {name: index for index, name in enumerate(detector.model.entities)}
    n = len(entities)
    return EntityState(
        np.full(n, -np.inf),
        np.zeros(n, dtype=np.int64),
        np.array([known.get(entity, len(known)) for entity in entities], dtype=np.int64),
        density.predictor.initial_state(n),
        density.family.initial_state(n),
        initial_alert_state(n),
    )


def run(detector: Detector, state: EntityState, batch: Batch, order: IntArray, lengths: IntArray) -> Outcome:
    """Score a batch, decide, and move the state on.

    Args:
        detector: Model, rules and threshold.
        state: Of the E entities in the batch, in the order in which ``order`` lists them.
        batch: N records with the model's features as columns.
        order: Shape (N,), rows of the batch entity after entity, each entity's as they arrived.
        lengths: Records of each entity, shape (E,), each >= 1.
    """
    time = batch.time[order]
    late = _late(time, state.time, lengths)
    kept = order
    kept_lengths = lengths
    present = np.ones(len(lengths), dtype=bool)
    if late.any():
        kept = order[~late]
        kept_lengths = np.add.reduceat(~late, starts_of(lengths)).astype(np.int64)
        present = kept_lengths > 0
        kept_lengths = kept_lengths[present]
    before = take(state, np.flatnonzero(present)) if late.any() else state
    previous = lagged(batch.time[kept], before.time, starts_of(kept_lengths))
    gap_s = np.where(np.isfinite(previous), batch.time[kept] - previous, np.nan)
    rows = _Rows(kept, kept_lengths, gap_s)

    after, status, conditionals, p_value, too_likely = _score(detector, before, batch, rows)
    n = len(batch)
    scores = Scores(
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
    scores.status[rows.order] = status
    scored = status == Status.SCORED
    which = _selection(scored)
    out = rows.order[which]
    anomaly_score = np.log(p_value[which]) / np.log(detector.threshold.p_value)
    scores.log_likelihood[out] = conditionals.log_likelihood[which]
    scores.p_value[out] = p_value[which]
    scores.anomaly_score[out] = anomaly_score
    scores.exceeds_threshold[out] = anomaly_score >= 1.0

    events: list[AlertEvent] = []
    if out.size:
        after, events = _decide(
            detector, before, after, batch, rows, scored, conditionals, scores, too_likely
        )
    if late.any():
        after = put(state, np.flatnonzero(present), after)
    return Outcome(after, scores, events)


class _Rows(NamedTuple):
    """Rows of a batch, entity after entity, without those that are late."""

    order: IntArray
    lengths: IntArray
    gap_s: FloatArray
    """Seconds since the entity's record before; NaN for its first ever."""


def _late(time: FloatArray, newest: FloatArray, lengths: IntArray) -> BoolArray:
    """Return which records are older than one of their entity that came before."""
    starts = starts_of(lengths)
    previous = lagged(time, newest, starts)
    backwards = time < previous
    if not backwards.any():
        return backwards
    # Times as ranks, so that one running maximum over (entity, rank) starts afresh with every entity.
    entity = np.repeat(np.arange(len(lengths)), lengths)
    instants, rank = np.unique(np.concatenate((newest, time)), return_inverse=True)
    own, before = rank[len(newest) :], rank[: len(newest)]
    newest_so_far = np.maximum.accumulate(entity * instants.size + np.maximum(own, before[entity]))
    newest_before = lagged(newest_so_far, np.arange(len(lengths)) * instants.size + before, starts)
    late: BoolArray = entity * instants.size + own < newest_before
    return late


def _score(
    detector: Detector, before: EntityState, batch: Batch, rows: _Rows
) -> tuple[EntityState, NDArray[np.int8], Conditionals, FloatArray, BoolArray]:
    """Score the rows; the state returned still has the alert state of before."""
    model = detector.model
    starts = starts_of(rows.lengths)
    of_row = np.repeat(before.model, rows.lengths)
    time = batch.time[rows.order]
    z = model.density.scaling.standardise(batch.values.take(rows.order, axis=0), of_row)
    conditionals = model.density.conditionals(
        before.predictor, before.family, z, time, rows.gap_s, rows.lengths, before.model
    )
    missing = np.isnan(z)
    position = np.arange(len(time)) - np.repeat(starts, rows.lengths)
    seen_before = position + np.repeat(before.records, rows.lengths)
    status = np.full(len(time), Status.SCORED, dtype=np.int8)
    status[seen_before < model.density.warmup_records] = Status.WARMING_UP
    if missing.any():
        status[(~missing).sum(axis=1) < detector.min_features] = Status.TOO_FEW_FEATURES
    p_value = np.full(len(time), np.nan)
    too_likely = np.zeros(len(time), dtype=bool)
    scored = _selection(status == Status.SCORED)
    p_value[scored], too_likely[scored] = model.calibration.p_value(
        conditionals.surprise[scored], of_row[scored], missing[scored], conditionals.past_missing[scored]
    )

    after = EntityState(
        time[starts + rows.lengths - 1],
        before.records + rows.lengths,
        before.model,
        conditionals.predictor_rows,
        conditionals.family_rows,
        before.alert,
    )
    return after, status, conditionals, p_value, too_likely


def _selection(chosen: BoolArray) -> IntArray | slice:
    """Return an index for the chosen rows; nearly always that is all of them, and a slice copies nothing."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _decide(
    detector: Detector,
    before: EntityState,
    after: EntityState,
    batch: Batch,
    rows: _Rows,
    scored: BoolArray,
    conditionals: Conditionals,
    scores: Scores,
    too_likely: BoolArray,
) -> tuple[EntityState, list[AlertEvent]]:
    """Run the alert rules over the scored rows and write the events; marks ``scores.alert``."""
    position = np.flatnonzero(scored)
    out = rows.order.take(position)
    entity = np.repeat(np.arange(len(rows.lengths)), rows.lengths).take(position)
    lengths = runs_of(entity)
    with_scores = entity.take(starts_of(lengths))
    decision = decide(
        before.alert.take(with_scores),
        Scored(
            batch.time.take(out),
            batch.offset.take(out),
            scores.log_likelihood.take(out),
            scores.p_value.take(out),
            scores.anomaly_score.take(out),
            too_likely.take(position),
            lengths,
        ),
        detector.rules,
    )
    scores.alert[out] = decision.firing
    alert = before.alert.copy()
    np.put(alert, with_scores, decision.state)
    explainer = _Explainer(detector, batch, rows, before, conditionals, too_likely)
    events = [
        _event(explainer, transition, int(position[transition.row])) for transition in decision.transitions
    ]
    return (
        EntityState(after.time, after.records, after.model, after.predictor, after.family, alert),
        events,
    )


def _event(explainer: "_Explainer", transition: Transition, row: int) -> AlertEvent:
    detector, batch, span = explainer.detector, explainer.batch, transition.span
    at = int(explainer.rows.order[row])
    source = batch.sources[int(batch.source[at])]
    entity = batch.entity[at]
    alert = alert_id(source, int(span["first_offset"]), detector.name, entity)
    kind: Literal["firing", "resolved"] = "firing" if transition.fires else "resolved"
    p_value = float(span["peak_p_value"])
    return AlertEvent(
        id=event_id(alert, kind),
        alert_id=alert,
        transition=kind,
        detector=detector.name,
        role=detector.role,
        version=detector.version,
        entity=entity,
        severity=detector.rules.severity,
        time=float(batch.time[at]),
        start=float(span["start"]),
        peak=float(span["peak"]),
        end=None if transition.fires else float(span["last_suspicious"]),
        records=int(span["records"]),
        surprise_nats=float(span["surprise_nats"]),
        p_value=p_value,
        anomaly_score=float(span["peak_score"]),
        log_likelihood=float(span["peak_log_likelihood"]),
        return_period_s=detector.interval_s / p_value,
        side="too_likely" if span["peak_too_likely"] else "unlikely",
        reasons=explainer.reasons(row) if transition.fires else (),
        regime=explainer.regime(row) if transition.fires else None,
        labels={name: value for name, column in batch.labels.items() if (value := column[at]) is not None},
        source=source,
        first_offset=int(span["first_offset"]),
        last_offset=int(batch.offset[at]),
    )


@dataclass(slots=True)
class _Explainer:
    """Why rows of a batch are improbable, for the few that start an episode."""

    detector: Detector
    batch: Batch
    rows: _Rows
    before: EntityState
    conditionals: Conditionals
    too_likely: BoolArray
    _reached: dict[int, tuple[int, FloatArray]] = field(default_factory=dict)

    def reasons(self, row: int) -> tuple[FeatureReason, ...]:
        """Return the features that surprised most (least, if too likely), with what they should have been.

        Rows of one entity must be asked for in rising order.
        """
        model = self.detector.model
        e, family_row = self._state_before(row)
        explanation = model.density.explain(
            family_row,
            self.conditionals.residual[row : row + 1],
            self.conditionals.expected[row : row + 1],
            self.rows.gap_s[row : row + 1],
            self.before.model[e : e + 1],
        )
        nats = explanation.nats[0]
        actual = self.batch.values[self.rows.order[row]]
        order = np.argsort(nats if self.too_likely[row] else -nats, kind="stable")
        top = [int(j) for j in order if not np.isnan(nats[j])][:_TOP_FEATURES]
        return tuple(self._reason(j, float(actual[j]), explanation) for j in top)

    def _reason(self, j: int, actual: float, explanation: Explanation) -> FeatureReason:
        """Return feature j's part; a category is told by its text and has no spread."""
        model = self.detector.model
        expected, std = float(explanation.expected[0, j]), float(explanation.std[0, j])
        vocabulary = model.vocabulary(j)
        return FeatureReason(
            feature=model.feature_names[j],
            actual=actual if vocabulary is None else self.batch.category_texts.get(actual),
            expected=expected if vocabulary is None else vocabulary.text(expected),
            std=None if vocabulary is not None or np.isnan(std) else std,
            nats=float(explanation.nats[0, j]),
            unit=model.units[j],
        )

    def regime(self, row: int) -> Regime | None:
        """Return the most probable cause of a row; asked for in the same order as ``reasons``."""
        e, family_row = self._state_before(row)
        residual, gap_s = self.conditionals.residual[row : row + 1], self.rows.gap_s[row : row + 1]
        family = self.detector.model.density.family_of(int(self.before.model[e]))
        return family.regime(family_row, residual, gap_s)

    def _state_before(self, row: int) -> tuple[int, FloatArray]:
        """Return the row's entity and the family's state before the row, shape (1, state_size).

        The entity's past within the batch is run again, each part of it once: keeping the state before every
        row would cost every row.
        """
        starts = starts_of(self.rows.lengths)
        e = int(np.searchsorted(starts, row, side="right")) - 1
        reached, state = self._reached.get(e, (int(starts[e]), self.before.family[e : e + 1]))
        if row > reached:
            part = slice(reached, row)
            state, _ = self.detector.model.density.scan_family(
                state,
                self.conditionals.residual[part],
                self.rows.gap_s[part],
                np.array([row - reached]),
                self.before.model[e : e + 1],
            )
        self._reached[e] = row, state
        return e, state


def take(state: EntityState, rows: IntArray) -> EntityState:
    """Gather rows of a state."""
    return EntityState(
        state.time.take(rows),
        state.records.take(rows),
        state.model.take(rows),
        state.predictor.take(rows, axis=0),
        state.family.take(rows, axis=0),
        state.alert.take(rows),
    )


def put(state: EntityState, rows: IntArray, new: EntityState) -> EntityState:
    """Scatter rows into a state, in place, and return it."""
    state.time[rows] = new.time
    state.records[rows] = new.records
    state.model[rows] = new.model
    state.predictor[rows] = new.predictor
    state.family[rows] = new.family
    # Structures by index would be assigned field by field, put() moves them whole.
    np.put(state.alert, rows, new.alert)
    return state
