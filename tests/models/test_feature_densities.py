"""Tests for detector.models.feature_densities: each kind is a density, and a kind replaces another."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from detector.models.feature_densities import (
    FeatureDensity,
    GaussianFeature,
    HistogramFeature,
    KernelFeature,
    StudentFeature,
    draw_cells,
)

GAUSSIAN = GaussianFeature(np.array([-1.0, 2.0]), np.array([0.5, 3.0]))
HISTOGRAM = HistogramFeature(
    np.array([-1.0, 0.0, 0.5, 2.0]),
    np.array([[0.1, 0.2, 0.3, 0.25, 0.15], [0.02, 0.5, 0.1, 0.38, 0.0]]),
    np.array([0.5, 1.5]),
)
KERNEL = KernelFeature(
    np.array([-1.0, 2.0]),
    np.array([[-2.0, 0.0, -1.0, 0.5, -0.5, -0.5, -3.0], [0.0, -1.0, -2.0, -3.0, -2.0, 0.0, 1.0]]),
    np.array([0.5, 1.5]),
)
STUDENT = StudentFeature(np.array([-1.0, 2.0]), np.array([0.5, 3.0]))
ALL: list[FeatureDensity] = [GAUSSIAN, STUDENT, HISTOGRAM, KERNEL]
EVERY_KIND = pytest.mark.parametrize("density", ALL, ids=[density.kind for density in ALL])


def density_at(density: FeatureDensity, x: float, c: int) -> float:
    return float(np.exp(density.log_density(np.array([x]))[c, 0]))


@EVERY_KIND
@pytest.mark.parametrize("c", [0, 1])
def test_mass_expectation_and_spread_are_those_of_a_density(density: FeatureDensity, c: int) -> None:
    far = np.inf if density is STUDENT else 40.0
    edges = [-far, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, far]

    def moment(power: int) -> float:
        return sum(
            float(quad(lambda x: x**power * density_at(density, x, c), a, b, epsabs=1e-12)[0])
            for a, b in pairwise(edges)
        )

    assert moment(0) == pytest.approx(1.0, abs=1e-9)
    mean, std = (values[0] for values in density.expectation(np.eye(2)[c : c + 1]))
    assert mean == pytest.approx(moment(1), abs=1e-8)
    assert std == pytest.approx(np.sqrt(moment(2) - moment(1) ** 2), rel=1e-8)


@EVERY_KIND
def test_an_undecided_class_has_the_expectation_of_the_mixture(density: FeatureDensity) -> None:
    x = density.sample(np.repeat([0, 1], [30_000, 70_000]), np.random.default_rng(3))
    mean, std = (values[0] for values in density.expectation(np.array([[0.3, 0.7]])))
    assert mean == pytest.approx(x.mean(), abs=5 * std / np.sqrt(len(x)))
    assert std == pytest.approx(x.std(), rel=0.03)


@EVERY_KIND
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_the_farther_out_the_less_likely_without_end(density: FeatureDensity, direction: float) -> None:
    out = direction * np.array([5.0, 10.0, 11.0, 100.0, 1e6, 1e12])
    values = density.log_density(out)[0]
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


@EVERY_KIND
def test_the_number_of_values_changes_no_bit(density: FeatureDensity) -> None:
    x = np.concatenate([np.linspace(-5.0, 5.0, 301), [-1.0, 0.0, 0.5, 2.0, np.nan, 1e150]])
    one_by_one = np.hstack([density.log_density(x[n : n + 1]) for n in range(len(x))])
    np.testing.assert_array_equal(density.log_density(x), one_by_one)


def test_between_knots_the_log_density_is_a_line_and_goes_on_as_one() -> None:
    knots = np.linspace(-1.0, 2.0, 7)
    at_knots, between = (KERNEL.log_density(x)[0] for x in (knots, knots[:-1] + 0.25 * 0.5))
    np.testing.assert_allclose(at_knots - at_knots[0], KERNEL.arrays()["log_shape"][0] + 2.0, atol=1e-12)
    np.testing.assert_allclose(between, 0.75 * at_knots[:-1] + 0.25 * at_knots[1:], rtol=1e-12)
    outside = KERNEL.log_density(np.array([-1.25, 2.75]))[0]
    np.testing.assert_allclose(outside, at_knots[[0, -1]] - 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    "edges", [[0.0, 1.0], [0.0, 1e-9, 1.0], [-3.0, -1.1, -1.0, 0.3, 7.0], [1e6, 1e6 + 1e-4]]
)
def test_a_value_is_found_among_the_edges_as_a_search_finds_it(edges: list[float]) -> None:
    probabilities = np.arange(1.0, len(edges) + 2)
    density = HistogramFeature(
        np.array(edges), probabilities[None] / probabilities.sum(), np.array([1e9, 1e9])
    )
    inner = np.linspace(edges[0], edges[-1], 1001)
    x = np.concatenate([inner, edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    cell = np.searchsorted(edges, x, side="right")
    widths = np.concatenate(([1e9], np.diff(edges), [1e9]))
    by_search = np.log(probabilities / probabilities.sum() / widths)[cell]
    np.testing.assert_allclose(density.log_density(x)[0], by_search, rtol=1e-9)


def test_cells_are_drawn_as_often_as_they_are_probable() -> None:
    probabilities = np.array([[0.5, 0.0, 0.5], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    classes = np.repeat([2, 0, 1], 20_000)
    cell = draw_cells(probabilities, classes, np.random.default_rng(0))
    for c, own in enumerate(probabilities):
        share = np.bincount(cell[classes == c], minlength=3) / 20_000
        np.testing.assert_allclose(share, own, atol=0.02)
        assert (share[own == 0] == 0).all()


@EVERY_KIND
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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ends", np.array([1.0, 1.0]), "must rise"),
        ("log_shape", np.zeros((2, 1)), "two knots"),
        ("log_shape", np.zeros((3, 7)), "shape"),
        ("tail_scales", np.array([-1.0, 1.0]), "positive"),
    ],
)
def test_arrays_of_no_kernels_are_refused(name: str, value: np.ndarray, message: str) -> None:
    arrays = {f"k_{key}": array for key, array in KERNEL.arrays().items()} | {f"k_{name}": value}
    with pytest.raises(ValueError, match=message):
        KernelFeature.from_arrays(arrays, "k_", 2)


def test_a_bell_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="'g_std' must be positive"):
        GaussianFeature.from_arrays({"g_mean": np.zeros(2), "g_std": np.zeros(2)}, "g_", 2)
