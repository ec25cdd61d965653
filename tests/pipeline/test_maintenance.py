"""Tests for detector.pipeline.maintenance: a window changes nothing inside, and does not show afterwards."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.event import AlertEvent
from detector.alerting.feature_rules import FeatureRule, FeatureRules
from detector.alerting.rules import AlertRules
from detector.alerting.steering import Steering
from detector.batch import Batch, BoolArray, FloatArray, OperatorRule, Scores, Status
from detector.models.ewma import EwmaPredictor
from detector.models.feature_transforms import FeatureTransforms
from detector.models.hmm import Hmm
from detector.models.level import LevelPredictor
from detector.models.sequences import runs_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, initial_state
from detector.pipeline.maintenance import run_around
from detector.pipeline.run import run
from detector.scoring.time_scale import TimeScale
from tests.made import batch, detector, gmm, records_like, scoring_model
from tests.pipeline.test_operator_rules import ANYTHING, ONE_OF_ONE, normal, ruled

MAINTENANCE, DEPLOY = int(OperatorRule.MAINTENANCE), int(OperatorRule.DEPLOY)


class Runner:
    """Hands batches to a detector as a watch does, with windows."""

    def __init__(self, own: Detector, entities: list[str]) -> None:
        self._detector, self._entities = own, entities
        self.state: EntityState = initial_state(own, entities)
        self.events: list[AlertEvent] = []

    def process(self, records: Batch, kind: np.ndarray | None) -> Scores:
        from detector.pipeline.entity_state import put, take

        slots = np.array([self._entities.index(entity) for entity in records.entity])
        order = np.argsort(slots, kind="stable")
        lengths = runs_of(slots[order])
        touched = np.unique(slots)
        state = take(self.state, touched)
        outcome = (
            run(self._detector, state, records, order, lengths)
            if kind is None
            else run_around(self._detector, state, records, order, lengths, kind)
        )
        put(self.state, touched, outcome.state)
        self.events += outcome.events
        return outcome.scores


def arrays_of(state: EntityState) -> dict[str, np.ndarray]:
    """Every array of a state, by name."""
    parts: dict[str, np.ndarray] = {}
    for name in ("time", "values", "records", "model", "alert", "steering", "counters", "matters"):
        parts[name] = getattr(state, name)
    for name in ("predictor", "family", "average", "sketch"):
        parts |= {f"{name} {k}": rows for k, rows in enumerate(getattr(state, name))}
    return parts


def assert_same_state(one: EntityState, two: EntityState, but: tuple[str, ...] = ()) -> None:
    for name, rows in arrays_of(one).items():
        if name in but:
            continue
        other = arrays_of(two)[name]
        if rows.dtype.names is not None:
            # Of structures inside structures, NaN would differ from itself.
            assert rows.tobytes() == other.tobytes(), name
        else:
            np.testing.assert_array_equal(rows, other, err_msg=name)


def part(records: Batch, rows: np.ndarray) -> Batch:
    return replace(
        records,
        source=records.source[rows],
        offset=records.offset[rows],
        entity=[records.entity[i] for i in rows.tolist()],
        time=records.time[rows],
        values=records.values[rows],
    )


def learning() -> Detector:
    """Everything that may learn: a level, a remembering HMM, averages with a sketch, a steered threshold."""
    means = np.array([[-3.0, 0.0], [3.0, 0.0]])
    hmm = Hmm(np.full(2, 0.5), np.full((2, 2), 0.5), means, np.ones((2, 2)), interval_s=60.0)
    model, held_out = scoring_model(hmm, predictor=LevelPredictor(2))
    averaging = ruled(ANYTHING, ANYTHING, time_scale=TimeScale(0.3)).model.members[0]
    from detector.scoring.sketch import Sketch

    calibration = replace(averaging.calibration)
    calibration.sketch = Sketch.fit(np.random.default_rng(0).normal(size=500))
    model = replace(model, members=(model.members[0], replace(averaging, calibration=calibration)))
    own = detector(model, threshold=0.01, rules=ONE_OF_ONE)
    return replace(
        own,
        steering=Steering.of(held_out, own.threshold, own.rules, 1e-300),
        feature_rules=FeatureRules.of([FeatureRule("above"), ANYTHING]),
    )


def minutes(rows: FloatArray, entity: list[str] | None = None) -> Batch:
    return batch(rows, entity=entity, time=np.arange(0.0, 60.0 * len(rows), 60.0))


def test_nothing_is_learnt_from_records_inside() -> None:
    own, rng = learning(), np.random.default_rng(2)
    rows = records_like(own.model.density, 200, rng)
    rows[80:140] += 9.0
    records, kind = minutes(rows), np.zeros(200, dtype=np.int8)
    kind[80:140] = MAINTENANCE
    with_window, without_rows = Runner(own, ["e"]), Runner(own, ["e"])
    with_window.process(records, kind)
    before, after = np.arange(80), np.arange(140, 200)
    without_rows.process(part(records, before), None)
    # What had been noticed is forgotten at the window's beginning, and that alone is different.
    without_rows.state = replace(
        without_rows.state,
        alert=initial_state(own, ["e"]).alert,
        average=initial_state(own, ["e"]).average,
        matters=initial_state(own, ["e"]).matters,
    )
    without_rows.process(part(records, after), None)
    assert_same_state(with_window.state, without_rows.state)


def test_records_inside_are_scored_and_say_so_and_raise_nothing() -> None:
    own = ruled(ANYTHING, ANYTHING)
    rows = normal(30)
    rows[10:20] = 9.0
    kind = np.zeros(30, dtype=np.int8)
    kind[8:15], kind[15:20] = MAINTENANCE, DEPLOY
    runner = Runner(replace(own, feature_rules=None), ["e"])
    scores = runner.process(batch(rows), kind)
    assert runner.events == []
    assert not scores.alert.any()
    assert scores.rule is not None
    np.testing.assert_array_equal(scores.rule, kind)
    assert scores.exceeds_threshold[10:20].all()
    assert (scores.status == Status.SCORED).all()


def test_an_open_alert_is_resolved_when_the_window_begins() -> None:
    rows = normal(30)
    rows[5:20] = 9.0
    kind = np.zeros(30, dtype=np.int8)
    kind[10:25] = MAINTENANCE
    runner = Runner(replace(ruled(ANYTHING, ANYTHING), feature_rules=None), ["e"])
    runner.process(batch(rows), kind)
    firing, resolved = runner.events
    assert (firing.transition, firing.last_offset) == ("firing", 5)
    assert (resolved.transition, resolved.last_offset) == ("resolved", 10)
    assert resolved.resolved_because == "maintenance"
    assert resolved.alert_id == firing.alert_id
    assert resolved.end == 9.0
    assert resolved.records == 5


@pytest.mark.parametrize("scale", [None, TimeScale(0.1)])
def test_what_happened_inside_fires_nothing_afterwards_and_what_happens_afterwards_does(
    scale: TimeScale | None,
) -> None:
    rows = normal(120)
    rows[30:60] = 9.0
    kind = np.zeros(120, dtype=np.int8)
    kind[40:60] = MAINTENANCE
    own = replace(ruled(ANYTHING, ANYTHING, time_scale=scale), feature_rules=None)
    runner = Runner(own, ["e"])
    runner.process(batch(rows), kind)
    ends = [event for event in runner.events if event.transition != "updated"]
    assert [(event.transition, event.last_offset) for event in ends[1:]] == [("resolved", 40)]
    rows[90:100] = 9.0
    runner = Runner(own, ["e"])
    runner.process(batch(rows), kind)
    again = [event for event in runner.events if event.transition == "firing"][1]
    assert 90 <= again.last_offset < 100


def test_a_level_that_became_normal_stays_so_through_a_window() -> None:
    rules = AlertRules(fire_m=1, fire_of=1, release_after_s=100.0, cooldown_s=0.0)
    own = replace(ruled(ANYTHING, ANYTHING), feature_rules=None, rules=rules)
    rows = normal(400)
    rows[30:] += 9.0
    kind = np.zeros(400, dtype=np.int8)
    kind[200:250] = MAINTENANCE
    runner = Runner(own, ["e"])
    runner.process(batch(rows), kind)
    told = [(event.transition, event.resolved_because) for event in runner.events]
    assert [one for one in told if one[0] != "updated"] == [("firing", None), ("resolved", "new_normal")]
    rows[300:310] += 30.0
    runner = Runner(own, ["e"])
    runner.process(batch(rows), kind)
    assert [event.last_offset for event in runner.events if event.transition == "firing"] == [30, 300]


def test_return_to_what_was_normal_is_no_jump_for_a_predictor() -> None:
    model, _ = scoring_model(gmm(2), predictor=EwmaPredictor(np.array([0.3]), 2))
    own = detector(model, threshold=1e-5, rules=AlertRules(fire_m=1, fire_of=1))
    rows = np.zeros((60, 2))
    rows[20:40] = 50.0
    inside = Runner(own, ["e"])
    kind = np.zeros(60, dtype=np.int8)
    kind[20:40] = MAINTENANCE
    inside.process(batch(rows), kind)
    assert inside.events == []
    outside = Runner(own, ["e"])
    outside.process(batch(rows), None)
    assert outside.events


def test_late_records_stay_late_and_close_nothing() -> None:
    rows = normal(12)
    rows[5:12] = 9.0
    time = np.arange(12.0)
    time[8] = 2.0
    kind = np.zeros(12, dtype=np.int8)
    kind[8] = MAINTENANCE
    runner = Runner(replace(ruled(ANYTHING, ANYTHING), feature_rules=None), ["e"])
    scores = runner.process(batch(rows, time=time), kind)
    assert scores.status[8] == Status.LATE
    assert [e.transition for e in runner.events] == ["firing"]


def test_an_entity_first_seen_inside_warms_up_afterwards() -> None:
    model, _ = scoring_model(gmm(2), predict=True)
    own = detector(model, threshold=1e-5)
    kind = np.array([MAINTENANCE] * 3 + [0] * 3, dtype=np.int8)
    scores = Runner(own, ["e"]).process(batch(normal(6)), kind)
    assert scores.status.tolist() == [Status.WARMING_UP] * 4 + [Status.SCORED] * 2


def test_counters_are_followed_so_the_first_rate_afterwards_is_its_own() -> None:
    model, _ = scoring_model(gmm(2))
    transforms = FeatureTransforms(2, np.array([0]), np.empty(0, dtype=np.int64), np.empty(0))
    own = detector(replace(model, transforms=transforms), threshold=1e-5, rules=ONE_OF_ONE)
    rate = np.where((np.arange(30) >= 10) & (np.arange(30) < 20), 40.0, 0.5)
    rows = np.column_stack([np.cumsum(rate), np.zeros(30)])
    rows[15:, 0] -= rows[15, 0]
    kind = np.zeros(30, dtype=np.int8)
    kind[10:20] = DEPLOY
    runner = Runner(own, ["e"])
    scores = runner.process(batch(rows), kind)
    assert runner.events == []
    np.testing.assert_array_equal(scores.p_value[20:], scores.p_value[5])
    assert (scores.p_value[11:15] < 1e-5).all()


@pytest.mark.parametrize("size", [1, 23])
def test_batch_size_changes_nothing_by_a_bit(size: int) -> None:
    own, rng, n = learning(), np.random.default_rng(7), 240
    rows = records_like(own.model.density, n, rng) * np.where(rng.uniform(size=(n, 1)) < 0.15, 4.0, 1.0)
    entity = [f"e{i}" for i in rng.integers(0, 3, n)]
    records = minutes(rows, entity)
    # Windows of some entities, at different times.
    of = np.array([int(name[1]) for name in entity])
    kind = np.where((of > 0) & (np.arange(n) // 40 % 2 == of % 2), of + 3, 0).astype(np.int8)
    assert 50 < (kind > 0).sum() < 150
    whole = Runner(own, ["e0", "e1", "e2"])
    scores = whole.process(records, kind)
    pieces = Runner(own, ["e0", "e1", "e2"])
    parts = []
    for start in range(0, n, size):
        at = np.arange(start, min(start + size, n))
        parts.append(pieces.process(part(records, at), kind[at] if kind[at].any() else None))
    for name in ("status", "log_likelihood", "p_value", "anomaly_score", "exceeds_threshold", "alert"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(p, name) for p in parts]), getattr(scores, name), err_msg=name
        )
    assert {e.id for e in pieces.events} == {e.id for e in whole.events}
    assert any(e.resolved_because == "maintenance" for e in whole.events)
    assert_same_state(pieces.state, whole.state)


def inside_of(scores: Scores) -> BoolArray:
    assert scores.rule is not None
    return scores.rule >= MAINTENANCE


def test_other_entities_are_not_touched() -> None:
    own = learning()
    rows = records_like(own.model.density, 100, np.random.default_rng(4))
    records = minutes(rows, ["a", "b"] * 50)
    kind = np.where(np.arange(100) % 2 == 1, MAINTENANCE, 0).astype(np.int8)
    kind[:40] = 0
    both, alone = Runner(own, ["a", "b"]), Runner(own, ["a"])
    scores = both.process(records, kind)
    alone_scores = alone.process(part(records, np.arange(0, 100, 2)), None)
    np.testing.assert_array_equal(scores.p_value[::2], alone_scores.p_value)
    assert not inside_of(scores)[::2].any()
