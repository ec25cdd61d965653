"""Tests for detector.training.calibrate: what held-out rows teach where few of them have every feature."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.rules import AlertRules, Budget
from detector.batch import FloatArray
from detector.bundles.serving import serve
from detector.bundles.store import Bundle
from detector.scoring.time_scale import TimeScale
from detector.training.job import TrainingPlan, train
from tests.made import batch
from tests.pipelines import outcome_of

PLAN = TrainingPlan("hosts", "gmm", predictor="none", options={"n_components": 1})
DAILY = AlertRules(Budget(1, "entity", 86400.0))
N_HOSTS = 10
BY_ITSELF, AVERAGES = TimeScale(), TimeScale(0.3)


def fleet(rng: np.random.Generator, n: int) -> tuple[FloatArray, list[str], FloatArray]:
    """The first host alone sends the third feature, and its tails are heavy."""
    x = rng.normal(size=(N_HOSTS, n, 3))
    x[0] = rng.standard_t(1.5, size=(n, 3))
    x[1:, :, 2] = np.nan
    entity = [f"h{host}" for host in range(N_HOSTS) for _ in range(n)]
    return x.reshape(-1, 3), entity, np.tile(60.0 * np.arange(n), N_HOSTS)


@pytest.mark.parametrize("time_scale", [BY_ITSELF, AVERAGES], ids=["each", "averages"])
def test_p_values_hold_for_hosts_that_never_send_a_feature(time_scale: TimeScale) -> None:
    x, entity, time = fleet(np.random.default_rng(5), 400)
    bundle = train(batch(x, entity=entity, time=time), replace(PLAN, time_scale=time_scale), 1e9)
    x, entity, time = fleet(np.random.default_rng(6), 600)
    others = np.array(entity) != "h0"
    p_value = outcome_of(serve(bundle, DAILY), batch(x, entity=entity, time=time + 1e6))[0].p_value
    for level in (0.5, 0.1, 0.01):
        assert level / 30 < np.mean(p_value[others] <= level) < 1.7 * level
    far = others & (np.arange(len(x)) % 600 == 400)
    x[far, 0] += 12
    scores, _ = outcome_of(serve(bundle, DAILY), batch(x, entity=entity, time=time + 1e6))
    assert scores.exceeds_threshold[far].all()


def far_out(bundle: Bundle, width: int) -> float:
    return float(outcome_of(serve(bundle, DAILY), batch(np.full((1, width), 1e6)))[0].p_value[0])


@pytest.mark.parametrize(("n", "width", "lost"), [(4000, 6, 0.45), (1000, 4, 0.2), (8000, 12, 0.3)])
def test_features_lost_at_random_leave_p_values_as_they_are(n: int, width: int, lost: float) -> None:
    rng = np.random.default_rng(3)

    def drawn(n: int) -> FloatArray:
        return np.where(rng.random((n, width)) < lost, np.nan, 10 + rng.normal(size=(n, width)))

    bundle = train(batch(drawn(n)), PLAN, 1e9)
    scores, events = outcome_of(serve(bundle, DAILY), batch(drawn(1500)))
    p_value = scores.p_value[~np.isnan(scores.p_value)]
    for level in (0.5, 0.1, 0.01):
        assert level / 2 < np.mean(p_value <= level) < 2 * level
    assert sum(event.transition == "firing" for event in events) <= 3
    assert far_out(bundle, width) < 1e-20


@pytest.mark.parametrize("absent", [1, 12])
@pytest.mark.parametrize("predictor", ["last", "ewma", "autoregressive", "regression"])
def test_a_feature_that_comes_back_leaves_p_values_as_they_are(predictor: str, absent: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(8000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.44]])
    for t in range(1, len(x)):
        x[t] += 0.8 * x[t - 1]
    bundle = train(batch(x[:4000]), replace(PLAN, predictor=predictor), 1e9)
    position = np.arange(4000) % 16
    later, back = x[4000:].copy(), position == absent
    later[position < absent, 1] = np.nan
    later[back & (np.arange(4000) > 3900), 1] += 15.0
    scores, _ = outcome_of(serve(bundle, DAILY), batch(later, time=60.0 * np.arange(4000.0, 8000.0)))
    usual, far = scores.p_value[back][:-10], scores.p_value[back][-5:]
    assert np.mean(usual <= 0.05) < 0.1
    assert np.mean(usual <= 0.01) < 0.04
    assert (far < 1e-4).all()


@pytest.mark.parametrize("n", [30, 60, 130])
def test_few_records_can_raise_an_alert_and_seldom_do(n: int) -> None:
    firings = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        bundle = train(batch(rng.normal(10, 1, (n, 4)), time=np.arange(0, 60.0 * n, 60.0)), PLAN, 1e9)
        later = batch(rng.normal(10, 1, (1440, 4)), time=np.arange(1e6, 1e6 + 86400.0, 60.0))
        firings += sum(e.transition == "firing" for e in outcome_of(serve(bundle, DAILY), later)[1])
        detector = serve(bundle, DAILY)
        assert far_out(bundle, 4) < detector.threshold.p_value
    # A day each, and one alarm a day is borne.
    assert firings <= 8
