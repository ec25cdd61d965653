"""Tests for detector.training.backtest."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, Scores, Source, Status
from detector.bundles.serving import serve
from detector.pipeline.detector import Detector
from detector.stream.watch import Watch
from detector.training.backtest import backtest, latent_columns, warmup_rows
from detector.training.job import TrainingPlan, train

N_STEPS, WARMUP = 600, 400
ENTITIES = ("a", "b", "c")


def telemetry(seed: int, steps: int = N_STEPS) -> Batch:
    rng = np.random.default_rng(seed)
    n = steps * len(ENTITIES)
    return Batch(
        input="file",
        feature_names=("x", "y"),
        sources=(Source("file.csv", 0),),
        source=np.zeros(n, dtype=np.int64),
        offset=np.arange(n),
        entity=[ENTITIES[i % 3] for i in range(n)],
        time=np.asarray(1.7e9 + 60.0 * (np.arange(n) // 3), dtype=np.float64),
        values=rng.normal(size=(n, 2)),
    )


@pytest.fixture(scope="module")
def detector() -> Detector:
    records = telemetry(1)
    plan = TrainingPlan("test", "gmm", "autoregressive", options={"n_components": 2})
    return serve(train(records, plan, 0.0), AlertRules(budget=Budget(1, "entity", 86400.0)))


def assert_same(one: Scores, other: Scores) -> None:
    for name in ("status", "log_likelihood", "p_value", "anomaly_score", "exceeds_threshold", "alert"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_whole_file_gets_bit_for_bit_what_the_daemon_says_poll_by_poll(detector: Detector) -> None:
    batch = telemetry(2)
    batch.values[900:960] += 6.0
    whole = backtest(detector, batch)
    assert sum(event.transition == "firing" for event in whole.events) >= 3

    watch = Watch(detector, "file", np.arange(2))
    slot = np.array([ENTITIES.index(entity) for entity in batch.entity])
    events = []
    for poll in np.array_split(np.arange(len(batch)), 37):
        rows = np.zeros(len(batch), dtype=bool)
        rows[poll] = True
        part, part_events = watch.process(batch.take(rows), slot[rows])
        events += part_events
        for name in ("status", "log_likelihood", "p_value", "anomaly_score", "alert"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole.scores, name)[rows])
    assert {event.id for event in events} == {event.id for event in whole.events}


def test_warm_up_rows_are_not_scored_but_are_the_past_of_those_after_them(detector: Detector) -> None:
    batch = telemetry(3)
    warmup = warmup_rows(batch, WARMUP)
    assert warmup.sum() == WARMUP * 3
    whole, warmed = backtest(detector, batch), backtest(detector, batch, warmup)
    assert (warmed.scores.status[warmup] == Status.WARMING_UP).all()
    assert np.isnan(warmed.scores.p_value[warmup]).all()
    assert not warmed.scores.alert[warmup].any()
    np.testing.assert_array_equal(warmed.scores.p_value[~warmup], whole.scores.p_value[~warmup])


@pytest.mark.parametrize("repeats_a_time", [False, True])
def test_alert_of_the_warm_up_does_not_reach_into_the_rows_after_it(
    detector: Detector, repeats_a_time: bool
) -> None:
    batch = telemetry(3)
    warmup = warmup_rows(batch, WARMUP)
    if repeats_a_time:
        batch.time[30] = batch.time[27]
    batch.values[(WARMUP - 3) * 3 : WARMUP * 3] += 9.0
    assert backtest(detector, batch).scores.alert[WARMUP * 3]
    assert not backtest(detector, batch, warmup).scores.alert[WARMUP * 3]


def test_entity_with_nothing_but_warm_up_gets_no_score(detector: Detector) -> None:
    batch = telemetry(3)
    short = [entity != "b" or i < 300 for i, entity in enumerate(batch.entity)]
    kept = batch.take(np.array(short))
    result = backtest(detector, kept, warmup_rows(kept, WARMUP))
    of_b = np.array([entity == "b" for entity in kept.entity])
    assert (result.scores.status[of_b] == Status.WARMING_UP).all()
    assert (result.scores.status[~of_b] == Status.SCORED).sum() == 2 * (N_STEPS - WARMUP)
    everything = backtest(detector, kept, np.ones(len(kept), dtype=bool))
    assert (everything.scores.status == Status.WARMING_UP).all()
    assert (everything.events, everything.scored_s) == ([], 0.0)


def test_order_of_the_rows_of_different_entities_does_not_matter(detector: Detector) -> None:
    batch = telemetry(4)
    entity_by_entity = np.argsort(np.array(batch.entity), kind="stable")
    resorted = replace(
        batch,
        entity=[batch.entity[i] for i in entity_by_entity],
        time=batch.time[entity_by_entity],
        values=batch.values[entity_by_entity],
    )
    one, other = backtest(detector, batch), backtest(detector, resorted)
    np.testing.assert_array_equal(one.scores.p_value[entity_by_entity], other.scores.p_value)
    assert one.scored_s == other.scored_s == pytest.approx(3 * (N_STEPS - 2) * 60.0)


def test_row_older_than_its_entitys_newest_is_late_and_the_others_do_not_notice(detector: Detector) -> None:
    batch = telemetry(5)
    clean = backtest(detector, batch)
    insert = np.insert(np.arange(len(batch)), 900, 300)
    late = replace(
        batch,
        source=batch.source[insert],
        offset=np.arange(len(insert)),
        entity=[batch.entity[i] for i in insert],
        time=batch.time[insert],
        values=batch.values[insert],
    )
    result = backtest(detector, late).scores
    assert Status(int(result.status[900])) is Status.LATE
    np.testing.assert_array_equal(np.delete(result.p_value, 900), clean.scores.p_value)


@pytest.mark.parametrize("family", ["gmm", "hmm"])
def test_what_is_behind_a_row_is_what_the_model_says_after_its_entitys_past(family: str) -> None:
    regime = np.repeat(np.cumsum(np.random.default_rng(0).random(N_STEPS) < 0.05) % 2, 3)
    records, batch = telemetry(1), telemetry(2)
    for part in (records, batch):
        part.values[:] += 6.0 * regime[:, None]
    own = serve(train(records, TrainingPlan("test", family, "none"), 0.0), AlertRules())
    moved = replace(batch, time=batch.time.copy())
    moved.time[900] -= 86_400.0  # late
    result = backtest(own, moved)
    latent = latent_columns(own, moved, result.scores)
    scored = result.scores.status == Status.SCORED
    assert not scored[900]
    np.testing.assert_array_equal(np.isnan(latent).all(axis=1), ~scored)
    np.testing.assert_allclose(latent[scored].sum(axis=1), 1.0, rtol=1e-12)
    component = latent[scored].argmax(axis=1)
    purity = [np.mean(regime[scored][component == k]) for k in np.unique(component)]
    assert all(share < 0.02 or share > 0.98 for share in purity)
    # One entity alone, record by record, as the daemon would step it.
    density, rows = own.model.density, own.model.density.family.initial_state(1)
    of_a = [i for i in range(0, len(batch), 3) if i != 900]
    model = np.array([own.model.entities.index("a")])
    for i in of_a[:50]:
        z = density.scaling.standardise(batch.values[i : i + 1], model)
        if scored[i]:
            np.testing.assert_array_equal(latent[i], density.family.latent(rows, z, np.array([np.nan]))[0])
        rows, _ = density.family.step(rows, z, np.array([np.nan]))
