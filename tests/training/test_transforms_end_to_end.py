"""Counters and logarithmic scales from records to scores and alerts, through the job and the store."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import lognorm

from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, BoolArray, FloatArray, Status
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleStore, load_bundle
from detector.models.feature_transforms import FeatureScale, FeatureType
from detector.pipeline.detector import Detector
from detector.training.backtest import backtest, latent_columns
from detector.training.job import TrainingError, TrainingPlan, train
from tests.made import batch
from tests.pipelines import outcome_of, slots_of, watch

INTERVAL_S = 30.0
START_S = 1_780_000_000.0
NAMES = ("received", "latency")
TYPES: dict[str, FeatureType] = {"received": "counter"}
SCALES: dict[str, FeatureScale] = {"latency": "log"}
PLAN = TrainingPlan(
    "interfaces",
    "gmm",
    "none",
    units={"received": "By", "latency": "s"},
    types=TYPES,
    scales=SCALES,
    options={"n_components": 1},
)


def records(
    n: int, seed: int, *, entities: tuple[str, ...] = ("eth0", "eth1"), rate: FloatArray | float = 1e4
) -> Batch:
    """Totals that begin anew now and then, beside latencies of which each entity has its own; n each."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(len(entities)):
        increase = INTERVAL_S * rate * rng.lognormal(0.0, 0.2, n)
        total = np.cumsum(increase)
        restarts = np.flatnonzero(rng.uniform(size=n) < 0.01)
        # A restarted counter has only counted since: part of an interval.
        begun = np.maximum.accumulate(np.isin(np.arange(n), restarts) * np.arange(n))
        total -= np.where(begun > 0, total[begun] - rng.uniform(0.3, 1.0, n)[begun] * increase[begun], 0.0)
        parts.append(np.column_stack([total, rng.lognormal(i, 0.5, n)]))
    time = START_S + seed * 1e7 + INTERVAL_S * np.arange(n)
    made = batch(
        np.stack(parts, axis=1).reshape(-1, 2), entity=list(entities) * n, time=np.repeat(time, len(entities))
    )
    return replace(made, feature_names=NAMES)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(records(1500, 1), PLAN, START_S)


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return serve(bundle, AlertRules(budget=Budget(1, "entity", 86400.0)))


def test_the_manifest_and_the_store_keep_types_scales_and_units(bundle: Bundle, tmp_path: Path) -> None:
    stored = load_bundle(BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out))
    assert [(f.type, f.scale, f.unit) for f in stored.manifest.features] == [
        ("counter", "linear", "By/s"),
        ("gauge", "log", "s"),
    ]
    later = records(50, 2)
    here, again = (outcome_of(serve(b, AlertRules()), later)[0] for b in (bundle, stored))
    np.testing.assert_array_equal(again.log_likelihood, here.log_likelihood)
    np.testing.assert_array_equal(again.p_value, here.p_value)


def test_the_manifest_tells_ranges_in_the_units_of_alerts(bundle: Bundle) -> None:
    assert bundle.manifest.members[0].report is not None
    received, latency = bundle.manifest.members[0].report.features
    assert received.median == pytest.approx(1e4, rel=0.1)
    # Half of the latencies are about 1 s and half about e s.
    assert latency.median == pytest.approx(np.exp(0.5), rel=0.1)


def test_the_first_record_of_an_entity_has_no_rate_and_is_warming_up(detector: Detector) -> None:
    status = outcome_of(detector, records(2, 3))[0].status
    assert [Status(code) for code in status.tolist()] == [Status.WARMING_UP] * 2 + [Status.SCORED] * 2
    only_totals = replace(detector, min_features=2)
    assert outcome_of(only_totals, records(1, 3))[0].status[0] == Status.WARMING_UP


def test_the_log_likelihood_is_one_of_values_in_their_own_unit() -> None:
    plan = replace(PLAN, types={}, options={"n_components": 1, "covariance": "diagonal"})
    rng = np.random.default_rng(4)
    x = np.column_stack([rng.normal(3.0, 0.1, 4000), rng.lognormal(2.0, 0.7, 4000)])
    made = replace(batch(x), feature_names=NAMES)
    scores = outcome_of(serve(train(made, plan, START_S), AlertRules()), made)[0]
    expected = -0.5 * ((x[:, 0] - 3.0) / 0.1) ** 2 - np.log(0.1 * np.sqrt(2 * np.pi))
    expected += lognorm.logpdf(x[:, 1], 0.7, scale=np.exp(2.0))
    np.testing.assert_allclose(scores.log_likelihood, expected, atol=0.35)
    assert scores.log_likelihood.mean() == pytest.approx(expected.mean(), abs=0.02)


def test_held_out_log_likelihoods_of_both_scales_compare() -> None:
    rng = np.random.default_rng(5)
    made = replace(batch(rng.lognormal(0.0, 1.0, (3000, 2))), feature_names=NAMES)
    both: dict[str, FeatureScale] = {"received": "log", "latency": "log"}
    linear, log = (
        train(made, replace(PLAN, types={}, scales=scales), START_S)
        .manifest.members[0]
        .held_out_mean_log_likelihood
        for scales in ({}, both)
    )
    assert linear is not None
    assert log is not None
    # The true density has the entropy 1/2 log(2 pi e) of each; a single Gaussian fits it far worse.
    assert log == pytest.approx(-np.log(2 * np.pi * np.e), abs=0.1)
    assert linear < log - 0.5


def test_scores_have_the_same_bits_record_by_record(detector: Detector) -> None:
    made = records(60, 6)
    made.values[7:30, 0] = np.nan
    made.values[40, 0] = -1.0
    whole, _ = outcome_of(detector, made)
    again, slots = watch(detector), slots_of(made)
    for i in range(len(made)):
        here = np.arange(len(made)) == i
        single, _ = again.process(made.take(here), slots[here])
        assert single.status[0] == whole.status[i]
        for name in ("log_likelihood", "p_value"):
            np.testing.assert_array_equal(getattr(single, name)[0], getattr(whole, name)[i])


def fired(detector: Detector, made: Batch) -> int:
    return sum(event.transition == "firing" for event in backtest(detector, made).events)


def test_resets_do_not_alert(detector: Detector) -> None:
    made = records(2880, 7)
    resets = np.diff(made.values[::2, 0]) < 0
    assert resets.sum() > 15
    # Two entities, a day each, one false alarm a day.
    assert fired(detector, made) <= 6


def test_a_changed_rate_alerts_although_the_total_is_ordinary_and_says_so_in_rates(
    detector: Detector,
) -> None:
    rate = np.where(np.arange(200) >= 150, 4e4, 1e4)
    _, events = outcome_of(detector, records(200, 8, entities=("eth0",), rate=rate))
    firing = [event for event in events if event.transition == "firing"]
    alert = firing[-1]
    assert alert.time >= START_S + 8e7 + 150 * INTERVAL_S
    reason = next(reason for reason in alert.reasons if reason.feature == "received")
    assert reason.unit == "By/s"
    assert reason.actual == pytest.approx(4e4, rel=0.5)
    assert reason.expected == pytest.approx(1e4, rel=0.1)


def test_a_logarithmic_feature_is_explained_in_its_unit(detector: Detector) -> None:
    made = records(100, 9, entities=("eth0",))
    made.values[80:, 1] = 90.0
    event = next(e for e in outcome_of(detector, made)[1] if e.time >= made.time[80])
    reason = next(reason for reason in event.reasons if reason.feature == "latency")
    assert reason.actual == 90.0
    assert reason.expected == pytest.approx(1.0, rel=0.15)
    assert reason.std == pytest.approx(np.sinh(0.5), rel=0.2)


@pytest.mark.parametrize("value", [0.0, -1e308])
def test_zero_and_less_are_improbable_without_harm(detector: Detector, value: float) -> None:
    made = records(40, 10)
    made.values[60, 1] = value
    scores, _ = outcome_of(detector, made)
    assert scores.exceeds_threshold[60]
    assert np.isfinite(scores.p_value[2:]).all()


def test_negative_values_teach_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = records(400, 11)
    made.values[100, 1] = -1.0
    with caplog.at_level(logging.WARNING):
        model = train(made, PLAN, START_S).model
    assert "feature 'latency' has scale log, but 1 of its values are negative" in caplog.text
    made.values[100, 1] = np.nan
    blank = train(made, PLAN, START_S).model
    np.testing.assert_array_equal(model.density.scaling.location, blank.density.scaling.location)


def test_a_logarithm_of_zeros_alone_is_refused_by_name() -> None:
    made = records(100, 12)
    made.values[:, 1] = 0.0
    with pytest.raises(TrainingError, match="feature 'latency' has scale log, but none"):
        train(made, PLAN, START_S)


def test_records_after_an_anomaly_have_the_rate_that_the_daemon_sees() -> None:
    made = records(300, 13, entities=("eth0",))
    anomalous: BoolArray = np.zeros(300, dtype=np.bool_)
    anomalous[100:110] = True
    with_labels = train(made, PLAN, START_S, anomalous=anomalous).manifest.members[0].report
    without = train(made, PLAN, START_S).manifest.members[0].report
    assert with_labels is not None
    assert without is not None
    # A total that was taken for a fresh start would be a huge rate.
    assert with_labels.features[0].maximum <= without.features[0].maximum * 1.05


def test_what_is_behind_a_row_is_asked_of_rates_and_logarithms(bundle: Bundle) -> None:
    two = train(records(1500, 1), replace(PLAN, options={"n_components": 2}), START_S)
    detector, made = serve(two, AlertRules()), records(30, 14)
    latent = latent_columns(detector, made, outcome_of(detector, made)[0])
    transforms, density = two.model.transforms, two.model.density
    one = made.take(np.array([name == "eth0" for name in made.entity]))
    values, _ = transforms.rates(transforms.initial_state(1), one.values, one.time, np.array([30]))
    model = np.zeros(30, dtype=np.int64)
    residual = density.scaling.standardise(transforms.scaled(values), model)
    expected = density.latent(density.family.initial_state(30), residual, np.full(30, INTERVAL_S), model)
    np.testing.assert_array_equal(latent[::2][1:], expected[1:])
