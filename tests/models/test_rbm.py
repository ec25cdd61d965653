"""Tests for detector.models.rbm."""

from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import bernoulli, ks_2samp, norm

from detector.batch import FloatArray
from detector.models import rbm as rbm_module
from detector.models.rbm import Rbm
from detector.models.rbm_energy import RbmParameters
from tests.models.families_by_hand import (
    drawn_from_rbm,
    log_likelihood,
    mixture_of_rbm,
    random_rbm,
    random_rbm_parameters,
    scan,
    step_by_step,
    with_gaps,
)

NO_GAP = np.array([np.nan])


def marginal(p: RbmParameters, record: FloatArray, seen: np.ndarray) -> float:
    """Log-likelihood of some features of a record, under the mixture."""
    weights, _, _ = mixture_of_rbm(p)
    return float(logsumexp(np.log(weights) + log_of_setting(p, record, seen)))


def log_of_setting(p: RbmParameters, record: FloatArray, seen: np.ndarray) -> FloatArray:
    """log p(seen features | setting of the hidden units), shape (2^H,)."""
    _, means, _ = mixture_of_rbm(p)
    gaussian, binary = seen & ~p.binary, seen & p.binary
    densities = norm.logpdf(record[gaussian], means[:, gaussian], np.sqrt(p.variances[gaussian]))
    masses = bernoulli.logpmf(record[binary], means[:, binary])
    return np.asarray(densities.sum(axis=1) + masses.sum(axis=1))


MACHINES = pytest.mark.parametrize(
    ("d", "h", "binary"), [(1, 1, 0), (1, 5, 0), (4, 3, 0), (6, 8, 0), (1, 3, 1), (5, 4, 2), (6, 8, 6)]
)


def records(d: int, binary: int, n: int) -> FloatArray:
    """Rows of no particular kind, but 0 or 1 in the last ``binary`` features."""
    rng = np.random.default_rng(1)
    x = 3.0 * rng.normal(size=(n, d))
    x[:, d - binary :] = rng.random((n, binary)) < 0.5
    return x


@MACHINES
def test_free_energy_agrees_with_a_sum_over_all_hidden_settings(d: int, h: int, binary: int) -> None:
    p, x = random_rbm_parameters(d, h, binary=binary), records(d, binary, 30)
    expected = [marginal(p, record, np.ones(d, dtype=bool)) for record in x]
    np.testing.assert_allclose(log_likelihood(random_rbm(d, h, binary=binary), x), expected, rtol=1e-9)


@MACHINES
def test_marginals_agree_with_a_sum_over_all_hidden_settings(d: int, h: int, binary: int) -> None:
    p, x = random_rbm_parameters(d, h, binary=binary), records(d, binary, 40)
    rng = np.random.default_rng(2)
    hidden = rng.random((40, d)) < 0.5
    hidden[np.arange(40), rng.integers(0, d, 40)] = False
    expected = [marginal(p, record, ~gone) for record, gone in zip(x, hidden, strict=True)]
    values = log_likelihood(random_rbm(d, h, binary=binary), np.where(hidden, np.nan, x))
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_binary_features_have_probabilities_that_sum_to_one() -> None:
    every = np.array(list(product([0.0, 1.0], repeat=5)))
    values = log_likelihood(random_rbm(5, 4, binary=5), every)
    assert np.exp(values).sum() == pytest.approx(1.0, rel=1e-9)


def test_a_missing_binary_value_is_the_sum_over_both() -> None:
    rbm = random_rbm(4, 3, binary=2)
    off, on, missing = ([0.4, -1.0, 1.0, value] for value in (0.0, 1.0, np.nan))
    both = logsumexp(log_likelihood(rbm, np.array([off, on])))
    assert log_likelihood(rbm, np.array([missing]))[0] == pytest.approx(both, rel=1e-9)


def test_a_binary_feature_that_is_neither_0_nor_1_is_outside_the_support() -> None:
    rbm = random_rbm(3, 4, binary=1)
    nan = np.nan
    x = np.array([[0.1, 0.2, 1.0], [0.1, 0.2, 0.5], [nan, 0.2, 2.0], [0.1, 0.2, nan], [1.0, 1.0, 1e300]])
    values = log_likelihood(rbm, x)
    np.testing.assert_array_equal(np.isneginf(values), [False, True, True, False, True])
    assert np.isfinite(values[[0, 3]]).all()
    explanation = rbm.explain(rbm.initial_state(5), x, np.full(5, np.nan))
    assert np.isposinf(explanation.nats[[1, 2, 4], 2]).all()
    assert np.isfinite(explanation.nats[[0, 1, 3], :2]).all()


def test_marginals_agree_with_numerical_integration_of_the_free_energy() -> None:
    rbm = random_rbm(3, 4)
    record = np.array([0.4, np.nan, -0.7])

    def density(v: float) -> float:
        return float(np.exp(log_likelihood(rbm, np.array([[0.4, v, -0.7]]))[0]))

    total, _ = quad(density, -15, 15, epsabs=0, epsrel=1e-10, limit=200)
    assert log_likelihood(rbm, record[None])[0] == pytest.approx(np.log(total), rel=1e-8)


@pytest.mark.parametrize("binary", [0, 3])
def test_many_hidden_units_leave_a_lower_bound_that_is_close(
    binary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    exact = random_rbm(6, 8, binary=binary)
    x = with_gaps(exact.sample(200, rng), share=0.3)[:-1]
    known = log_likelihood(exact, x)
    monkeypatch.setattr(rbm_module, "MOST_ENUMERATED", 7)
    bound = log_likelihood(Rbm.from_arrays(exact.arrays()), x)
    complete = ~np.isnan(x).any(axis=1)
    np.testing.assert_array_equal(bound[complete], known[complete])
    assert (bound <= known + 1e-9).all()
    assert (bound < known - 1e-6).any()
    assert np.median(known - bound) < 0.5


@pytest.mark.parametrize("binary", [0, 2])
def test_explanation_of_a_complete_record_is_its_exact_conditional(binary: int) -> None:
    p, rbm = random_rbm_parameters(4, 5, binary=binary), random_rbm(4, 5, binary=binary)
    weights, means, _ = mixture_of_rbm(p)
    record = np.array([0.5, -2.0, 1.0, 0.0])
    explanation = rbm.explain(rbm.initial_state(1), record[None], NO_GAP)
    for j in range(4):
        others = np.arange(4) != j
        log_given = np.log(weights) + log_of_setting(p, record, others)
        given = np.exp(log_given - logsumexp(log_given))
        expected = given @ means[:, j]
        std = np.sqrt(p.variances[j] + given @ (means[:, j] - expected) ** 2)
        nats = marginal(p, record, others) - marginal(p, record, np.ones(4, dtype=bool))
        assert explanation.nats[0, j] == pytest.approx(nats, rel=1e-9)
        if p.binary[j]:
            assert explanation.expected[0, j] == round(expected)
            assert np.isnan(explanation.std[0, j])
            continue
        assert explanation.expected[0, j] == pytest.approx(expected, rel=1e-9)
        assert explanation.std[0, j] == pytest.approx(std, rel=1e-9)


def test_explanation_with_other_features_missing_is_close_to_the_conditional() -> None:
    p, rbm = random_rbm_parameters(4, 5), random_rbm(4, 5)
    x = rbm.sample(100, np.random.default_rng(3))
    x[:, 2] = np.nan
    explanation = rbm.explain(rbm.initial_state(100), x, np.full(100, np.nan))
    assert np.isnan(explanation.nats[:, 2]).all()
    assert np.isfinite(explanation.expected).all()
    seen, others = np.array([True, True, False, True]), np.array([False, True, False, True])
    known = np.array([marginal(p, record, others) - marginal(p, record, seen) for record in x])
    assert np.abs(explanation.nats[:, 0] - known).mean() < 0.25
    assert np.corrcoef(explanation.nats[:, 0], known)[0, 1] > 0.9


def test_hidden_units_are_on_as_often_as_the_sum_over_all_settings_says() -> None:
    p, x = random_rbm_parameters(5, 4), np.random.default_rng(2).normal(size=(20, 5))
    settings = np.array(list(product((0.0, 1.0), repeat=4)))
    weights, means, _ = mixture_of_rbm(p)
    log_joint = np.log(weights) + norm.logpdf(x[:, None], means, np.sqrt(p.variances)).sum(axis=2)
    posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    latent = random_rbm(5, 4).latent(np.empty((20, 0)), x, np.full(20, np.nan))
    np.testing.assert_allclose(latent, posterior @ settings, rtol=1e-9)


def test_with_missing_features_hidden_units_are_on_about_as_often_as_the_sum_says() -> None:
    p, x = random_rbm_parameters(5, 4), np.random.default_rng(2).normal(size=(200, 5))
    seen = np.array([True, False, True, True, True])
    weights, means, _ = mixture_of_rbm(p)
    log_density = norm.logpdf(x[:, None, seen], means[:, seen], np.sqrt(p.variances[seen])).sum(axis=2)
    log_joint = np.log(weights) + log_density
    posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True)) @ np.array(
        list(product((0.0, 1.0), repeat=4))
    )
    latent = random_rbm(5, 4).latent(np.empty((200, 0)), np.where(seen, x, np.nan), np.full(200, np.nan))
    assert np.abs(latent - posterior).mean() < 0.05


def test_one_absurd_value_spoils_no_other_features_explanation() -> None:
    rbm = random_rbm(3, 4)
    with np.errstate(all="raise", under="ignore"):
        explanation = rbm.explain(rbm.initial_state(1), np.array([[1e8, 0.0, np.nan]]), NO_GAP)
    assert explanation.nats[0, 0] > 1e12
    assert np.isfinite(explanation.nats[0, 1])
    assert abs(explanation.nats[0, 1]) < 1e4
    assert np.isfinite(explanation.expected).all()
    assert np.isfinite(explanation.std).all()


def test_absurd_values_are_outside_the_support() -> None:
    rbm = random_rbm(3, 4)
    values = log_likelihood(rbm, np.array([[1e200, 0.0, 0.0], [0.0, -1e200, np.nan], [1e6, 0.0, 0.0]]))
    assert np.isneginf(values[:2]).all()
    assert values[2] < -1e9


@pytest.mark.parametrize(
    ("d", "h", "binary"), [(1, 3, 0), (5, 4, 0), (10, 12, 0), (5, 20, 0), (5, 4, 2), (5, 20, 3)]
)
def test_batch_size_and_order_change_no_bit(d: int, h: int, binary: int) -> None:
    rbm = Rbm(random_rbm_parameters(d, h, binary=binary), 3.0, 0.1, np.zeros((4, d)))
    x = records(d, binary, 150)
    x[::2] = with_gaps(x[::2])
    together, lengths = log_likelihood(rbm, x), np.array([30, 120])
    np.testing.assert_array_equal(step_by_step(rbm, x, lengths)[1], scan(rbm, x, lengths)[1])
    order = np.random.default_rng(3).permutation(150)
    np.testing.assert_array_equal(log_likelihood(rbm, x[order]), together[order])
    explained = rbm.explain(rbm.initial_state(150), x, np.full(150, np.nan))
    for n in (0, 1, 77):
        alone = rbm.explain(rbm.initial_state(1), x[n : n + 1], NO_GAP)
        np.testing.assert_array_equal(alone.nats[0], explained.nats[n])
        np.testing.assert_array_equal(alone.expected[0], explained.expected[n])


def test_a_record_without_features_has_no_score() -> None:
    assert np.isnan(log_likelihood(random_rbm(2, 3), np.full((1, 2), np.nan))).all()
    assert log_likelihood(random_rbm(2, 3), np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize("binary", [0, 1])
def test_samples_are_distributed_like_the_mixture(binary: int) -> None:
    p, rbm = random_rbm_parameters(3, 4, binary=binary), random_rbm(3, 4, binary=binary)
    direct = drawn_from_rbm(p, 4000, np.random.default_rng(0))
    drawn = rbm.sample(4000, np.random.default_rng(1))
    for a, b in zip(
        [*drawn.T, log_likelihood(rbm, drawn)], [*direct.T, log_likelihood(rbm, direct)], strict=True
    ):
        assert ks_2samp(a, b, method="asymp").pvalue > 1e-3
    np.testing.assert_array_equal(drawn, rbm.sample(4000, np.random.default_rng(1)))


@pytest.mark.parametrize("binary", [0, 1, 3])
def test_arrays_round_trip_exactly(binary: int) -> None:
    rbm = random_rbm(3, 4, binary=binary)
    x = with_gaps(records(3, binary, 30))
    rebuilt = Rbm.from_arrays(rbm.arrays())
    np.testing.assert_array_equal(log_likelihood(rebuilt, x), log_likelihood(rbm, x))
    assert (rebuilt.n_features, rebuilt.n_hidden, rebuilt.state_size, rebuilt.warmup_records) == (3, 4, 0, 0)
    for name, array in rbm.arrays().items():
        np.testing.assert_array_equal(rebuilt.arrays()[name], array)


def test_without_a_mask_every_feature_is_gaussian() -> None:
    assert "binary" not in random_rbm(3, 4).arrays()
    mixed = random_rbm(3, 4, binary=1).arrays()
    del mixed["binary"]
    with pytest.raises(ValueError, match="'variances' has shape"):
        Rbm.from_arrays(mixed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", np.zeros((4, 2)), "'variances' has shape"),
        ("visible_bias", np.zeros(2), "'visible_bias' has shape"),
        ("hidden_bias", np.zeros(3), "'hidden_bias' has shape"),
        ("variances", np.array([1.0, 0.0, 1.0]), "must be positive"),
        ("chains", np.zeros((5, 2)), "'chains' has shape"),
        ("log_partition", np.array([np.nan]), "not finite"),
        ("log_partition_error", np.array([-1.0]), "at least 0"),
        ("binary", np.array([0.0, 0.5, 0.0]), "expected 0 and 1"),
    ],
)
def test_arrays_of_no_machine_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rbm.from_arrays({**random_rbm(3, 4).arrays(), name: value})


def test_records_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 3 features"):
        log_likelihood(random_rbm(3, 4), np.zeros((2, 4)))
