"""Tests for detector.training.fit_naive_bayes."""

import numpy as np
import pytest
from scipy.stats import expon, norm

from detector.models.naive_bayes import NaiveBayes
from detector.training.fit_naive_bayes import _maximise, _Rows, fit_naive_bayes

pytest.importorskip("sklearn")


def drawn(n: int, seed: int = 0) -> np.ndarray:
    """Two classes; within each, one bell and one feature that is far from a bell."""
    rng = np.random.default_rng(seed)
    second = rng.random(n) < 0.3
    bell = rng.normal(size=n) * np.where(second, 0.5, 1.0) + np.where(second, 4.0, 0.0)
    skewed = rng.exponential(size=n) * np.where(second, 3.0, 1.0)
    return np.column_stack([bell, skewed])


def true_log_likelihood(x: np.ndarray) -> np.ndarray:
    first = 0.7 * norm.pdf(x[:, 0]) * expon.pdf(x[:, 1])
    second = 0.3 * norm.pdf(x[:, 0], 4.0, 0.5) * expon.pdf(x[:, 1], scale=3.0)
    return np.asarray(np.log(first + second))


def lengths_of(x: np.ndarray) -> np.ndarray:
    return np.array([len(x)])


def test_finds_classes_and_densities_that_the_rows_were_drawn_from() -> None:
    x = drawn(8000)
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0)
    assert model.kinds[1] == "histogram"
    assert 2 <= model.n_classes <= 3
    fresh = drawn(8000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.06


def test_one_bell_is_one_class_of_bells() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 3))
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0)
    assert model.n_classes == 1
    assert model.kinds == ("gaussian",) * 3


def test_settings_fix_classes_and_densities() -> None:
    x = drawn(1000)
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=3, density="histogram")
    assert model.n_classes == 3
    assert model.kinds == ("histogram", "histogram")
    assert fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2, density="gaussian").kinds == (
        "gaussian",
        "gaussian",
    )


def test_bells_alone_are_as_good_as_scikit_learns() -> None:
    mixture_module = pytest.importorskip("sklearn.mixture")
    x = drawn(3000)
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2, density="gaussian")
    peer = mixture_module.GaussianMixture(2, covariance_type="diag", n_init=3, random_state=0).fit(x)
    assert model.log_likelihood(x).mean() > peer.score(x) - 0.01


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_expectation_maximisation_never_lowers_the_likelihood(missing: float) -> None:
    x = drawn(1500)
    x[np.random.default_rng(2).random(x.shape) < missing] = np.nan
    x = x[~np.isnan(x).all(axis=1)]
    rows = _Rows.of(x, np.ones(2))
    responsibilities = np.random.default_rng(0).dirichlet(np.ones(3), size=len(x))
    means = []
    for _ in range(15):
        model = _maximise(rows, ("gaussian", "histogram"), responsibilities, most_iterations=0)
        means.append(model.log_likelihood(x).mean())
        log_joint = model.log_joint(x)
        responsibilities = np.exp(log_joint - model.log_likelihood(x)[:, None])
    # The floor of the variance and the prior rows of a bin are not part of what is maximised.
    assert np.diff(means).min() > -1e-3
    assert means[-1] > means[0] + 0.05


def test_rows_with_gaps_are_fitted_as_they_are() -> None:
    x = drawn(8000)
    x[np.random.default_rng(5).random(x.shape) < 0.35] = np.nan
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2)
    fresh = drawn(8000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.08


def test_absurd_values_decide_nothing() -> None:
    x = drawn(4000)
    x[[1000, 3900, 3950], [0, 1, 1]] = [1e6, -1e6, 1e9]
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0)
    fresh = drawn(4000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.1


def test_same_seed_same_bits() -> None:
    x = drawn(1000)
    first = fit_naive_bayes(x, lengths=lengths_of(x), seed=3, n_classes=3).arrays()
    again = fit_naive_bayes(x, lengths=lengths_of(x), seed=3, n_classes=3).arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_units_of_a_feature_only_shift_the_log_likelihood() -> None:
    x, unit = drawn(1500), np.array([1e-4, 1e3])
    plain = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2)
    scaled = fit_naive_bayes(x * unit, lengths=lengths_of(x), seed=0, n_classes=2)
    assert scaled.kinds == plain.kinds
    expected = plain.log_likelihood(x) - np.log(unit).sum()
    # A value that rounding moves across an edge falls into another bin: at most a few of them.
    close = np.isclose(scaled.log_likelihood(x * unit), expected, rtol=1e-6)
    assert close.mean() > 0.99


@pytest.mark.parametrize("n_classes", [1, 2, None])
@pytest.mark.parametrize("density", ["gaussian", "histogram", None])
def test_constant_and_duplicated_features_keep_a_spread(n_classes: int | None, density: str | None) -> None:
    x = drawn(1000)
    x = np.column_stack([x, x[:, 0], np.full(1000, 5.0), np.zeros(1000)])
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=n_classes, density=density)
    assert np.isfinite(model.log_likelihood(x)).all()
    moved = x[:1].copy()
    moved[0, 3] = 6.0
    assert model.log_likelihood(moved)[0] < model.log_likelihood(x[:1])[0] - 10


def test_constant_data_fall_back_to_one_class() -> None:
    x = np.zeros((500, 2))
    assert fit_naive_bayes(x, lengths=lengths_of(x), seed=0).n_classes == 1


def test_progress_is_told_and_ends_complete() -> None:
    told: list[tuple[str, int, int]] = []
    x = drawn(400)
    fit_naive_bayes(x, lengths=lengths_of(x), seed=0, progress=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][2]


def test_more_classes_than_the_rows_can_tell_apart_are_refused() -> None:
    x = drawn(40)
    assert isinstance(fit_naive_bayes(x, lengths=lengths_of(x), seed=0), NaiveBayes)
    with pytest.raises(ValueError, match=r"naive Bayes with 8 classes .* give at least 98 rows"):
        fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=8)


def test_an_unknown_density_is_named() -> None:
    x = drawn(100)
    with pytest.raises(ValueError, match="no density is called 'poisson'; take one of gaussian, histogram"):
        fit_naive_bayes(x, lengths=lengths_of(x), seed=0, density="poisson")
