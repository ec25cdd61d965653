"""Tests for detector.training.fit_naive_bayes."""

import numpy as np
import pytest
from scipy.stats import expon, nbinom, norm, poisson

from detector.models.kinds import Kind
from detector.models.naive_bayes import NaiveBayes
from detector.training.feature_estimates import VARIANCE_FLOOR
from detector.training.fit_naive_bayes import fit_naive_bayes
from detector.training.fitting_rows import body_std

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


def test_finds_the_classes_that_the_rows_were_drawn_from() -> None:
    x = drawn(8000)
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, density="histogram")
    assert 2 <= model.n_classes <= 3
    fresh = drawn(8000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.06


def test_a_rare_class_gives_way_to_one_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    normal, faults = rng.normal(size=(1900, 6)), 4.0 + 0.1 * rng.normal(size=(100, 6))
    x = rng.permutation(np.vstack([normal, faults]))
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0)
    asked_for = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2)
    usual = np.quantile(model.log_likelihood(normal), 0.02)
    assert (model.log_likelihood(faults) < usual).all()
    assert (asked_for.log_likelihood(faults) > usual).all()
    assert np.isfinite(model.log_likelihood(faults)).all()


def test_one_bell_is_one_class() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 3))
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0)
    assert model.n_classes == 1
    assert model.kinds == ("kernel",) * 3


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


def test_rows_with_gaps_are_fitted_as_they_are() -> None:
    x = drawn(8000)
    x[np.random.default_rng(5).random(x.shape) < 0.35] = np.nan
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2, density="histogram")
    fresh = drawn(8000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.08


def test_absurd_values_decide_nothing() -> None:
    x = drawn(4000)
    x[[1000, 3900, 3950], [0, 1, 1]] = [1e6, -1e6, 1e9]
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, density="histogram")
    fresh = drawn(4000, seed=1)
    assert (true_log_likelihood(fresh) - model.log_likelihood(fresh)).mean() < 0.1


def test_same_seed_same_bits() -> None:
    x = drawn(1000)
    first = fit_naive_bayes(x, lengths=lengths_of(x), seed=3, n_classes=3).arrays()
    again = fit_naive_bayes(x, lengths=lengths_of(x), seed=3, n_classes=3).arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize(("density", "nats"), [("histogram", 1e-5), ("kernel", 0.02)])
def test_units_of_a_feature_only_shift_the_log_likelihood(density: str, nats: float) -> None:
    x, unit = drawn(1500), np.array([1e-4, 1e3])
    plain = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2, density=density)
    scaled = fit_naive_bayes(x * unit, lengths=lengths_of(x), seed=0, n_classes=2, density=density)
    assert scaled.kinds == plain.kinds
    expected = plain.log_likelihood(x) - np.log(unit).sum()
    # A value that rounding moves across an edge counts for another bin, or for the next knot.
    close = np.isclose(scaled.log_likelihood(x * unit), expected, rtol=0.0, atol=nats)
    assert close.mean() > 0.99


@pytest.mark.parametrize("n_classes", [1, 2, None])
@pytest.mark.parametrize("density", ["gaussian", "kernel", "histogram"])
def test_constant_and_duplicated_features_keep_a_spread(n_classes: int | None, density: str) -> None:
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
    with pytest.raises(
        ValueError, match="no density is called 'poisson'; take one of kernel, gaussian, histogram, student"
    ):
        fit_naive_bayes(x, lengths=lengths_of(x), seed=0, density="poisson")


KINDS: tuple[Kind, ...] = ("continuous", "count", "categorical", "binary", "count")


def mixed(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two well separated regimes, features of every kind, and the regimes."""
    rng = np.random.default_rng(seed)
    regime = (rng.random(n) < 0.3).astype(np.int64)
    columns = [
        rng.normal(size=n) + 3.0 * regime,
        rng.poisson(np.where(regime == 0, 2.0, 8.0)),
        np.where(regime == 0, rng.choice(3, n, p=[0.8, 0.1, 0.1]), rng.choice(3, n, p=[0.1, 0.1, 0.8])),
        rng.random(n) < np.where(regime == 0, 0.1, 0.8),
        rng.negative_binomial(2.0, np.where(regime == 0, 0.3, 0.05)),
    ]
    return np.column_stack(columns).astype(float), regime


def true_log_likelihood_of_mixed(x: np.ndarray) -> np.ndarray:
    by_regime = []
    for weight, shift, rate, categories, share, p in (
        (0.7, 0.0, 2.0, [0.8, 0.1, 0.1], 0.1, 0.3),
        (0.3, 3.0, 8.0, [0.1, 0.1, 0.8], 0.8, 0.05),
    ):
        by_regime.append(
            weight
            * norm.pdf(x[:, 0], shift)
            * poisson.pmf(x[:, 1], rate)
            * np.array(categories)[x[:, 2].astype(int)]
            * np.where(x[:, 3] == 1, share, 1 - share)
            * nbinom.pmf(x[:, 4], 2.0, p)
        )
    return np.asarray(np.log(np.sum(by_regime, axis=0)))


def fit_mixed(x: np.ndarray, regimes: np.ndarray | None = None, n_classes: int | None = None) -> NaiveBayes:
    return fit_naive_bayes(
        x,
        lengths=lengths_of(x),
        seed=0,
        kinds=KINDS,
        n_categories=[0, 0, 3, 0, 0],
        regimes=regimes,
        n_classes=n_classes,
    )


def posterior(model: NaiveBayes, x: np.ndarray) -> np.ndarray:
    return model.latent(np.empty((len(x), 0)), x, np.full(len(x), np.nan))


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_every_kind_of_feature_is_fitted_as_what_it_is(missing: float) -> None:
    x, _ = mixed(4000)
    x[np.random.default_rng(1).random(x.shape) < missing] = np.nan
    model = fit_mixed(x)
    assert model.kinds[:4] == ("kernel", "poisson", "categorical", "categorical")
    assert model.kinds[4] in ("negative_binomial", "tabulated")
    assert model.n_classes == 2
    fresh, _ = mixed(4000, seed=1)
    assert (true_log_likelihood_of_mixed(fresh) - model.log_likelihood(fresh)).mean() < 0.06


def test_with_every_row_labelled_it_is_scikit_learns_gaussian_nb() -> None:
    naive_bayes_module = pytest.importorskip("sklearn.naive_bayes")
    rng = np.random.default_rng(0)
    regimes = rng.choice(3, size=2000, p=[0.5, 0.3, 0.2])
    x = rng.normal(size=(2000, 4)) * np.array([1.0, 2.0, 0.5])[regimes][:, None] + 2.0 * regimes[:, None]
    x /= body_std(x)
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, density="gaussian", regimes=regimes)
    smoothing = VARIANCE_FLOOR / x.var(axis=0).max()
    peer = naive_bayes_module.GaussianNB(var_smoothing=smoothing).fit(x, regimes)
    np.testing.assert_allclose(model.log_joint(x), peer.predict_joint_log_proba(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(posterior(model, x), peer.predict_proba(x), rtol=1e-9, atol=1e-12)


def test_with_half_the_labels_removed_regimes_are_recovered() -> None:
    x, regimes = mixed(4000)
    known = np.where(np.random.default_rng(3).random(4000) < 0.5, regimes, -1)
    model = fit_mixed(x, known)
    assert model.n_classes == 2
    fresh, true = mixed(4000, seed=1)
    ideal = fit_mixed(x, regimes)
    assert np.mean(posterior(model, fresh).argmax(axis=1) == true) > 0.97
    np.testing.assert_allclose(model.arrays()["class_weights"], ideal.arrays()["class_weights"], atol=0.02)
    assert np.abs(posterior(model, fresh) - posterior(ideal, fresh)).mean() < 0.01


def test_a_regime_without_any_label_becomes_a_hidden_class_after_the_labelled_ones() -> None:
    x, regimes = mixed(4000)
    model = fit_mixed(x, np.where((regimes == 0) & (np.arange(4000) % 2 == 0), 0, -1))
    assert model.n_classes == 2
    fresh, true = mixed(4000, seed=1)
    assert np.mean(posterior(model, fresh).argmax(axis=1) == true) > 0.97


def test_labels_that_say_nothing_change_nothing() -> None:
    x, _ = mixed(600)
    plain, unknown = fit_mixed(x, n_classes=2), fit_mixed(x, np.full(600, -1), n_classes=2)
    for name, array in plain.arrays().items():
        np.testing.assert_array_equal(unknown.arrays()[name], array)


def test_a_regime_without_any_row_is_a_class_of_weight_zero() -> None:
    x, regimes = mixed(600)
    model = fit_mixed(x, 2 * regimes)
    weights = model.arrays()["class_weights"]
    assert weights[1] == 0.0
    plain = fit_mixed(x, regimes)
    np.testing.assert_allclose(model.log_likelihood(x), plain.log_likelihood(x), rtol=1e-9)
    np.testing.assert_allclose(posterior(model, x)[:, [0, 2]], posterior(plain, x), rtol=1e-9, atol=1e-12)
    assert (posterior(model, x)[:, 1] == 0.0).all()


def test_labels_that_do_not_fit_are_refused() -> None:
    x, regimes = mixed(600)
    with pytest.raises(ValueError, match=r"regimes have shape \(599,\), but there are 600 rows"):
        fit_mixed(x, regimes[1:])
    with pytest.raises(ValueError, match=r"regimes are numbered from 0.* there is -2"):
        fit_mixed(x, regimes - 2)
    with pytest.raises(ValueError, match="2 regimes are labelled, which 1 classes"):
        fit_mixed(x, regimes, n_classes=1)
    with pytest.raises(ValueError, match="every row has a label"):
        fit_mixed(x, regimes, n_classes=3)


def test_values_that_are_none_of_their_kind_are_refused() -> None:
    x, _ = mixed(600)
    for column, value, message in (
        (1, 2.5, r"feature 1 .* kind count, so a whole number >= 0, but 1 of 600 .* 2\.5"),
        (1, -1.0, "kind count"),
        (2, 4.0, "kind categorical, so a whole number from 0 to 3"),
        (3, 2.0, "kind binary, so a whole number from 0 to 1"),
    ):
        wrong = x.copy()
        wrong[100, column] = value
        with pytest.raises(ValueError, match=message):
            fit_mixed(wrong)
    with pytest.raises(ValueError, match="categorical; give the size of its vocabulary"):
        fit_naive_bayes(x, lengths=lengths_of(x), seed=0, kinds=KINDS)


def test_an_absurd_count_decides_nothing_and_a_rare_category_stays() -> None:
    x, _ = mixed(4000)
    x[[500, 3900], 1] = 1e9
    x[:, 3] = 0.0
    x[700, 3] = 1.0
    model = fit_mixed(x, n_classes=2)
    expected = model.explain(np.empty((1, 0)), x[:1], np.array([np.nan])).expected[0]
    assert expected[1] < 10.0
    with_one = x[:1].copy()
    with_one[0, 3] = 1.0
    assert -12.0 < (model.log_likelihood(with_one) - model.log_likelihood(x[:1]))[0] < -4.0


def test_what_is_least_likely_shapes_nothing_where_the_fit_is_trimmed() -> None:
    rng = np.random.default_rng(4)
    normal, faults = rng.normal(size=(900, 4)), rng.normal(2.5, 0.3, size=(100, 4))
    x = rng.permutation(np.vstack([normal, faults]))
    plain = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=1)
    trimmed = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=1, trimmed_percent=20)

    def distance(model: NaiveBayes) -> float:
        return float(np.median(model.log_likelihood(normal)) - np.median(model.log_likelihood(faults)))

    assert distance(trimmed) > distance(plain) + 2.0
    likely = plain.log_likelihood(x) >= np.quantile(plain.log_likelihood(x), 0.2)
    again = fit_naive_bayes(x[likely], lengths=lengths_of(x[likely]), seed=0, n_classes=1)
    np.testing.assert_array_equal(trimmed.log_likelihood(x), again.log_likelihood(x))


def test_what_a_trimmed_fit_expects_and_draws_spreads_as_all_rows_do() -> None:
    rng = np.random.default_rng(7)
    # In one class two features, in the other of half the rows twice as wide ones.
    wide = rng.random(6000) < 0.5
    x = rng.normal(size=(6000, 2)) * np.where(wide, 2.0, 1.0)[:, None] + np.where(wide, 12.0, 0.0)[:, None]
    x[:20] = 300.0
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, n_classes=2, trimmed_percent=20)
    of_each = x[100:][[np.argmax(~wide[100:]), np.argmax(wide[100:])]]
    explained = model.explain(np.empty((2, 0)), of_each, np.full(2, np.nan))
    np.testing.assert_allclose(explained.std, [[1.0, 1.0], [2.0, 2.0]], rtol=0.1)
    drawn = model.sample(20_000, rng)
    high = drawn[:, 0] > 6.0
    np.testing.assert_allclose(drawn[~high].std(axis=0), 1.0, rtol=0.1)
    np.testing.assert_allclose(drawn[high].std(axis=0), 2.0, rtol=0.1)
    read = NaiveBayes.from_arrays(model.arrays())
    np.testing.assert_array_equal(
        read.explain(np.empty((2, 0)), of_each, np.full(2, np.nan)).std, explained.std
    )


def test_rows_of_a_labelled_regime_are_never_trimmed() -> None:
    rng = np.random.default_rng(5)
    x = np.vstack([rng.normal(size=(900, 2)), rng.normal(8.0, 1.0, size=(100, 2))])
    regimes = np.repeat([-1, 0], [900, 100])
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, regimes=regimes, trimmed_percent=20)
    assert np.median(model.log_likelihood(x[900:])) > -8.0


def test_few_rows_are_fitted_untrimmed_rather_than_refused() -> None:
    x = np.random.default_rng(6).normal(size=(24, 2))
    x[:22, 1] = np.nan
    model = fit_naive_bayes(x, lengths=lengths_of(x), seed=0, trimmed_percent=50)
    assert np.isfinite(model.log_likelihood(x)).all()
