"""Tests for detector.training.fit_gmm."""

import numpy as np
import pytest

from detector.models.gmm import Gmm
from detector.training.fit_gmm import COVARIANCE_FLOOR, COVARIANCES, fit_gmm, with_background

GaussianMixture = pytest.importorskip("sklearn.mixture").GaussianMixture

TRUTH = Gmm(
    np.array([0.7, 0.3]),
    np.array([[-3.0, 0.0], [3.0, 1.0]]),
    np.array([[[1.0, 0.6], [0.6, 1.0]], [[0.5, -0.2], [-0.2, 0.8]]]),
)


def drawn(n: int, seed: int = 0) -> np.ndarray:
    return TRUTH.sample(n, np.random.default_rng(seed))


def lengths_of(x: np.ndarray) -> np.ndarray:
    return np.array([len(x)])


def test_finds_the_mixture_that_the_rows_were_drawn_from() -> None:
    x = drawn(4000)
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0)
    assert gmm.n_components == 2
    fresh = drawn(4000, seed=1)
    difference = TRUTH.log_likelihood(fresh) - gmm.log_likelihood(fresh)
    assert difference.mean() < 0.02


def test_one_bell_is_not_split() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 3))
    assert fit_gmm(x, lengths=lengths_of(x), seed=0).n_components == 1


@pytest.mark.parametrize("covariance", [*COVARIANCES, None])
def test_a_rare_component_gives_way_to_a_bell_over_all_rows(covariance: str | None) -> None:
    rng = np.random.default_rng(0)
    normal, faults = rng.normal(size=(1900, 3)), 5.0 + 0.1 * rng.normal(size=(100, 3))
    x = rng.permutation(np.vstack([normal, faults]))
    model = fit_gmm(x, lengths=lengths_of(x), seed=0, covariance=covariance)
    asked_for = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=2, covariance=covariance)
    usual = np.quantile(model.log_likelihood(normal), 0.02)
    assert (model.log_likelihood(faults) < usual).all()
    assert (asked_for.log_likelihood(faults) > usual).mean() > 0.9
    assert np.isfinite(model.log_likelihood(faults)).all()


def test_a_background_is_one_bell_with_the_weight_of_what_it_replaces() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    means = np.array([[3.0, 3.0], [0.0, 0.0], [-3.0, 0.0]])
    mixture = Gmm(np.array([0.04, 0.87, 0.09]), means, np.ones((3, 2)))
    arrays = with_background(mixture, x).arrays()
    np.testing.assert_allclose(arrays["weights"], [0.87, 0.13])
    np.testing.assert_allclose(arrays["means"], [[0.0, 0.0], x.mean(axis=0)])
    np.testing.assert_allclose(arrays["covariances"], [[1.0, 1.0], x.var(axis=0) + COVARIANCE_FLOOR])


def test_a_few_rows_too_many_leave_out_a_few_rows() -> None:
    x = np.random.default_rng(0).normal(size=(20_500, 2))
    # Every other row is elsewhere.
    x[1::2] += 20.0
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=2)
    np.testing.assert_allclose(np.sort(gmm.arrays()["means"][:, 0]), [0.0, 20.0], atol=0.1)


def test_absurd_rows_do_not_decide_the_number_of_components() -> None:
    x = drawn(4000)
    x[[1000, 3900, 3950]] = [[1e5, 0.0], [0.0, -1e6], [1e7, 1e7]]
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0)
    fresh = drawn(4000, seed=1)
    assert (TRUTH.log_likelihood(fresh) - gmm.log_likelihood(fresh)).mean() < 0.1


def test_same_seed_same_bits() -> None:
    x = drawn(1000)
    first = fit_gmm(x, lengths=lengths_of(x), seed=3, n_components=3).arrays()
    again = fit_gmm(x, lengths=lengths_of(x), seed=3, n_components=3).arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_units_of_a_feature_only_shift_the_log_likelihood() -> None:
    x, unit = drawn(1500), np.array([1e-4, 1e3])
    plain = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=2)
    scaled = fit_gmm(x * unit, lengths=lengths_of(x), seed=0, n_components=2)
    expected = plain.log_likelihood(x) - np.log(unit).sum()
    np.testing.assert_allclose(scaled.log_likelihood(x * unit), expected, rtol=1e-6)


def truth(covariance: str) -> Gmm:
    """Two regimes of three features whose covariances have one shape and no simpler one."""
    full = np.array([[[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]], np.diag([0.2, 3.0, 0.5])])
    shapes = {"full": full, "tied": full[:1], "diagonal": np.array([[1.0, 1.0, 1.0], [0.2, 3.0, 0.5]])}
    return Gmm(np.array([0.6, 0.4]), np.array([[-2.0, 0.0, 1.0], [2.0, 1.0, -1.0]]), shapes[covariance])


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_finds_the_shape_of_the_covariances_as_well(covariance: str) -> None:
    own = truth(covariance)
    x, fresh = (own.sample(n, np.random.default_rng(n)) for n in (4000, 4001))
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0)
    assert (gmm.n_components, gmm.covariance) == (2, covariance)
    assert (own.log_likelihood(fresh) - gmm.log_likelihood(fresh)).mean() < 0.02


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_shape_that_is_asked_for_is_fitted_as_scikit_learn_fits_it(covariance: str) -> None:
    x = truth("full").sample(2000, np.random.default_rng(0))
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=2, covariance=covariance)
    assert gmm.covariance == covariance
    kind = "diag" if covariance == "diagonal" else covariance
    peer = GaussianMixture(2, covariance_type=kind, n_init=3, random_state=1, tol=1e-6, max_iter=500).fit(x)
    # The floor and where EM stops cost a little.
    assert peer.score(x) - gmm.log_likelihood(x).mean() == pytest.approx(0.0, abs=3e-3)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no covariance is called 'spherical'; take one of diagonal"):
        fit_gmm(drawn(100), lengths=np.array([100]), seed=0, covariance="spherical")


def test_many_features_of_few_rows_lead_to_diagonal_covariances() -> None:
    x = np.random.default_rng(0).normal(size=(250, 200))
    assert fit_gmm(x, lengths=lengths_of(x), seed=0).covariance == "diagonal"
    with pytest.raises(ValueError, match=r"1 components with full covariances .* give at least 508 rows"):
        fit_gmm(x, lengths=lengths_of(x), seed=0, covariance="full")


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_constant_and_duplicated_features_keep_the_floor_under_every_shape(covariance: str) -> None:
    x = drawn(1000)
    x = np.column_stack([x, x[:, 0], np.full(1000, 5.0), np.zeros(1000)])
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=3, covariance=covariance)
    covariances = gmm.arrays()["covariances"]
    smallest = covariances if covariance == "diagonal" else np.linalg.eigvalsh(covariances)
    assert smallest.min() > 0.5 * COVARIANCE_FLOOR
    for feature in (3, 4):
        moved = x[:1].copy()
        moved[0, feature] += 1.0
        assert gmm.log_likelihood(moved)[0] < gmm.log_likelihood(x).min() - 50


@pytest.mark.parametrize("n_components", [1, 2, None])
def test_constant_and_duplicated_features_keep_a_spread(n_components: int | None) -> None:
    x = drawn(1000)
    x = np.column_stack([x, x[:, 0], np.full(1000, 5.0), np.zeros(1000)])
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=n_components)
    assert np.isfinite(gmm.log_likelihood(x)).all()
    smallest = np.linalg.eigvalsh(gmm.arrays()["covariances"]).min()
    assert smallest > 0.5 * COVARIANCE_FLOOR
    moved = x[:1].copy()
    moved[0, 3] = 6.0
    assert gmm.log_likelihood(moved)[0] < gmm.log_likelihood(x).min() - 50


def test_constant_data_fall_back_to_one_component() -> None:
    x = np.zeros((500, 2))
    assert fit_gmm(x, lengths=lengths_of(x), seed=0).n_components == 1


def test_rows_with_gaps_are_fitted() -> None:
    x = drawn(4000)
    x[::5, 0] = np.nan
    gmm = fit_gmm(x, lengths=lengths_of(x), seed=0)
    fresh = drawn(4000, seed=1)
    assert (TRUTH.log_likelihood(fresh) - gmm.log_likelihood(fresh)).mean() < 0.03


def test_progress_is_told_and_ends_complete() -> None:
    told: list[tuple[str, int, int]] = []
    x = drawn(600)
    fit_gmm(x, lengths=lengths_of(x), seed=0, progress=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][2]


def test_fewer_rows_than_the_parameters_need_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(20, 10))
    with pytest.raises(ValueError, match=r"1 components with full covariances .* give at least 33 rows"):
        fit_gmm(x, lengths=lengths_of(x), seed=0, covariance="full")
    with pytest.raises(ValueError, match=r"1 components with diagonal covariances .* give at least 10 rows"):
        fit_gmm(x[:9], lengths=np.array([9]), seed=0)
    x = drawn(60)
    assert fit_gmm(x, lengths=lengths_of(x), seed=0).n_components in (1, 2, 4)
    with pytest.raises(ValueError, match="give at least"):
        fit_gmm(x, lengths=lengths_of(x), seed=0, n_components=16)
