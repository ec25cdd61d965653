"""Tests for detector.training.fit_rbm, its training steps and its partition function."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detector.models.rbm import Rbm, RbmParameters
from detector.training.fit_rbm import fit_rbm
from detector.training.rbm_partition import estimate_partition
from detector.training.rbm_training import RbmTraining, _derivatives
from tests.models.families_by_hand import log_likelihood, mixture_of_rbm, random_rbm_parameters


def drawn(p: RbmParameters, n: int, seed: int) -> np.ndarray:
    weights, means, _ = mixture_of_rbm(p)
    rng = np.random.default_rng(seed)
    component = rng.choice(len(weights), size=n, p=weights)
    return means[component] + np.sqrt(p.variances) * rng.normal(size=(n, len(p.variances)))


@pytest.mark.parametrize(("d", "h", "seed"), [(1, 1, 0), (3, 4, 1), (6, 8, 2), (12, 10, 3)])
def test_partition_function_agrees_with_a_sum_over_all_hidden_settings(d: int, h: int, seed: int) -> None:
    p = random_rbm_parameters(d, h, seed)
    x = drawn(p, 2000, seed)
    estimate = estimate_partition(
        p,
        x.mean(axis=0),
        4 * x.var(axis=0),
        n_chains=500,
        n_temperatures=1000,
        rng=np.random.default_rng(seed),
    )
    assert 0 < estimate.error < 0.2
    assert abs(estimate.log_partition - mixture_of_rbm(p)[2]) < 3 * estimate.error


def test_chains_of_the_partition_function_end_as_draws_from_the_machine() -> None:
    p = random_rbm_parameters(3, 4)
    estimate = estimate_partition(
        p, np.zeros(3), np.full(3, 4.0), n_chains=2000, n_temperatures=300, rng=np.random.default_rng(0)
    )
    direct = drawn(p, 2000, 1)
    for j in range(3):
        assert ks_2samp(estimate.particles[:, j], direct[:, j]).pvalue > 1e-3


def test_derivatives_are_those_of_the_free_energy() -> None:
    p = random_rbm_parameters(3, 4)
    x = np.random.default_rng(0).normal(size=(20, 3))

    def mean_log_likelihood(q: RbmParameters) -> float:
        return float(log_likelihood(Rbm(q, 0.0, 0.0, x), x).mean())

    step, found = 1e-6, _derivatives(p, x)
    for name, of_field in (
        ("weights", "weights"),
        ("visible_bias", "visible_bias"),
        ("hidden_bias", "hidden_bias"),
    ):
        value = getattr(p, of_field)
        for index in np.ndindex(value.shape):
            moved = value.copy()
            moved[index] += step
            slope = (mean_log_likelihood(_with(p, of_field, moved)) - mean_log_likelihood(p)) / step
            # Those of features are multiplied with their variance.
            factor = 1.0 if name == "hidden_bias" else p.variances[index[-1]]
            assert found[name][index] == pytest.approx(slope * factor, abs=1e-4)
    for j in range(3):
        moved = p.variances.copy()
        moved[j] *= np.exp(step)
        slope = (mean_log_likelihood(_with(p, "variances", moved)) - mean_log_likelihood(p)) / step
        assert found["log_variances"][j] == pytest.approx(slope, abs=1e-4)


def _with(p: RbmParameters, name: str, value: np.ndarray) -> RbmParameters:
    fields = {f: getattr(p, f) for f in ("weights", "visible_bias", "hidden_bias", "variances")}
    return RbmParameters(**{**fields, name: value})


def test_recovers_the_likelihood_of_a_machine_from_its_records() -> None:
    p = random_rbm_parameters(4, 3, seed=5)
    x, fresh = drawn(p, 3000, 0), drawn(p, 2000, 1)
    truth = log_likelihood(Rbm(p, mixture_of_rbm(p)[2], 0.0, x), fresh).mean()
    mean, std = x.mean(axis=0), x.std(axis=0)
    independent = (
        (-0.5 * ((fresh - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(axis=1).mean()
    )
    rbm = fit_rbm(x, lengths=np.array([3000]), seed=0, n_hidden=4)
    values = log_likelihood(rbm, fresh)
    assert truth - values.mean() < 0.05
    assert truth - independent > 0.15
    assert ks_2samp(values, log_likelihood(rbm, rbm.sample(2000, np.random.default_rng(2)))).pvalue > 1e-3


def test_weighs_regimes_that_lie_far_apart_as_the_records_do() -> None:
    rng = np.random.default_rng(0)
    regime = rng.random(3000) < 0.2
    x = rng.normal(size=(3000, 2)) + np.where(regime, 6.0, 0.0)[:, None]
    rbm = fit_rbm(x, lengths=np.array([3000]), seed=0)
    share = (rbm.sample(4000, rng).mean(axis=1) > 3.0).mean()
    assert share == pytest.approx(0.2, abs=0.05)


def test_missing_values_are_trained_around() -> None:
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([5.0, -3.0], [[1.0, 0.9], [0.9, 1.0]], size=3000)
    fresh = rng.multivariate_normal([5.0, -3.0], [[1.0, 0.9], [0.9, 1.0]], size=1000)
    complete = fit_rbm(x, lengths=np.array([3000]), seed=0)
    x[rng.random(x.shape) < 0.3] = np.nan
    rbm = fit_rbm(x, lengths=np.array([3000]), seed=0)
    assert log_likelihood(complete, fresh).mean() - log_likelihood(rbm, fresh).mean() < 0.1


def test_same_seed_same_bits() -> None:
    x = np.random.default_rng(0).normal(size=(300, 3))
    first, again = (
        fit_rbm(x, lengths=np.array([300]), seed=3, n_hidden=3, max_epochs=4).arrays() for _ in range(2)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_units_of_the_features_shift_the_likelihood_by_their_jacobian() -> None:
    x = np.random.default_rng(0).normal(size=(400, 2)) @ np.array([[1.0, 0.7], [0.0, 1.0]])
    unit = np.array([1e-3, 50.0])
    one, other = (
        fit_rbm(x * u + 0.0, lengths=np.array([400]), seed=0, n_hidden=3, max_epochs=8)
        for u in (np.ones(2), unit)
    )
    values = log_likelihood(other, x * unit) + np.log(unit).sum()
    np.testing.assert_allclose(values, log_likelihood(one, x), rtol=1e-6)


def test_constant_and_duplicated_features_keep_a_spread() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 1))
    x = np.column_stack([x, x, np.full(600, 5.0)])
    rbm = fit_rbm(x, lengths=np.array([600]), seed=0, max_epochs=20)
    assert np.isfinite(log_likelihood(rbm, x)).all()
    moved = x[:1].copy()
    moved[0, 2] = 6.0
    assert log_likelihood(rbm, moved)[0] < log_likelihood(rbm, x).min()


def test_the_variance_never_falls_below_its_floor() -> None:
    rows = np.full((300, 2), 0.0)
    training = RbmTraining(rows, 2, 0.01, np.random.default_rng(0))
    for _ in range(200):
        training.step(np.arange(100), 0.05)
    assert training.parameters().variances.min() >= 0.01 * (1 - 1e-9)


def test_progress_ends_complete() -> None:
    told: list[tuple[str, int, int]] = []
    x = np.random.default_rng(0).normal(size=(300, 2))
    fit_rbm(x, lengths=np.array([300]), seed=0, n_hidden=2, progress=lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (100, {}, "too few for a restricted Boltzmann machine"),
        (400, {"n_hidden": 0}, "n_hidden is 0"),
        (400, {"max_epochs": 0}, "max_epochs is 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(rows: int, options: dict[str, int], message: str) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    with pytest.raises(ValueError, match=message):
        fit_rbm(x, lengths=np.array([rows]), seed=0, **options)  # type: ignore[arg-type]
