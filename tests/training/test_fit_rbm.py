"""Tests for detector.training.fit_rbm, its training steps and its partition function."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from detector.models.rbm import Rbm
from detector.models.rbm_energy import RbmParameters, all_settings
from detector.training import rbm_training
from detector.training.fit_rbm import fit_rbm
from detector.training.rbm_partition import estimate_partition
from detector.training.rbm_training import RbmTraining, _derivatives, _expected_derivatives
from tests.models.families_by_hand import (
    drawn_from_rbm,
    log_likelihood,
    mixture_of_rbm,
    random_rbm_parameters,
)


def drawn(p: RbmParameters, n: int, seed: int) -> np.ndarray:
    return drawn_from_rbm(p, n, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("d", "h", "binary", "seed"),
    [(1, 1, 0, 0), (3, 4, 0, 1), (6, 8, 0, 2), (12, 10, 0, 3), (1, 2, 1, 4), (6, 8, 3, 5), (8, 8, 8, 6)],
)
def test_partition_function_agrees_with_a_sum_over_all_hidden_settings(
    d: int, h: int, binary: int, seed: int
) -> None:
    p = random_rbm_parameters(d, h, seed, binary)
    rng = np.random.default_rng(seed)
    estimate = estimate_partition(p, n_chains=500, n_temperatures=300, rng=rng)
    assert 0 < estimate.error < 0.1
    assert abs(estimate.log_partition - mixture_of_rbm(p)[2]) < 3 * estimate.error


def test_partition_function_of_far_regimes_misses_none() -> None:
    """The chains start everywhere, so a regime is found however far out it lies."""
    p = RbmParameters(
        np.array([[100.0, 0.0], [0.0, -40.0]]),
        np.zeros(2),
        np.array([-5000.0, -800.5]),
        np.ones(2),
        np.zeros(2, dtype=bool),
    )
    estimate = estimate_partition(p, n_chains=500, n_temperatures=300, rng=np.random.default_rng(0))
    assert abs(estimate.log_partition - mixture_of_rbm(p)[2]) < 3 * estimate.error
    assert (estimate.particles[:, 0] > 50.0).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("binary", [0, 1])
def test_chains_of_the_partition_function_end_as_draws_from_the_machine(binary: int) -> None:
    p = random_rbm_parameters(3, 4, binary=binary)
    estimate = estimate_partition(p, n_chains=2000, n_temperatures=300, rng=np.random.default_rng(0))
    direct = drawn(p, 2000, 1)
    for j in range(3):
        assert ks_2samp(estimate.particles[:, j], direct[:, j], method="asymp").pvalue > 1e-3


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


@pytest.mark.parametrize(("d", "h", "binary"), [(3, 4, 0), (5, 3, 2), (4, 4, 4)])
def test_derivatives_of_the_model_are_those_of_its_records_on_average(d: int, h: int, binary: int) -> None:
    p = random_rbm_parameters(d, h, binary=binary)
    of_records = [_derivatives(p, drawn(p, 4000, seed)) for seed in range(30)]
    for name, expected in _expected_derivatives(p, all_settings(h)).items():
        found = np.array([one[name] for one in of_records])
        if name == "log_variances":
            expected, found = expected[~p.binary], found[:, ~p.binary]
        error = found.std(axis=0) / np.sqrt(len(found))
        assert (np.abs(found.mean(axis=0) - expected) < 4.5 * error + 1e-12).all(), name


def _with(p: RbmParameters, name: str, value: np.ndarray) -> RbmParameters:
    return replace(p, **{name: value})


@pytest.mark.parametrize("most_summed", [10, 0])
def test_recovers_the_likelihood_of_a_machine_from_its_records(
    most_summed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = random_rbm_parameters(4, 3, seed=5)
    x, fresh = drawn(p, 3000, 0), drawn(p, 2000, 1)
    truth = log_likelihood(Rbm(p, mixture_of_rbm(p)[2], 0.0, x), fresh).mean()
    monkeypatch.setattr(rbm_training, "MOST_SUMMED", most_summed)
    rbm = fit_rbm(x, lengths=np.array([3000]), seed=0, n_hidden=4)
    values = log_likelihood(rbm, fresh)
    assert truth - values.mean() < 0.05
    assert truth - _independent(x, fresh, p.binary) > 0.15
    assert ks_2samp(values, log_likelihood(rbm, rbm.sample(2000, np.random.default_rng(2)))).pvalue > 1e-3


def test_recovers_the_likelihood_of_a_mixed_machine_around_missing_values() -> None:
    p = random_rbm_parameters(5, 3, seed=8, binary=3)
    x, fresh = drawn(p, 4000, 0), drawn(p, 3000, 1)
    x[np.random.default_rng(3).random(x.shape) < 0.1] = np.nan
    truth = log_likelihood(Rbm(p, mixture_of_rbm(p)[2], 0.0, fresh), fresh).mean()
    rbm = fit_rbm(x, lengths=np.array([4000]), seed=0, n_hidden=4, binary=p.binary)
    values = log_likelihood(rbm, fresh)
    assert truth - values.mean() < 0.05
    assert truth - _independent(x, fresh, p.binary) > 0.15
    assert np.isin(rbm.sample(50, np.random.default_rng(2))[:, p.binary], (0.0, 1.0)).all()


def _independent(x: np.ndarray, fresh: np.ndarray, binary: np.ndarray) -> float:
    """Mean log-likelihood of fresh records with every feature on its own."""
    mean, std = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    log_mass = np.log(np.where(fresh == 1.0, mean, 1.0 - mean), where=binary, out=np.zeros(fresh.shape))
    log_density = -0.5 * ((fresh - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return float(np.where(binary, log_mass, log_density).sum(axis=1).mean())


def test_a_binary_feature_that_never_changed_is_not_held_to_be_certain() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=1000), np.zeros(1000), np.ones(1000)])
    binary = np.array([False, True, True])
    rbm = fit_rbm(x, lengths=np.array([1000]), seed=0, n_hidden=3, max_epochs=60, binary=binary)
    usual, changed = log_likelihood(rbm, np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    assert 4.0 < usual - changed < 15.0


def test_weighs_regimes_that_lie_far_apart_as_the_records_do() -> None:
    rng = np.random.default_rng(0)
    regime = rng.random(3000) < 0.2
    x = rng.normal(size=(3000, 2)) + np.where(regime, 6.0, 0.0)[:, None]
    rbm = fit_rbm(x, lengths=np.array([3000]), seed=0)
    share = (rbm.sample(4000, rng).mean(axis=1) > 3.0).mean()
    assert share == pytest.approx(0.2, abs=0.05)
    truth = np.logaddexp(
        np.log(0.8) + norm.logpdf(x).sum(axis=1), np.log(0.2) + norm.logpdf(x, 6.0).sum(axis=1)
    )
    assert truth.mean() - log_likelihood(rbm, x).mean() < 0.1


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
    training = RbmTraining(rows, np.zeros(2, dtype=bool), 2, 0.01, np.random.default_rng(0))
    for _ in range(200):
        training.step(np.arange(100), 0.05)
    assert training.parameters().variances.min() >= 0.01 * (1 - 1e-9)


def test_progress_ends_complete() -> None:
    told: list[tuple[str, int, int]] = []
    x = np.random.default_rng(0).normal(size=(300, 2))
    fit_rbm(x, lengths=np.array([300]), seed=0, n_hidden=2, progress=lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2]


@pytest.mark.parametrize(
    ("binary", "message"),
    [([False, True], "feature 1 .* is binary, but is"), ([True], r"binary has shape \(1,\)")],
)
def test_a_mask_that_the_rows_do_not_fit_is_refused(binary: list[bool], message: str) -> None:
    x = np.random.default_rng(0).normal(size=(400, 2))
    with pytest.raises(ValueError, match=message):
        fit_rbm(x, lengths=np.array([400]), seed=0, binary=np.array(binary))


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


def test_entities_without_a_last_fifth_are_told() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 2))
    with pytest.raises(ValueError, match="1000 usable rows, and 0 in the last fifth, are too few for a"):
        fit_rbm(x, lengths=np.ones(1000, dtype=np.int64), seed=0)
