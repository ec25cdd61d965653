"""Tests for values that stay the same, from the record to the alert and its text."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import EntityRules, Override
from detector.alerting.event import AlertEvent, Stuck
from detector.alerting.feature_rules import FeatureRule
from detector.alerting.reopened import ToldAlert
from detector.batch import Batch, FloatArray, OperatorRule, Scores, Status
from detector.delivery.alert import decode_alert
from detector.delivery.wording import firing_summary, resolved_summary
from detector.explain.replay import replay
from detector.models.feature_transforms import FeatureTransforms
from detector.pipeline.detector import Detector
from detector.stream.alert_record import encode_alert
from detector.stream.watch import Watch
from tests.made import batch
from tests.pipeline.test_maintenance import MAINTENANCE, Runner, part
from tests.pipeline.test_operator_rules import ANYTHING, normal, ruled
from tests.pipelines import outcome_of, slots_of, watch

BEGIN = 1.8e9 - 1.8e9 % 86_400 + 7200.0
"""02:00 UTC of some day."""
MAY_NOT_STAY = FeatureRule(stuck_after_s=1800.0)


def watching(*rules: FeatureRule) -> Detector:
    """A detector of standard normal features, of records that come once a minute."""
    own = ruled(*rules)
    names = ("pressure", "load", "power")[: len(rules)]
    return replace(own, model=replace(own.model, feature_names=names), interval_s=60.0)


def minutes(rows: FloatArray, entity: list[str] | None = None) -> Batch:
    """The records of one entity, or of several that send by turns."""
    turns = len(set(entity or ["e"]))
    return batch(rows, entity=entity, time=BEGIN + 60.0 * (np.arange(float(len(rows))) // turns))


def frozen(first: int, last: int, n: int = 80) -> FloatArray:
    """Rows of which the first feature is the same from one row to before another."""
    rows = normal(n)
    rows[first:last, 0] = 0.25
    return rows


def happened(events: list[AlertEvent]) -> list[tuple[str, int]]:
    return [(e.transition, e.last_offset) for e in events if e.transition != "updated"]


def rules_told(scores: Scores) -> dict[int, str]:
    assert scores.rule is not None
    return {i: OperatorRule(rule).text for i, rule in enumerate(scores.rule.tolist()) if rule}


def test_a_stuck_value_is_an_alert_that_says_since_when_until_the_value_moves() -> None:
    records = minutes(frozen(10, 60))
    scores, events = outcome_of(watching(MAY_NOT_STAY, ANYTHING), records)
    assert happened(events) == [("firing", 40), ("resolved", 61)]
    firing, over = events[0], events[-1]
    first, other = firing.reasons
    assert (first.feature, first.actual, other.stuck) == ("pressure", 0.25, None)
    assert first.stuck == Stuck(0.25, BEGIN + 600.0, 1800.0, 1800.0)
    assert over.end == BEGIN + 59 * 60.0
    assert (firing.anomaly_score, firing.severity, firing.side) == (1.0, "warning", "unlikely")
    assert firing.p_value == scores.p_value[40] > 0.01
    assert not scores.exceeds_threshold.any()
    assert rules_told(scores) == dict.fromkeys(range(40, 60), "stuck")
    alert = decode_alert(encode_alert(firing, "g").value)
    assert firing_summary(alert) == (
        "e: pressure has been 0.25 since 02:10 UTC, for 30 minutes (stuck_after is 30 minutes)"
    )
    ended = decode_alert(encode_alert(over, "g").value)
    assert resolved_summary(ended) == "e: no longer unusual after 21 minutes"


def test_without_the_rule_nothing_is_different() -> None:
    records = minutes(frozen(10, 60))
    plain, none = outcome_of(watching(ANYTHING, ANYTHING), records)
    scores, _ = outcome_of(watching(MAY_NOT_STAY, ANYTHING), records)
    assert (plain.rule, none) == (None, [])
    for name in ("status", "log_likelihood", "p_value", "anomaly_score"):
        np.testing.assert_array_equal(getattr(scores, name), getattr(plain, name))


def test_what_became_the_cause_while_another_alert_fires_is_told() -> None:
    rows = frozen(10, 60)
    rows[30:50, 1] = 9.0
    _, events = outcome_of(watching(MAY_NOT_STAY, ANYTHING), minutes(rows))
    assert events[0].reasons[0].feature == "load"
    moved = next(e for e in events if e.updated_because == "feature")
    assert (moved.reasons[0].feature, moved.time) == ("pressure", BEGIN + 40 * 60.0)


def test_a_value_out_of_range_that_stays_is_told_of_as_both() -> None:
    own, rows = watching(replace(MAY_NOT_STAY, low=0.5), ANYTHING), np.abs(normal(80)) + 0.5
    rows[10:60, 0] = 0.25
    scores, _ = outcome_of(own, minutes(rows))
    assert rules_told(scores) == dict.fromkeys(range(10, 60), "out_of_range")
    early, late = (replay(own, [minutes(rows)], "e", i, i, "", None)[0].features[0] for i in (20, 50))
    assert (early.valid_range, late.valid_range) == ((0.5, None), (0.5, None))
    assert (early.stuck is None, late.stuck is None) == (True, False)


def test_late_and_repeated_records_and_such_without_a_value_do_not_count() -> None:
    rows = frozen(0, 40)
    time = BEGIN + 60.0 * np.arange(80.0)
    rows[35, 0] = np.nan
    # A record from before, with another value, and one that comes twice.
    late, twice = rows[:1] + 5.0, rows[38:39]
    values = np.concatenate((rows[:33], late, rows[33:39], twice, rows[39:]))
    times = np.concatenate((time[:33], time[:1], time[33:39], time[38:39], time[39:]))
    scores, events = outcome_of(watching(MAY_NOT_STAY, ANYTHING), batch(values, time=times))
    assert [scores.status[33], scores.status[40]] == [Status.LATE, Status.DUPLICATE]
    assert list(rules_told(scores)) == [30, 31, 32, 34, 35, 37, 38, 39, 41]
    assert happened(events) == [("firing", 30), ("resolved", 43)]


def test_of_a_counter_the_total_counts() -> None:
    own = watching(MAY_NOT_STAY, ANYTHING)
    counter = FeatureTransforms(2, np.array([0]), np.empty(0, dtype=np.int64), np.empty(0))
    own = replace(own, model=replace(own.model, transforms=counter))
    rows = normal(80)
    rows[:, 0] = np.cumsum(np.r_[np.ones(10), np.zeros(50), np.ones(20)])
    _, events = outcome_of(own, minutes(rows))
    # The total is the same from its record 9 on, the rate is 0 from the next one on.
    assert happened(events)[0] == ("firing", 39)
    assert events[0].reasons[0].actual == 0.0
    assert events[0].reasons[0].stuck == Stuck(10.0, BEGIN + 540.0, 1800.0, 1800.0)
    # A steady rate is a total that moves.
    rows[:, 0] = np.arange(80.0)
    assert outcome_of(own, minutes(rows))[1] == []
    # A total below 0 counts as missing.
    rows[:, 0] = -1.0
    assert outcome_of(own, minutes(rows))[1] == []


def test_nothing_of_a_muted_entity_fires() -> None:
    own = watching(MAY_NOT_STAY, ANYTHING)
    own = replace(own, entity_rules=EntityRules.of([Override(EntityPatterns(("e",)), mute=True)], [0.0]))
    scores, events = outcome_of(own, minutes(frozen(10, 60)))
    assert events == []
    assert set(rules_told(scores).values()) == {"muted"}


def test_in_maintenance_nothing_fires_and_afterwards_it_begins_anew() -> None:
    rows = frozen(10, 130, 140)
    kind = np.zeros(140, dtype=np.int8)
    kind[30:80] = MAINTENANCE
    runner = Runner(watching(MAY_NOT_STAY, ANYTHING), ["e"])
    runner.process(minutes(rows), kind)
    assert happened(runner.events) == [("firing", 110), ("resolved", 131)]
    kind[:45], kind[45:] = 0, MAINTENANCE
    runner = Runner(watching(MAY_NOT_STAY, ANYTHING), ["e"])
    runner.process(minutes(rows), kind)
    assert happened(runner.events) == [("firing", 40), ("resolved", 45)]
    assert runner.events[-1].resolved_because == "maintenance"


@pytest.mark.parametrize("size", [1, 17])
def test_batch_size_changes_nothing(size: int) -> None:
    rng = np.random.default_rng(6)
    names = [f"e{i}" for i in rng.permuted(np.tile(np.arange(4), (100, 1)), axis=1).ravel()]
    rows = normal(400, 3)
    for column, (first, last) in enumerate(((60, 300), (200, 400))):
        stays = np.arange(400)[first:last]
        rows[stays, column] = [0.1 * int(names[i][1:]) for i in stays]
    rows[rng.random((400, 3)) < 0.1] = np.nan
    records = minutes(rows, names)
    records = replace(records, time=records.time + 7000.5 * (np.arange(400) > 250))
    own, slots = watching(MAY_NOT_STAY, replace(MAY_NOT_STAY, high=1.9), ANYTHING), slots_of(records)
    whole, whole_events = outcome_of(own, records)
    assert {"stuck", "out_of_range"} <= set(rules_told(whole).values())
    runner, rule, events = watch(own), np.zeros(400, dtype=np.int8), []
    for first in range(0, 400, size):
        at = np.arange(first, min(first + size, 400))
        scores, new = runner.process(part(records, at), slots[at])
        rule[at] = 0 if scores.rule is None else scores.rule
        events += new
    np.testing.assert_array_equal(rule, whole.rule)
    written = [sorted(encode_alert(e, "g").value for e in each) for each in (events, whole_events)]
    assert written[0] == written[1]


def process(by: Watch, records: Batch, first: int, last: int) -> list[AlertEvent]:
    return by.process(part(records, np.arange(first, last)), np.zeros(last - first, dtype=np.int64))[1]


def test_another_version_goes_on_with_what_stays() -> None:
    records, before = minutes(frozen(10, 60)), watch(watching(MAY_NOT_STAY, ANYTHING))
    assert process(before, records, 0, 30) == []
    newer = watch(before.detector)
    newer.inherit(before)
    assert happened(process(newer, records, 30, 80)) == [("firing", 40), ("resolved", 61)]


def test_a_restart_does_not_end_an_alert_about_what_stays() -> None:
    records, before = minutes(frozen(10, 60)), watch(watching(MAY_NOT_STAY, ANYTHING))
    firing = process(before, records, 0, 45)[0]
    newer = watch(before.detector)
    newer.recall(records.sources, [ToldAlert(firing, firing.time, True)], [])
    assert happened(process(newer, records, 45, 80)) == [("resolved", 61)]


def test_it_is_explained_by_the_same_words() -> None:
    own, records = watching(MAY_NOT_STAY, ANYTHING), minutes(frozen(10, 60))
    moments = replay(own, [records], "e", 39, 41, "", None)
    assert [moment.rule for moment in moments] == ["", "stuck", "stuck"]
    assert [moment.features[0].stuck is None for moment in moments] == [True, False, False]
