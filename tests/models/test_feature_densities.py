"""Tests for detector.models.feature_densities: each kind is a density, and a kind replaces another."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from detector.models.feature_densities import FeatureDensity, GaussianFeature, HistogramFeature

GAUSSIAN = GaussianFeature(np.array([-1.0, 2.0]), np.array([0.5, 3.0]))
HISTOGRAM = HistogramFeature(
    np.array([-1.0, 0.0, 0.5, 2.0]),
    np.array([[0.1, 0.2, 0.3, 0.25, 0.15], [0.02, 0.5, 0.1, 0.38, 0.0]]),
    np.array([0.5, 1.5]),
)
BOTH = pytest.mark.parametrize("density", [GAUSSIAN, HISTOGRAM], ids=["gaussian", "histogram"])


def density_at(density: FeatureDensity, x: float, c: int) -> float:
    return float(np.exp(density.log_density(np.array([x]))[c, 0]))


@BOTH
@pytest.mark.parametrize("c", [0, 1])
def test_mass_mean_and_variance_are_those_of_a_density(density: FeatureDensity, c: int) -> None:
    edges = [-40.0, -1.0, 0.0, 0.5, 2.0, 40.0]

    def moment(power: int) -> float:
        return sum(
            float(quad(lambda x: x**power * density_at(density, x, c), a, b, epsabs=1e-12)[0])
            for a, b in pairwise(edges)
        )

    assert moment(0) == pytest.approx(1.0, abs=1e-9)
    assert density.mean[c] == pytest.approx(moment(1), abs=1e-8)
    assert density.variance[c] == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-8)


@BOTH
@pytest.mark.parametrize("c", [0, 1])
def test_samples_follow_the_density(density: FeatureDensity, c: int) -> None:
    x = density.sample(np.full(4000, c), np.random.default_rng(1))
    grid = np.linspace(-60.0, 60.0, 400_001)
    mass = np.exp(density.log_density(grid)[c])
    cumulative = np.cumsum(mass) / mass.sum()
    assert kstest(x, lambda values: np.interp(values, grid, cumulative)).pvalue > 0.001


def test_a_gaussian_is_scipys() -> None:
    x = np.linspace(-20.0, 20.0, 41)
    np.testing.assert_allclose(GAUSSIAN.log_density(x)[1], norm(2.0, 3.0).logpdf(x), rtol=1e-12)


def test_a_value_on_an_edge_belongs_to_the_cell_above() -> None:
    at_edges = np.exp(HISTOGRAM.log_density(np.array([-1.0, 0.0, 0.5, 2.0]))[0])
    np.testing.assert_allclose(at_edges, [0.2 / 1.0, 0.3 / 0.5, 0.25 / 1.5, 0.15 / 1.5], rtol=1e-12)


def test_outside_the_bins_a_histogram_falls_by_one_nat_per_scale_and_stays_finite() -> None:
    low = HISTOGRAM.log_density(np.array([-1.5, -2.0, -101.0]))[0]
    np.testing.assert_allclose(np.diff(low), [-1.0, -198.0], rtol=1e-12)
    high = HISTOGRAM.log_density(np.array([3.5, 5.0, 1e300]))[0]
    assert high[1] - high[0] == pytest.approx(-1.0)
    assert np.isfinite(high).all()


def test_a_cell_without_mass_is_outside_the_support() -> None:
    assert np.isneginf(HISTOGRAM.log_density(np.array([2.5]))[1, 0])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("edges", np.array([0.0, 0.0, 1.0, 2.0]), "must rise"),
        ("edges", np.array([0.0]), "must rise"),
        ("probabilities", np.full((2, 5), 0.3), "no distribution"),
        ("probabilities", np.full((2, 4), 0.25), "shape"),
        ("tail_scales", np.array([1.0, 0.0]), "positive"),
    ],
)
def test_arrays_of_no_histogram_are_refused(name: str, value: np.ndarray, message: str) -> None:
    arrays = {f"h_{key}": array for key, array in HISTOGRAM.arrays().items()} | {f"h_{name}": value}
    with pytest.raises(ValueError, match=message):
        HistogramFeature.from_arrays(arrays, "h_", 2)


def test_a_bell_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="'g_std' must be positive"):
        GaussianFeature.from_arrays({"g_mean": np.zeros(2), "g_std": np.zeros(2)}, "g_", 2)
