"""Tests for detector.models.naive_bayes."""

import numpy as np
import pytest
from scipy.special import logsumexp

from detector.models.feature_densities import GaussianFeature, HistogramFeature
from detector.models.gmm import Gmm
from detector.models.naive_bayes import NaiveBayes
from tests.models.families_by_hand import (
    random_mixed_naive_bayes,
    random_naive_bayes,
    with_gaps,
)

NO_STATE = np.empty((1, 0))
NO_GAP = np.array([np.nan])


def means_and_stds(model: NaiveBayes) -> tuple[np.ndarray, np.ndarray]:
    arrays = model.arrays()
    of = [(arrays[f"feature_{j}_mean"], arrays[f"feature_{j}_std"]) for j in range(model.n_features)]
    return np.stack([mean for mean, _ in of], axis=1), np.stack([std for _, std in of], axis=1)


@pytest.mark.parametrize(("c", "d"), [(1, 1), (2, 3), (8, 10), (3, 200)])
def test_with_gaussians_it_is_scikit_learns_diagonal_mixture(c: int, d: int) -> None:
    mixture_module = pytest.importorskip("sklearn.mixture")
    model = random_naive_bayes(c, d, histograms=False)
    means, stds = means_and_stds(model)
    peer = mixture_module.GaussianMixture(c, covariance_type="diag")
    peer.weights_, peer.means_, peer.precisions_cholesky_ = model.arrays()["class_weights"], means, 1 / stds
    x = np.vstack([model.sample(300, np.random.default_rng(1)), 5.0 * np.ones((1, d))])
    np.testing.assert_allclose(model.log_likelihood(x), peer.score_samples(x), rtol=1e-9)


def test_with_gaussians_classes_are_as_probable_as_scikit_learns_gaussian_nb_says() -> None:
    naive_bayes_module = pytest.importorskip("sklearn.naive_bayes")
    model = random_naive_bayes(3, 4, histograms=False)
    means, stds = means_and_stds(model)
    peer = naive_bayes_module.GaussianNB()
    peer.classes_, peer.class_prior_ = np.arange(3), model.arrays()["class_weights"]
    peer.theta_, peer.var_, peer.n_features_in_ = means, stds**2, 4
    x = model.sample(200, np.random.default_rng(1))
    np.testing.assert_allclose(model.log_joint(x), peer.predict_joint_log_proba(x), rtol=1e-9)
    rows, gap_s = model.initial_state(len(x)), np.full(len(x), np.nan)
    np.testing.assert_allclose(model.latent(rows, x, gap_s), peer.predict_proba(x), rtol=1e-9, atol=1e-12)


def test_the_joint_is_the_product_over_features_summed_over_classes() -> None:
    model = random_naive_bayes(3, 2)
    arrays = model.arrays()
    gaussian = GaussianFeature.from_arrays(arrays, "feature_0_", 3)
    histogram = HistogramFeature.from_arrays(arrays, "feature_1_", 3)
    x = model.sample(50, np.random.default_rng(1))
    log_density = gaussian.log_density(x[:, 0]) + histogram.log_density(x[:, 1])
    by_class = np.log(arrays["class_weights"]) + log_density.T
    np.testing.assert_allclose(model.log_likelihood(x), logsumexp(by_class, axis=1), rtol=1e-12)


def test_missing_features_drop_out() -> None:
    model = random_naive_bayes(3, 4)
    arrays = model.arrays()
    x = with_gaps(model.sample(60, np.random.default_rng(1)), share=0.4)
    for record, value in zip(x, model.log_likelihood(x), strict=True):
        seen = np.flatnonzero(~np.isnan(record))
        if not seen.size:
            assert np.isnan(value)
            continue
        fewer = {"class_weights": arrays["class_weights"], "kinds": arrays["kinds"][seen]}
        for j, of in enumerate(seen):
            prefix = f"feature_{of}_"
            fewer |= {
                name.replace(prefix, f"feature_{j}_"): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
        assert value == NaiveBayes.from_arrays(fewer).log_likelihood(record[None, seen])[0]


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_marginal_is_the_integral_over_the_missing_feature(hidden: int) -> None:
    model = random_naive_bayes(2, 2)
    # Midpoints of cells: exact where the density is constant, and the edges are no multiples of them.
    grid = np.linspace(-40.0, 40.0, 2_000_001)
    rows = np.full((len(grid), 2), 0.7)
    rows[:, hidden] = grid
    record = np.full((1, 2), 0.7)
    record[0, hidden] = np.nan
    integral = np.trapezoid(np.exp(model.log_likelihood(rows)), grid)
    assert model.log_likelihood(record)[0] == pytest.approx(np.log(integral), abs=1e-4)


@pytest.mark.parametrize(("c", "d"), [(1, 1), (2, 3), (8, 10), (3, 40)])
def test_batch_size_and_order_change_no_bit(c: int, d: int) -> None:
    model, rng = random_naive_bayes(c, d), np.random.default_rng(2)
    x = model.sample(500, rng)
    x[::3] = with_gaps(x[::3])
    together = model.log_likelihood(x)
    one_by_one = np.concatenate([model.log_likelihood(x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_array_equal(one_by_one, together)
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(model.log_likelihood(x[order]), together[order])
    explained = model.explain(np.empty((500, 0)), x, np.full(500, np.nan))
    for n in range(0, 500, 50):
        alone = model.explain(NO_STATE, x[n : n + 1], NO_GAP)
        np.testing.assert_array_equal(alone.nats[0], explained.nats[n])
        np.testing.assert_array_equal(alone.std[0], explained.std[n])


def test_a_batch_longer_than_what_is_scored_at_once_changes_no_bit() -> None:
    model = random_naive_bayes(2, 2)
    x = model.sample(9000, np.random.default_rng(0))
    halves = np.concatenate([model.log_likelihood(x[:4500]), model.log_likelihood(x[4500:])])
    np.testing.assert_array_equal(halves, model.log_likelihood(x))


def test_a_record_beyond_what_squares_can_hold_is_impossible() -> None:
    value = random_naive_bayes(2, 3).log_likelihood(np.array([[1e200, -1e200, 0.0], [1e308, 1e308, -1e308]]))
    assert np.isneginf(value).all()


def test_explanation_agrees_with_the_conditional_by_quadrature() -> None:
    model = random_naive_bayes(3, 3)
    record = np.array([0.4, -0.3, 0.8])
    explanation = model.explain(NO_STATE, record[None], NO_GAP)
    grid = np.linspace(-30.0, 30.0, 1_000_001)
    for j in range(3):
        rows = np.tile(record, (len(grid), 1))
        rows[:, j] = grid
        joint = np.exp(model.log_likelihood(rows))
        conditional = joint / np.trapezoid(joint, grid)
        mean = np.trapezoid(grid * conditional, grid)
        variance = np.trapezoid((grid - mean) ** 2 * conditional, grid)
        # The integral over a histogram's steps is only as fine as the grid.
        assert explanation.expected[0, j] == pytest.approx(mean, abs=1e-3)
        assert explanation.std[0, j] == pytest.approx(np.sqrt(variance), rel=1e-3)
        hidden = record.copy()
        hidden[j] = np.nan
        nats = model.log_likelihood(np.array([hidden])) - model.log_likelihood(record[None])
        assert explanation.nats[0, j] == pytest.approx(nats[0], rel=1e-9)


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_of_discrete_features_marginal_and_conditional_are_sums(hidden: int) -> None:
    model = random_mixed_naive_bayes(3, ("continuous", "count", "categorical", "binary"))
    record = np.array([[0.4, 6.0, 2.0, 1.0]])
    rows = np.repeat(record, 400, axis=0)
    rows[:, hidden] = np.arange(400)
    by_value = model.log_likelihood(rows)
    without = record.copy()
    without[0, hidden] = np.nan
    marginal = model.log_likelihood(without)[0]
    assert logsumexp(by_value) == pytest.approx(marginal, rel=1e-9)
    explanation = model.explain(NO_STATE, record, NO_GAP)
    nats = marginal - model.log_likelihood(record)[0]
    assert explanation.nats[0, hidden] == pytest.approx(nats, rel=1e-9)
    conditional = np.exp(by_value - marginal)
    if hidden == 1:
        mean = (conditional * np.arange(400)).sum()
        assert explanation.expected[0, 1] == pytest.approx(mean, rel=1e-9)
        spread = np.sqrt((conditional * (np.arange(400) - mean) ** 2).sum())
        assert explanation.std[0, 1] == pytest.approx(spread, rel=1e-9)
    else:
        assert explanation.expected[0, hidden] == conditional.argmax()
        assert np.isnan(explanation.std[0, hidden])


def test_what_no_class_allows_is_impossible_and_blames_its_feature_alone() -> None:
    model = random_mixed_naive_bayes(3, ("continuous", "count", "categorical"))
    record = np.array([[0.4, 2.5, 2.0]])
    assert np.isneginf(model.log_likelihood(record)).all()
    explanation = model.explain(NO_STATE, record, NO_GAP)
    assert explanation.nats[0, 1] == np.inf
    without = np.array([[0.4, np.nan, 2.0]])
    reference = model.explain(NO_STATE, without, NO_GAP)
    assert explanation.expected[0, 1] == reference.expected[0, 1]
    posterior = model.latent(NO_STATE, record, NO_GAP)
    np.testing.assert_allclose(posterior[0], model.arrays()["class_weights"])


def test_with_gaussians_an_explanation_is_that_of_the_diagonal_mixture() -> None:
    model = random_naive_bayes(3, 4, histograms=False)
    means, stds = means_and_stds(model)
    peer = Gmm(model.arrays()["class_weights"], means, np.stack([np.diag(s**2) for s in stds]))
    x = with_gaps(model.sample(30, np.random.default_rng(0)))
    ours = model.explain(np.empty((30, 0)), x, np.full(30, np.nan))
    theirs = peer.explain(np.empty((30, 0)), x, np.full(30, np.nan))
    np.testing.assert_allclose(ours.nats, theirs.nats, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.expected, theirs.expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.std, theirs.std, rtol=1e-9)


def test_an_absurd_feature_does_not_spoil_what_is_said_of_the_others() -> None:
    model = random_naive_bayes(3, 3)
    record = np.array([[0.4, -0.3, 0.8]])
    absurd = np.array([[1e300, -0.3, 0.8]])
    explanation = model.explain(NO_STATE, absurd, NO_GAP)
    reference = model.explain(NO_STATE, record, NO_GAP)
    assert np.isfinite(explanation.nats).all()
    assert np.isfinite(explanation.expected).all()
    assert explanation.expected[0, 0] == reference.expected[0, 0]
    assert explanation.std[0, 0] == reference.std[0, 0]


def test_nothing_or_an_impossible_record_leaves_the_class_weights() -> None:
    model = random_naive_bayes(3, 2)
    x = np.array([[np.nan, np.nan], [1e300, -1e300]])
    classes = model.latent(model.initial_state(2), x, np.full(2, np.nan))
    np.testing.assert_allclose(classes, np.tile(model.arrays()["class_weights"], (2, 1)), rtol=1e-12)


def test_samples_have_the_mean_of_the_classes() -> None:
    model = random_naive_bayes(3, 3)
    x = model.sample(40_000, np.random.default_rng(0))
    expected = model.explain(NO_STATE, np.full((1, 3), np.nan), NO_GAP)
    standard_error = expected.std[0] / np.sqrt(len(x))
    assert (np.abs(x.mean(axis=0) - expected.expected[0]) < 4 * standard_error).all()
    np.testing.assert_allclose(x.std(axis=0), expected.std[0], rtol=0.03)


def test_arrays_round_trip_exactly() -> None:
    model = random_naive_bayes(3, 4)
    x = with_gaps(model.sample(50, np.random.default_rng(0)))
    rebuilt = NaiveBayes.from_arrays(model.arrays())
    np.testing.assert_array_equal(rebuilt.log_likelihood(x), model.log_likelihood(x))
    assert (rebuilt.n_features, rebuilt.n_classes, rebuilt.kinds) == (4, 3, model.kinds)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("class_weights", np.array([0.5, 0.6]), "no distribution"),
        ("kinds", np.array([0.0, 99.0]), "does not know"),
        ("kinds", np.array([0.5, 1.0]), "does not know"),
        ("kinds", np.array([0.0, 0.0]), "'feature_1_mean' is absent"),
        ("feature_0_mean", np.zeros(3), "shape"),
    ],
)
def test_arrays_of_no_model_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NaiveBayes.from_arrays({**random_naive_bayes(2, 2).arrays(), name: value})


def test_records_with_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 4\), the model has 3 features"):
        random_naive_bayes(2, 3).log_likelihood(np.zeros((2, 4)))
