"""Tests for detector.models.gmm."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from detector.models.gmm import Gmm
from tests.models.families_by_hand import random_gmm, with_gaps

NO_STATE = np.empty((1, 0))
NO_GAP = np.array([np.nan])
EVERY_COVARIANCE = pytest.mark.parametrize("covariance", ["full", "diagonal", "tied"])


def full_covariances(gmm: Gmm) -> np.ndarray:
    """Whatever their shape, as one matrix per component."""
    covariances = gmm.arrays()["covariances"]
    if gmm.covariance == "diagonal":
        return np.stack([np.diag(variances) for variances in covariances])
    return np.broadcast_to(covariances, (gmm.n_components, gmm.n_features, gmm.n_features))


@EVERY_COVARIANCE
@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 3), (8, 10), (4, 38), (2, 200)])
def test_agrees_with_scikit_learn(k: int, d: int, covariance: str) -> None:
    mixture_module = pytest.importorskip("sklearn.mixture")
    gmm = random_gmm(k, d, covariance=covariance)
    arrays = gmm.arrays()
    peer = mixture_module.GaussianMixture(
        k, covariance_type="diag" if covariance == "diagonal" else covariance
    )
    peer.weights_, peer.means_ = arrays["weights"], arrays["means"]
    if covariance == "diagonal":
        peer.precisions_cholesky_ = 1.0 / np.sqrt(arrays["covariances"])
    else:
        factors = np.stack([np.linalg.inv(np.linalg.cholesky(c)).T for c in arrays["covariances"]])
        peer.precisions_cholesky_ = factors[0] if covariance == "tied" else factors
    x = np.vstack([gmm.sample(300, np.random.default_rng(1)), 5.0 * np.ones((1, d))])
    np.testing.assert_allclose(gmm.log_likelihood(x), peer.score_samples(x), rtol=1e-9)
    rows, gap_s = gmm.initial_state(len(x)), np.full(len(x), np.nan)
    np.testing.assert_allclose(gmm.latent(rows, x, gap_s), peer.predict_proba(x), rtol=1e-9, atol=1e-12)


@EVERY_COVARIANCE
def test_missing_features_are_integrated_out(covariance: str) -> None:
    gmm = random_gmm(3, 4, covariance=covariance)
    arrays = gmm.arrays()
    x = with_gaps(gmm.sample(60, np.random.default_rng(1)), share=0.4)
    for record, value in zip(x, gmm.log_likelihood(x), strict=True):
        seen = ~np.isnan(record)
        if not seen.any():
            assert np.isnan(value)
            continue
        terms = [
            np.log(weight) + multivariate_normal(mean[seen], cov[np.ix_(seen, seen)]).logpdf(record[seen])
            for weight, mean, cov in zip(
                arrays["weights"], arrays["means"], full_covariances(gmm), strict=True
            )
        ]
        assert value == pytest.approx(logsumexp(terms), rel=1e-9)


def test_a_marginal_is_the_integral_over_the_missing_feature() -> None:
    gmm = random_gmm(2, 2)
    grid = np.linspace(-15.0, 15.0, 20001)
    density = np.exp(gmm.log_likelihood(np.column_stack([np.full_like(grid, 0.7), grid])))
    value = gmm.log_likelihood(np.array([[0.7, np.nan]]))
    assert value == pytest.approx(np.log(np.trapezoid(density, grid)), rel=1e-9)


@EVERY_COVARIANCE
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 1), (2, 3), (8, 10), (3, 40), (17, 5), (2, 200)])
def test_batch_size_and_order_change_no_bit(k: int, d: int, covariance: str, far: bool) -> None:
    gmm, rng = random_gmm(k, d, covariance=covariance), np.random.default_rng(2)
    if far:
        gmm = Gmm.from_arrays({**gmm.arrays(), "means": 1e3 * gmm.arrays()["means"]})
    x = gmm.sample(500, rng)
    x[::3] = with_gaps(x[::3])
    together = gmm.log_likelihood(x)
    one_by_one = np.concatenate([gmm.log_likelihood(x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_array_equal(one_by_one, together)
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(gmm.log_likelihood(x[order]), together[order])
    edges = np.sort(rng.choice(len(x), size=9, replace=False))
    chunks = np.concatenate([gmm.log_likelihood(chunk) for chunk in np.split(x, edges)])
    np.testing.assert_array_equal(chunks, together)


def test_step_and_scan_agree_and_keep_no_state() -> None:
    gmm = random_gmm(2, 3)
    x = gmm.sample(10, np.random.default_rng(0))
    rows, stepped = gmm.step(gmm.initial_state(10), x, np.full(10, np.nan))
    _, scanned = gmm.scan(gmm.initial_state(2), x, np.full(10, np.nan), np.array([4, 6]))
    assert rows.shape == (10, gmm.state_size) == (10, 0)
    np.testing.assert_array_equal(stepped, scanned)


def test_a_record_beyond_what_squares_can_hold_is_impossible() -> None:
    value = random_gmm(2, 3).log_likelihood(np.array([[1e200, -1e200, 0.0], [1e308, 1e308, -1e308]]))
    assert np.isneginf(value).all()


@EVERY_COVARIANCE
def test_explanation_agrees_with_the_conditional_by_quadrature(covariance: str) -> None:
    gmm = random_gmm(3, 3, covariance=covariance)
    record = np.array([0.4, -1.0, 0.8])
    explanation = gmm.explain(NO_STATE, record[None], NO_GAP)
    grid = np.linspace(-30.0, 30.0, 60001)
    for j in range(3):
        rows = np.tile(record, (len(grid), 1))
        rows[:, j] = grid
        joint = np.exp(gmm.log_likelihood(rows))
        conditional = joint / np.trapezoid(joint, grid)
        mean = np.trapezoid(grid * conditional, grid)
        assert explanation.expected[0, j] == pytest.approx(mean, rel=1e-8)
        variance = np.trapezoid((grid - mean) ** 2 * conditional, grid)
        assert explanation.std[0, j] == pytest.approx(np.sqrt(variance), rel=1e-8)
        hidden = record.copy()
        hidden[j] = np.nan
        nats = gmm.log_likelihood(np.array([hidden])) - gmm.log_likelihood(record[None])
        assert explanation.nats[0, j] == pytest.approx(nats[0], rel=1e-9)


def test_a_missing_feature_is_expected_from_the_others() -> None:
    gmm = random_gmm(3, 3)
    record = np.array([[0.4, np.nan, 0.8]])
    explanation = gmm.explain(NO_STATE, record, NO_GAP)
    filled = np.array([[0.4, 123.0, 0.8]])
    reference = gmm.explain(NO_STATE, filled, NO_GAP)
    assert np.isnan(explanation.nats[0, 1])
    assert explanation.expected[0, 1] == pytest.approx(reference.expected[0, 1], rel=1e-12)
    assert explanation.std[0, 1] == pytest.approx(reference.std[0, 1], rel=1e-12)
    assert np.isfinite(explanation.nats[0, [0, 2]]).all()


def test_nothing_seen_expects_the_mean_of_the_mixture() -> None:
    gmm = random_gmm(3, 2)
    arrays = gmm.arrays()
    explanation = gmm.explain(NO_STATE, np.full((1, 2), np.nan), NO_GAP)
    np.testing.assert_allclose(explanation.expected[0], arrays["weights"] @ arrays["means"], rtol=1e-12)


def test_nothing_or_an_impossible_record_leaves_the_weights_as_responsibilities() -> None:
    gmm = random_gmm(3, 2)
    x = np.array([[np.nan, np.nan], [1e300, -1e300]])
    responsibilities = gmm.latent(gmm.initial_state(2), x, np.full(2, np.nan))
    np.testing.assert_allclose(responsibilities, np.tile(gmm.arrays()["weights"], (2, 1)), rtol=1e-12)


@EVERY_COVARIANCE
def test_samples_have_the_mean_and_covariance_of_the_mixture(covariance: str) -> None:
    gmm = random_gmm(3, 2, covariance=covariance)
    arrays = gmm.arrays()
    x = gmm.sample(40_000, np.random.default_rng(0))
    mean = arrays["weights"] @ arrays["means"]
    spread = arrays["means"] - mean
    expected = np.einsum("k,kij->ij", arrays["weights"], full_covariances(gmm)) + np.einsum(
        "k,ki,kj->ij", arrays["weights"], spread, spread
    )
    standard_error = np.sqrt(np.diag(expected) / len(x))
    assert (np.abs(x.mean(axis=0) - mean) < 4 * standard_error).all()
    np.testing.assert_allclose(np.cov(x.T), expected, atol=0.05 * expected.max())


@EVERY_COVARIANCE
def test_arrays_round_trip_exactly(covariance: str) -> None:
    gmm = random_gmm(3, 4, covariance=covariance)
    x = with_gaps(gmm.sample(50, np.random.default_rng(0)))
    rebuilt = Gmm.from_arrays(gmm.arrays())
    np.testing.assert_array_equal(rebuilt.log_likelihood(x), gmm.log_likelihood(x))
    assert (rebuilt.n_features, rebuilt.n_components, rebuilt.covariance) == (4, 3, covariance)
    assert rebuilt.warmup_records == 0


@EVERY_COVARIANCE
def test_components_far_apart_lose_no_digits(covariance: str) -> None:
    """Offsets of 10^5 standard deviations, whose squares would swallow what is left near a mean."""
    near = random_gmm(3, 4, covariance=covariance)
    shift = 1e5 * np.random.default_rng(4).choice([-1.0, 1.0], size=(3, 4)) * [[1.0], [2.0], [3.0]]
    arrays = near.arrays()
    far = Gmm.from_arrays({**arrays, "means": arrays["means"] + shift})
    x = arrays["means"] + shift + 0.5
    x[1, 0] = np.nan
    for record, value, k in zip(x, far.log_likelihood(x), range(3), strict=True):
        seen = ~np.isnan(record)
        own = multivariate_normal(np.zeros(seen.sum()), full_covariances(near)[k][np.ix_(seen, seen)])
        expected = np.log(arrays["weights"][k]) + own.logpdf((record - arrays["means"][k] - shift[k])[seen])
        assert value == pytest.approx(expected, rel=1e-9)


@EVERY_COVARIANCE
def test_absurd_values_are_improbable_or_impossible_and_never_nan(covariance: str) -> None:
    gmm = random_gmm(3, 3, covariance=covariance)
    x = np.array([1e12, -1e60, 1e152, -1e160, 1e300])[:, None] * np.array([[1.0, -1.0, 0.5]])
    x = np.vstack([x, np.where([True, False, True], x, np.nan)])
    value = gmm.log_likelihood(x)
    assert not np.isnan(value).any()
    assert (value < -1e20).all()
    assert (np.diff(value[:3]) < 0).all()
    assert np.isneginf(value[[3, 4]]).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", np.array([0.5, 0.6]), "no distribution"),
        ("means", np.zeros((3, 2)), "shape"),
        ("covariances", np.zeros((3, 2, 2)), "shape"),
        ("covariances", np.zeros((2, 3)), "shape"),
        ("covariances", np.zeros(2), "shape"),
        ("covariances", np.zeros((2, 2)), "a variance is not positive"),
        ("covariances", -np.stack([np.eye(2)] * 2), "not positive definite"),
    ],
)
def test_arrays_of_no_mixture_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gmm.from_arrays({**random_gmm(2, 2).arrays(), name: value})
