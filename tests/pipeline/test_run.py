"""Tests for detector.pipeline.run: the same numbers, to the bit, however records are batched."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.event import AlertEvent
from detector.alerting.rules import AlertRules
from detector.batch import Batch, IntArray, Status
from detector.models.families import FAMILIES
from detector.models.hmm import Hmm
from detector.models.predictors import PREDICTORS
from detector.models.scaling import Scaling
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import initial_state
from detector.pipeline.run import run
from tests.made import batch, detector, fitted, gmm, predictor_called, records_like, scoring_model
from tests.models.families_by_hand import random_rbm
from tests.pipelines import outcome_of, scores_of, slots_of, watch


def made(family: str) -> Detector:
    model, _ = scoring_model(fitted(family), predict=True)
    return detector(model, threshold=0.05)


def part(records: Batch, rows: IntArray) -> Batch:
    return replace(
        records,
        source=records.source[rows],
        offset=records.offset[rows],
        entity=[records.entity[i] for i in rows],
        time=records.time[rows],
        values=records.values[rows],
        labels={name: [texts[i] for i in rows] for name, texts in records.labels.items()},
    )


def mixed_batch(own: Detector, n: int = 400, missing: float = 0.0) -> Batch:
    rng = np.random.default_rng(11)
    rows = records_like(own.model.density, n, rng) * np.where(rng.uniform(size=(n, 1)) < 0.1, 6.0, 1.0)
    rows[rng.uniform(size=rows.shape) < missing] = np.nan
    return batch(rows, entity=[f"e{i}" for i in rng.integers(0, 7, n)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_batch_size_changes_nothing_by_a_bit(family: str, missing: float) -> None:
    own = made(family)
    check_batch_sizes(own, mixed_batch(own, missing=missing))


@pytest.mark.parametrize(("predictor", "order"), [*((name, 1) for name in PREDICTORS), ("autoregressive", 3)])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_batch_size_changes_nothing_by_a_bit_with_any_predictor(
    predictor: str, order: int, missing: float
) -> None:
    model, _ = scoring_model(gmm(), predictor=predictor_called(predictor, 3, order=order))
    own = detector(model, threshold=0.05)
    records = mixed_batch(own, missing=missing)
    check_batch_sizes(own, replace(records, time=700.0 * records.time))


def check_batch_sizes(own: Detector, records: Batch) -> None:
    slots = slots_of(records)
    whole, whole_events = watch(own).process(records, slots)
    assert whole_events, "the batch must hold alerts for this test to say anything about them"
    rng = np.random.default_rng(0)
    for largest in (1, 3, 50):
        runner, events, pieces, at = watch(own), [], [], 0
        while at < len(records):
            rows = np.arange(at, min(len(records), at + int(rng.integers(1, largest + 1))))
            scores, new = runner.process(part(records, rows), slots[rows])
            pieces.append(scores)
            events += new
            at = int(rows[-1]) + 1
        for column in ("status", "log_likelihood", "p_value", "anomaly_score", "exceeds_threshold", "alert"):
            np.testing.assert_array_equal(
                np.concatenate([getattr(p, column) for p in pieces]), getattr(whole, column), err_msg=column
            )
        assert by_offset(events) == by_offset(whole_events)


def by_offset(events: list[AlertEvent]) -> list[AlertEvent]:
    """In one order, without the incident: who else alarms is known by the end of a batch."""
    alone = [replace(event, incident_id=None) for event in events]
    return sorted(alone, key=lambda event: event.last_offset)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_entities_in_the_batch_change_nothing_by_a_bit(family: str) -> None:
    own = made(family)
    records = mixed_batch(own)
    together = scores_of_batch(own, records)
    for entity in sorted(set(records.entity)):
        rows = np.array([i for i, e in enumerate(records.entity) if e == entity])
        alone = scores_of_batch(own, part(records, rows))
        np.testing.assert_array_equal(alone.log_likelihood, together.log_likelihood[rows])
        np.testing.assert_array_equal(alone.alert, together.alert[rows])


def scores_of_batch(own: Detector, records: Batch):  # type: ignore[no-untyped-def]
    return outcome_of(own, records)[0]


def test_score_is_empty_exactly_when_the_record_is_not_scored() -> None:
    own = made("gmm")
    records = mixed_batch(own, missing=0.6)
    scores = scores_of_batch(own, records)
    scored = scores.status == Status.SCORED
    assert 0 < scored.sum() < len(records)
    for column in (scores.log_likelihood, scores.p_value, scores.anomaly_score):
        np.testing.assert_array_equal(np.isnan(column), ~scored)
    assert not scores.exceeds_threshold[~scored].any()
    assert not scores.alert[~scored].any()


def test_first_record_of_an_entity_warms_the_predictor_up() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 4, np.random.default_rng(0))
    assert scores_of(own, rows).status.tolist() == [Status.WARMING_UP, *[Status.SCORED] * 3]


def test_record_older_than_its_predecessor_is_late_and_changes_no_state() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 6, np.random.default_rng(0))
    time = np.array([0.0, 1, 2, 0.5, 3, 4])
    with_late, _ = outcome_of(own, batch(rows, time=time))
    kept = [0, 1, 2, 4, 5]
    without, _ = outcome_of(own, batch(rows[kept], time=time[kept]))
    assert with_late.status.tolist()[3] == Status.LATE
    np.testing.assert_array_equal(with_late.log_likelihood[kept], without.log_likelihood)


def test_the_state_given_stays_as_it_was() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 3, np.random.default_rng(0))
    before, one = initial_state(own, ["e"]), np.array([3])
    # The second record has the time of the first and other values, the third is late.
    after = run(own, before, batch(rows, time=np.array([5.0, 5.0, 4.0])), np.arange(3), one).state
    assert (before.time[0], before.records[0], after.time[0], after.records[0]) == (-np.inf, 0, 5.0, 2)


def test_record_that_comes_twice_is_a_duplicate_and_changes_no_state() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 5, np.random.default_rng(0))
    twice, time = rows[[0, 1, 1, 2, 3, 3, 3, 4]], np.array([0.0, 1, 1, 2, 3, 3, 3, 4])
    scores, _ = outcome_of(own, batch(twice, time=time))
    without = scores_of(own, rows)
    kept = [0, 1, 3, 4, 7]
    assert [i for i, status in enumerate(scores.status) if status == Status.DUPLICATE] == [2, 5, 6]
    np.testing.assert_array_equal(scores.log_likelihood[kept], without.log_likelihood)


@pytest.mark.parametrize("largest", [1, 7, 1000])
def test_scores_of_good_records_have_the_same_bits_whatever_bad_ones_come_between(largest: int) -> None:
    model, _ = scoring_model(fitted("hmm"), predictor=predictor_called("ewma", 3))
    own = detector(model, threshold=0.05)
    rng = np.random.default_rng(5)
    good = mixed_batch(own, 300)
    slots = slots_of(good)
    whole, events = watch(own).process(good, slots)
    # After each record perhaps the same one again, and perhaps one that is long past, with absurd values.
    n = len(good)
    again, past = rng.uniform(size=n) < 0.2, rng.uniform(size=n) < 0.2
    rows = np.repeat(np.arange(n), 1 + again + past)
    starts = np.cumsum(1 + again + past) - (1 + again + past)
    is_good = np.zeros(len(rows), dtype=bool)
    is_good[starts] = True
    is_past = np.zeros(len(rows), dtype=bool)
    is_past[(starts + 1 + again)[past]] = True
    mixed = part(good, rows)
    mixed = replace(
        mixed,
        time=np.where(is_past, mixed.time - rng.uniform(1.0, 1e6, len(rows)), mixed.time),
        values=np.where(is_past[:, None], 1e9, mixed.values),
    )
    runner, pieces, found, at = watch(own), [], [], 0
    while at < len(rows):
        several = np.arange(at, min(len(rows), at + int(rng.integers(1, largest + 1))))
        scores, new = runner.process(part(mixed, several), slots[rows[several]])
        pieces.append(scores)
        found += new
        at = int(several[-1]) + 1
    for column in ("log_likelihood", "p_value", "anomaly_score", "alert"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(p, column) for p in pieces])[is_good], getattr(whole, column)
        )
    status = np.concatenate([p.status for p in pieces])
    np.testing.assert_array_equal(status[is_good], whole.status)
    assert (status[is_past] == Status.LATE).all()
    assert (status[~is_good & ~is_past] == Status.DUPLICATE).all()
    assert sorted(event.id for event in found) == sorted(event.id for event in events)


def test_late_across_batches_and_equal_times_are_not_late() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 4, np.random.default_rng(0))
    runner = watch(own)
    slots = np.zeros(2, dtype=np.int64)
    runner.process(batch(rows[:2], time=np.array([10.0, 10.0])), slots)
    scores, _ = runner.process(batch(rows[2:], time=np.array([9.0, 10.0])), slots)
    assert scores.status.tolist() == [Status.LATE, Status.SCORED]


def test_batch_of_late_records_only() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 4, np.random.default_rng(0))
    runner = watch(own)
    slots = np.zeros(2, dtype=np.int64)
    runner.process(batch(rows[:2], time=np.array([10.0, 11.0])), slots)
    scores, events = runner.process(batch(rows[2:], time=np.array([9.0, 8.0])), slots)
    assert scores.status.tolist() == [Status.LATE] * 2
    assert events == []


def test_vanished_features_are_a_status_and_not_a_healthy_score() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 10, np.random.default_rng(0))
    rows[5:] = np.nan
    scores = scores_of(own, rows)
    assert scores.status.tolist()[5:] == [Status.TOO_FEW_FEATURES] * 5


@pytest.mark.parametrize("family", FAMILIES)
def test_alert_names_the_feature_that_went_wrong_and_what_was_expected(family: str) -> None:
    model, _ = scoring_model(fitted(family), predict=True)
    own = detector(model, threshold=1e-4, rules=AlertRules(fire_m=1, fire_of=1))
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[50:53, 1] += 40.0
    scores, events = outcome_of(own, batch(rows))
    assert scores.alert[50]
    event = next(e for e in events if e.last_offset == 50)
    assert event.transition == "firing"
    assert event.reasons[0].feature == "f1"
    reason = event.reasons[0]
    assert reason.actual == pytest.approx(rows[50, 1])
    assert isinstance(reason.expected, float)
    assert isinstance(reason.std, float)
    assert abs(rows[50, 1] - reason.expected) > 10 * reason.std
    assert event.return_period_s == pytest.approx(1.0 / event.p_value)


@pytest.mark.parametrize("records_at_once", [1, 7, 100])
def test_what_goes_on_is_told_with_the_reasons_of_what_was_worst_or_is_the_cause_now(
    records_at_once: int,
) -> None:
    model, _ = scoring_model(gmm(), predict=True)
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=3, critical_for_s=300.0, keep_alive_s=240.0)
    own = replace(detector(model, threshold=1e-4, rules=rules), interval_s=60.0)
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:29, 0] += 8.0 * (-1.0) ** np.arange(9)
    rows[22, 2] += 60.0
    labels: dict[str, list[str | None]] = {"team": [f"t{i}" for i in range(60)]}
    records = replace(batch(rows, time=1e9 + 60.0 * np.arange(60.0)), labels=labels)
    runner, events = watch(own), []
    for at in np.split(np.arange(60), range(records_at_once, 60, records_at_once)):
        events += runner.process(part(records, at), np.zeros(len(at), dtype=np.int64))[1]
    assert [(e.transition, e.updated_because, e.resolved_because, e.last_offset - 20) for e in events] == [
        ("firing", None, None, 0),
        ("updated", "peak", None, 2),
        ("updated", "feature", None, 4),
        ("updated", "severity", None, 5),
        ("updated", "keep_alive", None, 8),
        ("resolved", None, "calm", 11),
    ]
    assert len({e.id for e in events}) == len(events)
    assert len({e.alert_id for e in events}) == 1
    assert [e.severity for e in events] == ["warning"] * 3 + ["critical"] * 3
    # Three keep-alives, at intervals of a minute.
    assert [e.expires_at for e in events[:-1]] == [e.time + 720.0 for e in events[:-1]]
    assert events[-1].expires_at is None
    assert [e.reasons[0].feature for e in events] == ["f0", "f2"] + ["f0"] * 4
    assert [e.explained for e in events] == [e.time for e in events[:3]] + [events[2].time] * 3
    assert [e.reasons for e in events[3:]] == [events[2].reasons] * 3
    assert [e.labels for e in events] == [{"team": f"t{e.last_offset}"} for e in events]


@pytest.mark.parametrize("records_at_once", [1, 7, 100])
def test_an_alert_whose_cause_moves_says_so_once_and_names_the_new_one(records_at_once: int) -> None:
    model, _ = scoring_model(gmm(), predict=True)
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=3, keep_alive_s=2.0, severity="critical")
    own = detector(model, threshold=1e-4, rules=rules)
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:27, 0] += 30.0 * (-1.0) ** np.arange(7)
    rows[27:34, 2] += 30.0 * (-1.0) ** np.arange(7)
    records, runner, events = batch(rows), watch(own), []
    for at in np.split(np.arange(60), range(records_at_once, 60, records_at_once)):
        events += runner.process(part(records, at), np.zeros(len(at), dtype=np.int64))[1]
    told = [(e.updated_because, e.reasons[0].feature, e.explained) for e in events if e.time < 34]
    assert told == [
        (None, "f0", 20.0),
        *[("keep_alive", "f0", 20.0)] * 3,
        ("feature", "f2", 28.0),
        *[("keep_alive", "f2", 28.0)] * 2,
    ]


def test_features_that_surprise_about_as_much_do_not_take_turns() -> None:
    model, _ = scoring_model(gmm())
    own = detector(model, threshold=1e-4, rules=AlertRules(fire_m=1, fire_of=1, keep_alive_s=1.0))
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:50, [0, 2]] += 30.0
    rows[20:50, 0] += np.where(np.arange(30) % 2, 3.5, -3.5)
    _, events = outcome_of(own, batch(rows))
    assert "keep_alive" in {e.updated_because for e in events}
    assert "feature" not in {e.updated_because for e in events}


def test_an_alert_that_was_critical_from_the_beginning_does_not_get_so() -> None:
    model, _ = scoring_model(gmm(), predict=True)
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=3, critical_for_s=2.0, severity="critical")
    own = detector(model, threshold=1e-4, rules=rules)
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:29, 0] += 8.0 * (-1.0) ** np.arange(9)
    _, events = outcome_of(own, batch(rows))
    assert {event.severity for event in events} == {"critical"}
    assert "updated" in {event.transition for event in events}
    assert "severity" not in {event.updated_because for event in events}


def test_information_never_becomes_critical() -> None:
    model, _ = scoring_model(gmm(), predict=True)
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=3, critical_for_s=2.0, severity="info")
    own = detector(model, threshold=1e-4, rules=rules)
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:29, 0] += 8.0 * (-1.0) ** np.arange(9)
    _, events = outcome_of(own, batch(rows))
    assert {event.severity for event in events} == {"info"}
    assert "severity" not in {event.updated_because for event in events}


@pytest.mark.parametrize("records_at_once", [1, 7, 400])
def test_alert_tells_the_state_that_was_left_whatever_the_batches(records_at_once: int) -> None:
    transition = np.array([[0.99, 0.01 - 1e-7, 1e-7], [0.02, 0.97, 0.01], [0.5, 0.5 - 1e-7, 1e-7]])
    means = np.array([[-20.0, 0.0], [20.0, 0.0], [0.0, 60.0]])
    hmm = Hmm(np.array([0.6, 0.4, 0.0]), transition, means, np.ones((3, 2)), interval_s=60.0)
    own = detector(scoring_model(hmm)[0], threshold=1e-4, rules=AlertRules(fire_m=2, fire_of=3))
    states = np.repeat([1, 0, 2], [30, 240, 5])
    rows = means[states] + np.random.default_rng(0).normal(size=(275, 2))
    records = batch(rows, time=np.arange(0.0, 275 * 60.0, 60.0))
    runner, events = watch(own), []
    for at in np.split(np.arange(275), range(records_at_once, 275, records_at_once)):
        events += runner.process(part(records, at), np.zeros(len(at), dtype=np.int64))[1]
    event = next(event for event in events if event.transition == "firing")
    assert event.last_offset == 271
    assert event.regime is not None
    assert (event.regime.index, event.regime.for_s) == (2, 60.0)
    assert event.regime.left is not None
    assert (event.regime.left.index, event.regime.left.for_s) == (0, 240 * 60.0)
    assert event.regime.left.transition_probability == pytest.approx(1e-7)


def test_who_is_blamed_does_not_depend_on_units() -> None:
    model, _ = scoring_model(gmm(n_components=1))
    rows = records_like(model.density, 60, np.random.default_rng(2))
    rows[20, 1] += 30.0
    (member,) = model.members
    units = np.array([1e6, 1e-6, 1.0])
    in_units = replace(member.density, scaling=Scaling(np.zeros((1, 3)), units[None]))
    other = replace(model, members=(replace(member, density=in_units),))
    rules = AlertRules(fire_m=1, fire_of=1)
    blamed = []
    for own, values in ((model, rows), (other, rows * units)):
        _, events = outcome_of(detector(own, threshold=1e-4, rules=rules), batch(values))
        blamed.append({reason.feature: reason.nats for reason in events[0].reasons})
        assert events[0].reasons[0].feature == "f1"
    assert blamed[1] == pytest.approx(blamed[0])


def test_alert_says_that_records_were_too_likely() -> None:
    model, _ = scoring_model(random_rbm(30, 3))
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=2, cooldown_s=0.0)
    own = detector(model, threshold=1e-3, rules=rules)
    rows = records_like(own.model.density, 60, np.random.default_rng(2))
    rows[20:23] = records_like(own.model.density, 4000, np.random.default_rng(3)).mean(axis=0)
    rows[40, 1] += 40.0
    _, events = outcome_of(own, batch(rows))
    assert [(event.transition, event.side, event.last_offset) for event in events] == [
        ("firing", "too_likely", 20),
        ("resolved", "too_likely", 24),
        ("firing", "unlikely", 40),
        ("resolved", "unlikely", 42),
    ]
    # First what lies closest to what was expected of it, and what lies farthest.
    assert (np.diff([reason.nats for reason in events[0].reasons]) >= 0).all()
    assert (np.diff([reason.nats for reason in events[2].reasons]) <= 0).all()
    reason = events[0].reasons[0]
    assert isinstance(reason.actual, float)
    assert isinstance(reason.expected, float)
    assert isinstance(reason.std, float)
    assert abs(reason.actual - reason.expected) < reason.std


def test_absurd_values_are_improbable_and_leave_no_trace_that_is_not_finite() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 12, np.random.default_rng(0))
    rows[6] = 1.7e308
    scores = scores_of(own, rows)
    assert scores.p_value[6] < 1e-6
    assert np.isfinite(scores.p_value[1:]).all()
    assert (scores.p_value[1:] > 0).all()


def test_forgotten_entity_warms_up_again() -> None:
    own = made("gmm")
    rows = records_like(own.model.density, 4, np.random.default_rng(0))
    runner = watch(own)
    slots = np.zeros(2, dtype=np.int64)
    runner.process(batch(rows[:2]), slots)
    runner.forget(np.array([0]), ["e"])
    scores, _ = runner.process(batch(rows[2:]), slots)
    assert scores.status.tolist() == [Status.WARMING_UP, Status.SCORED]


def test_lateness_agrees_with_looking_at_one_record_after_the_other() -> None:
    own = made("gmm")
    rng = np.random.default_rng(4)
    records = mixed_batch(own)
    records = replace(records, time=rng.integers(0, 50, len(records)).astype(float))
    scores, _ = outcome_of(own, records)
    newest: dict[str, float] = {}
    for i, entity in enumerate(records.entity):
        late = records.time[i] < newest.get(entity, -np.inf)
        assert (scores.status[i] == Status.LATE) == late
        newest[entity] = max(records.time[i], newest.get(entity, -np.inf))


def test_a_level_that_stays_is_one_episode_and_what_comes_on_top_of_it_the_next() -> None:
    model, _ = scoring_model(gmm())
    rules = AlertRules(fire_m=1, fire_of=1, release_after_s=100.0, cooldown_s=0.0)
    own = detector(model, threshold=1e-4, rules=rules)
    rows = records_like(model.density, 450, np.random.default_rng(3))
    rows[50:, 0] += 30.0
    rows[400:410, 1] += 300.0
    _, events = outcome_of(own, batch(rows))
    told = [(event.time, event.transition) for event in events if event.transition != "updated"]
    assert told[:3] == [(50.0, "firing"), (151.0, "resolved"), (400.0, "firing")]
    assert told[3:] == [(events[-1].time, "resolved")]
    assert [e.resolved_because for e in events if e.transition == "resolved"] == ["new_normal", "calm"]
    of_level, on_top = (event for event in events if event.transition == "firing")
    assert of_level.reasons[0].feature == own.model.feature_names[0]
    # By what the entity has been like since then: the feature that made the level is as expected.
    assert on_top.reasons[0].feature == own.model.feature_names[1]
    first = next(reason for reason in on_top.reasons if reason.feature == own.model.feature_names[0])
    assert isinstance(first.expected, float)
    assert isinstance(first.actual, float)
    assert abs(first.expected - first.actual) < 8.0


@pytest.mark.parametrize("shift", [1.5, 2.0])
def test_a_level_that_stays_and_looks_nearly_normal_hardly_fires_again(shift: float) -> None:
    model, _ = scoring_model(gmm())
    own = detector(model, threshold=1e-4, rules=AlertRules(fire_m=1, fire_of=1))
    rows = records_like(model.density, 3000, np.random.default_rng(3))
    rows[100:, 0] += shift
    rows[100, 0] += 10.0
    # An incident as large as the first one is news all the same.
    rows[2000, 1] += 10.0
    _, events = outcome_of(own, batch(rows, time=60.0 * np.arange(3000.0)))
    fired = [event.time for event in events if event.transition == "firing"]
    assert fired[0] == 6000.0
    assert 120_000.0 in fired
    # They would be 14 and 43, were it not known that the entity is restless.
    assert len(fired) <= 6


def test_an_incident_that_is_loudest_at_first_fires_though_what_follows_is_no_news() -> None:
    model, _ = scoring_model(gmm())
    own = replace(detector(model, threshold=1e-4, rules=AlertRules(fire_m=3, fire_of=5)), echoes=True)
    rows = records_like(model.density, 100, np.random.default_rng(3))
    rows[50, 0] += 300.0
    rows[51:70, 0] += 30.0
    records = batch(rows)
    scores, events = outcome_of(own, records)
    assert scores.anomaly_score[50] >= 2.0
    assert (scores.p_value[51:70] < 1e-4).all()
    assert (scores.anomaly_score[51:70] < 1.0).all()
    fired = next(event for event in events if event.transition == "firing")
    assert (fired.start, fired.time) == (50.0, 52.0)
    deaf, _ = outcome_of(replace(own, echoes=False), records)
    np.testing.assert_array_equal(scores.alert, deaf.alert)
