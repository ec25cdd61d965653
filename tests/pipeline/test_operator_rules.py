"""Tests for detector.pipeline.operator_rules: what the operator's rules make of suspicious records."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import EntityRules, Override
from detector.alerting.feature_rules import FeatureRule, FeatureRules
from detector.alerting.rules import AlertRules, FireRules
from detector.batch import BoolArray, FloatArray, OperatorRule
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.pipeline.detector import Detector
from detector.scoring.time_scale import TimeScale
from detector.training.calibrate import calibrate
from tests.made import batch, detector, records_like, scoring_model
from tests.pipelines import outcome_of, slots_of, watch

ANYTHING = FeatureRule()
ONE_OF_ONE = AlertRules(fire_m=1, fire_of=1, resolve_records=2)


def standard_normal(d: int = 2) -> Gmm:
    return Gmm(np.ones(1), np.zeros((1, d)), np.eye(d)[None])


def ruled(*rules: FeatureRule, time_scale: TimeScale | None = None) -> Detector:
    """A detector of independent standard normal features, perhaps averaging over records."""
    model, _ = scoring_model(standard_normal(len(rules)))
    if time_scale is not None:
        own = model.members[0].density
        z = np.random.default_rng(5).normal(size=(4000, len(rules)))
        everything = np.ones(4000, dtype=bool)
        found = calibrate(
            own,
            z,
            np.arange(4000.0),
            lengths=np.array([4000]),
            model=np.zeros(1, dtype=np.int64),
            held_out=everything,
            interval_s=1.0,
            min_features=1,
            time_scale=time_scale,
            learn=False,
        )
        member = replace(model.members[0], calibration=found.calibration, time_scale=time_scale)
        model = replace(model, members=(member,))
    return replace(detector(model, threshold=1e-4, rules=ONE_OF_ONE), feature_rules=FeatureRules.of(rules))


def normal(n: int, d: int = 2) -> FloatArray:
    return np.clip(np.random.default_rng(1).normal(size=(n, d)), -2.0, 2.0)


def fired(own: Detector, rows: FloatArray) -> BoolArray:
    """Return at which rows an episode began; one begins at most at every third."""
    found = np.zeros(len(rows), dtype=bool)
    found[[e.last_offset for e in outcome_of(own, batch(rows))[1] if e.transition == "firing"]] = True
    return found


def test_only_the_side_that_matters_is_an_alert_and_scores_stay_what_they_are() -> None:
    rows = normal(30)
    rows[10, 0], rows[20, 0] = -9.0, 9.0
    own = ruled(FeatureRule("above"), FeatureRule("above"))
    assert np.flatnonzero(fired(own, rows)).tolist() == [20]
    scores, _ = outcome_of(own, batch(rows))
    plain, _ = outcome_of(replace(own, feature_rules=None), batch(rows))
    assert plain.rule is None
    assert np.flatnonzero(plain.alert).tolist() == [10, 11, 20, 21]
    np.testing.assert_array_equal(scores.p_value, plain.p_value)
    np.testing.assert_array_equal(scores.exceeds_threshold, plain.exceeds_threshold)
    assert scores.rule is not None
    assert np.flatnonzero(scores.rule).tolist() == [10]
    assert scores.rule[10] == OperatorRule.DEVIATION


def test_a_deviation_smaller_than_the_smallest_is_no_alert() -> None:
    rows = normal(30)
    rows[10, 0], rows[20, 0] = 7.0, 9.0
    own = ruled(FeatureRule(smallest_absolute=8.0), FeatureRule(smallest_absolute=8.0))
    assert np.flatnonzero(fired(own, rows)).tolist() == [20]


def test_what_another_feature_does_still_counts() -> None:
    rows = normal(40)
    rows[10] = -9.0, 3.0
    rows[20] = -7.0, 9.0
    # Far more on the side that does not matter; but the other feature would be suspicious by itself.
    rows[30] = -30.0, 9.0
    own = ruled(FeatureRule("above"), ANYTHING)
    assert np.flatnonzero(fired(own, rows)).tolist() == [20, 30]
    only_first = normal(40)
    only_first[10] = -9.0, 1.0
    assert not fired(own, only_first).any()


def test_an_episode_resolves_while_only_the_other_side_is_suspicious() -> None:
    rows = normal(30)
    rows[10:12, 0] = 9.0
    rows[12:20, 0] = -9.0
    own = ruled(FeatureRule("above"), FeatureRule("above"))
    scores, events = outcome_of(own, batch(rows))
    assert [(e.transition, e.last_offset) for e in events] == [("firing", 10), ("resolved", 13)]
    assert scores.exceeds_threshold[10:20].all()


def test_a_slow_average_is_judged_by_what_made_it_suspicious() -> None:
    """After a fall, records that happen to lie above must not make an alert of the average."""
    fall, rise = normal(200, 1), normal(200, 1)
    fall[100:160] -= 2.5
    rise[100:160] += 2.5
    own = ruled(FeatureRule("above"), time_scale=TimeScale(0.1))
    scores, _ = outcome_of(own, batch(fall))
    suspicious = np.flatnonzero(scores.exceeds_threshold)
    assert suspicious.size > 20
    assert (fall[suspicious] > 0).any()
    assert not fired(own, fall).any()
    assert fired(own, rise).any()
    assert fired(replace(own, feature_rules=None), fall).any()


def test_a_value_out_of_range_is_an_alert_of_an_entity_that_is_restless_too() -> None:
    own, rows = ruled(ANYTHING, FeatureRule(low=-20.0, high=2.5)), np.zeros((200, 2))
    rows[10:15] = -9.0
    # Of every other record the p-value is below .1.
    rows[15::2, 0] = 2.3
    rows[150, 1] = 2.6
    _, events = outcome_of(own, batch(rows, time=60.0 * np.arange(200.0)))
    assert [event.last_offset for event in events if event.transition == "firing"] == [10, 150]


def test_a_value_out_of_range_is_an_alert_however_probable_it_is() -> None:
    rows = normal(30)
    rows[10, 1] = -0.5
    own = ruled(FeatureRule("above"), FeatureRule(low=-0.4, high=9.0))
    rows[:, 1] = np.where(np.arange(30) == 10, rows[:, 1], np.abs(rows[:, 1]))
    scores, events = outcome_of(own, batch(rows))
    firing = next(e for e in events if e.transition == "firing")
    assert firing.last_offset == 10
    assert firing.reasons[0].feature == "f1"
    assert firing.reasons[0].valid_range == (-0.4, 9.0)
    assert firing.reasons[1].valid_range is None
    assert firing.anomaly_score == 1.0
    assert firing.p_value == scores.p_value[10] > 0.01
    assert not scores.exceeds_threshold[10]
    assert scores.rule is not None
    assert scores.rule[10] == OperatorRule.OUT_OF_RANGE


def test_a_range_matters_whatever_the_direction() -> None:
    rows = normal(30)
    rows[10, 0] = -9.0
    own = ruled(FeatureRule("above", low=-8.0), FeatureRule("above"))
    assert np.flatnonzero(fired(own, rows)).tolist() == [10]


def overridden(own: Detector, *overrides: Override, nats: tuple[float, ...] = ()) -> Detector:
    return replace(own, entity_rules=EntityRules.of(overrides, nats or [0.0] * len(overrides)))


def test_overrides_by_entity() -> None:
    rows = np.vstack([normal(12) for _ in range(3)])
    entity = ["web-1"] * 12 + ["db-1"] * 12 + ["test-1"] * 12
    rows[[5, 17, 29], 0] = 9.0
    own = overridden(
        replace(ruled(ANYTHING, ANYTHING), feature_rules=None),
        Override(EntityPatterns(("db-*",)), severity="critical"),
        Override(EntityPatterns(("test-*",)), mute=True),
    )
    scores, events = outcome_of(own, batch(rows, entity=entity))
    assert {(e.entity, e.severity) for e in events} == {("web-1", "warning"), ("db-1", "critical")}
    assert scores.rule is not None
    assert np.flatnonzero(scores.rule == OperatorRule.MUTED).tolist() == [29]
    assert scores.exceeds_threshold[29]


def test_an_own_budget_moves_an_entitys_threshold_and_its_scores() -> None:
    rows = np.vstack([normal(12)] * 2)
    rows[[5, 17], 0] = 5.0
    own = replace(ruled(ANYTHING, ANYTHING), feature_rules=None)
    strict = overridden(own, Override(EntityPatterns(("db-*",))), nats=(5.0,))
    records = batch(rows, entity=["web-1"] * 12 + ["db-1"] * 12)
    plain, _ = outcome_of(own, records)
    scores, events = outcome_of(strict, records)
    np.testing.assert_array_equal(scores.p_value, plain.p_value)
    np.testing.assert_array_equal(scores.anomaly_score[:12], plain.anomaly_score[:12])
    np.testing.assert_allclose(
        scores.anomaly_score[12:] * (5.0 - np.log(1e-4)), plain.anomaly_score[12:] * -np.log(1e-4)
    )
    assert {e.entity for e in events} == {"web-1"}


def test_entities_with_m_of_n_of_their_own_fire_by_it() -> None:
    rows = np.vstack([normal(12)] * 3)
    rows[[5, 17, 29, 30, 31], 0] = 9.0
    own = overridden(
        replace(ruled(ANYTHING, ANYTHING), feature_rules=None),
        Override(EntityPatterns(("db-*",)), fire=FireRules(3, 4, 0.0)),
    )
    entity = ["web-1"] * 12 + ["db-1"] * 12 + ["db-2"] * 12
    _, events = outcome_of(own, batch(rows, entity=entity))
    fired = [(e.entity, e.last_offset) for e in events if e.transition == "firing"]
    assert sorted(fired) == [("db-2", 31), ("web-1", 5)]


def test_an_override_is_found_once_for_each_entity() -> None:
    class Counting(EntityRules):
        asked: ClassVar[list[str]] = []

        def index_of(self, entities):  # type: ignore[no-untyped-def]
            self.asked.extend(entity for entity in entities if entity)
            return super().index_of(entities)

    own = replace(ruled(ANYTHING), entity_rules=Counting.of([Override(EntityPatterns(("e",)))], [0.0]))
    runner, records = watch(own), batch(normal(6, 1), entity=list("abcabc"))
    for _ in range(3):
        runner.process(records, slots_of(records))
    assert sorted(Counting.asked) == ["a", "b", "c"]


@pytest.mark.parametrize("family", ["gmm", "hmm"])
def test_batch_size_changes_nothing(family: str) -> None:
    if family == "gmm":
        own = ruled(
            FeatureRule("above"), FeatureRule(smallest_absolute=6.0, high=5.0), time_scale=TimeScale(0.3)
        )
    else:
        means = np.array([[-6.0, 0.0], [6.0, 0.0]])
        hmm = Hmm(
            np.full(2, 0.5), np.array([[0.95, 0.05], [0.1, 0.9]]), means, np.ones((2, 2)), interval_s=1.0
        )
        own = replace(
            detector(scoring_model(hmm)[0], threshold=0.02, rules=ONE_OF_ONE),
            feature_rules=FeatureRules.of([FeatureRule("above"), FeatureRule(smallest_absolute=3.0)]),
        )
    rng = np.random.default_rng(3)
    rows = records_like(own.model.density, 300, rng) * np.where(rng.uniform(size=(300, 1)) < 0.2, 4.0, 1.0)
    records = batch(rows, entity=[f"e{i}" for i in rng.integers(0, 4, 300)])
    slots = slots_of(records)
    whole, whole_events = outcome_of(own, records)
    assert whole.rule is not None
    assert len(set(whole.rule.tolist())) >= 2
    for size in (1, 17):
        runner, rule, alert, events = watch(own), [], [], []
        for start in range(0, 300, size):
            at = slice(start, start + size)
            part = replace(
                records,
                source=records.source[at],
                offset=records.offset[at],
                entity=records.entity[at],
                time=records.time[at],
                values=records.values[at],
            )
            scores, new = runner.process(part, slots[at])
            rule.append(np.zeros(len(part), dtype=np.int8) if scores.rule is None else scores.rule)
            alert.append(scores.alert)
            events += new
        np.testing.assert_array_equal(np.concatenate(rule), whole.rule)
        np.testing.assert_array_equal(np.concatenate(alert), whole.alert)
        assert sorted(e.id for e in events) == sorted(e.id for e in whole_events)
