"""Features that hardly ever vary, through training and backtest: what pages and what does not."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from detector.alerting.rules import AlertRules, Budget
from detector.batch import FloatArray
from detector.bundles.serving import serve
from detector.pipeline.detector import Detector
from detector.training.backtest import Backtest, backtest
from detector.training.job import TrainingPlan, train
from detector.training.plan import AUTO
from tests.made import batch

INTERVAL_S = 60.0
MODELS = [
    (family, predictor)
    for family in ("gmm", "naive_bayes", "hmm")
    for predictor in ("none", "autoregressive", "ewma")
]
# Fitting few regimes is enough here, and takes a tenth of the time.
OPTIONS: dict[str, dict[str, int | str]] = {"hmm": {"n_states": 2, "n_mixtures": 1}}
N_TRAINING, N_TEST = 3000, 1000
# So little held-out time supports no budget of one a day, so that one record is not enough.
RULES = AlertRules(Budget(1, "entity", 86400.0), fire_m=2, fire_of=3)


def with_ordinary(feature: FloatArray, seed: int) -> FloatArray:
    """Put a feature beside two that go up and down."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(size=len(feature)), 50 + rng.gamma(4.0, size=len(feature)), feature])


def constant(n: int) -> FloatArray:
    return np.full(n, 5.0)


def zero(n: int) -> FloatArray:
    return np.zeros(n)


def rounded(n: int) -> FloatArray:
    """A constant as a sender with 32 bits has it, now one float and now the next."""
    noise = 1e-8 * np.random.default_rng(n).normal(size=n)
    return (0.3 * (1 + noise)).astype(np.float32).astype(np.float64)


def zero_inflated(n: int) -> FloatArray:
    rng = np.random.default_rng(n)
    return np.where(rng.uniform(size=n) < 0.05, rng.exponential(3.0, n), 0.0)


FEATURES: dict[str, Callable[[int], FloatArray]] = {
    "constant": constant,
    "zero": zero,
    "rounded": rounded,
    "zero_inflated": zero_inflated,
}


@cache
def trained(feature: str, family: str, predictor: str) -> Detector:
    plan = TrainingPlan("watch", family, predictor, options=OPTIONS.get(family, {}))
    rows = batch(
        with_ordinary(FEATURES[feature](N_TRAINING), 0), time=INTERVAL_S * np.arange(float(N_TRAINING))
    )
    return serve(train(rows, plan, 1e9), RULES)


def result_of(detector: Detector, feature: FloatArray) -> Backtest:
    time = INTERVAL_S * (N_TRAINING + np.arange(float(len(feature))))
    return backtest(detector, batch(with_ordinary(feature, 1), time=time))


def fires_within(result: Backtest, begin: int, end: int) -> bool:
    first, last = (INTERVAL_S * (N_TRAINING + row) for row in (begin, end))
    return any(event.transition == "firing" and first <= event.time < last for event in result.events)


@pytest.mark.parametrize(("family", "predictor"), MODELS)
def test_float_noise_on_a_constant_changes_no_verdict(family: str, predictor: str) -> None:
    for name in ("constant", "rounded"):
        detector, clean = trained(name, family, predictor), FEATURES[name](N_TEST)
        noise = clean * 3e-7 * np.random.default_rng(2).normal(size=N_TEST)
        without, noisy = (result_of(detector, feature).scores for feature in (clean, clean + noise))
        # A p-value counts calibration rows, three in ten of all; noise may move it across one of them.
        one_row = 1.01 / (0.3 * N_TRAINING)
        np.testing.assert_allclose(noisy.p_value, without.p_value, rtol=0.02, atol=one_row)
        np.testing.assert_array_equal(noisy.exceeds_threshold, without.exceeds_threshold)


@pytest.mark.parametrize(("family", "predictor"), MODELS)
@pytest.mark.parametrize(("name", "moved"), [("constant", 5.1), ("zero", 2.0), ("rounded", 0.31)])
def test_a_constant_that_really_moves_pages(name: str, moved: float, family: str, predictor: str) -> None:
    feature = FEATURES[name](N_TEST)
    feature[500:510] = moved
    assert fires_within(result_of(trained(name, family, predictor), feature), 500, 510)


@pytest.mark.parametrize(("family", "predictor"), MODELS)
def test_a_mostly_zero_feature_does_not_page_whenever_it_is_not_zero(family: str, predictor: str) -> None:
    detector, feature = trained("zero_inflated", family, predictor), zero_inflated(N_TEST)
    result = result_of(detector, feature)
    p_value, active = result.scores.p_value, (feature > 0) & ~np.isnan(result.scores.p_value)
    # One row in 20 is not zero, so as a group they are about that improbable.
    assert 0.008 < np.median(p_value[active]) < 0.15
    assert result.scores.exceeds_threshold[active].mean() < 0.5
    assert sum(event.transition == "firing" for event in result.events) <= 3


@pytest.mark.parametrize(("family", "predictor"), MODELS)
def test_a_mostly_zero_feature_pages_when_it_stays_high(family: str, predictor: str) -> None:
    feature = zero_inflated(N_TEST)
    feature[500:510] = 60.0
    assert fires_within(result_of(trained("zero_inflated", family, predictor), feature), 500, 510)


@pytest.mark.parametrize("seed", range(3))
def test_rare_events_alone_are_neither_deaf_nor_loud(seed: int) -> None:
    """Errors in a minute, 98 of 100 times none: far more of them page, one or two do not."""
    rng = np.random.default_rng(seed)
    errors = rng.poisson(0.02, (9 * 1440, 1)).astype(np.float64)
    errors[8 * 1440 : 8 * 1440 + 30] = 50.0
    errors[8 * 1440 + 720] = 20.0
    rows = batch(errors, time=INTERVAL_S * np.arange(float(len(errors))))
    older, newer = (rows.take(half) for half in (rows.time < 4 * 86400.0, rows.time >= 4 * 86400.0))
    own = serve(train(older, TrainingPlan("watch", AUTO, AUTO), 1e9), AlertRules())
    result = backtest(own, newer)
    at = 4 * 1440
    assert result.scores.exceeds_threshold[at : at + 30].all()
    assert result.scores.exceeds_threshold[at + 720]
    assert sum(event.transition == "firing" for event in result.events if event.time < 8 * 86400.0) <= 12
