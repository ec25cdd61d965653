"""Tests for detector.training.generated_quality."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from detector.models.discrete_columns import DiscreteColumns
from detector.models.vocabulary import Vocabulary
from detector.training.generated_quality import frechet_distance, generated_quality, in_deviations

RNG = np.random.default_rng(0)


def test_distance_agrees_with_the_matrix_square_root() -> None:
    a = RNG.normal(size=(400, 3)) @ RNG.normal(size=(3, 3))
    b = RNG.normal(size=(300, 3)) @ RNG.normal(size=(3, 3)) + 1.0
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    moved = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    expected = moved + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_distance_of_a_shift_is_its_square() -> None:
    a = RNG.normal(size=(500, 1))
    assert frechet_distance(a, a + 3.0) == pytest.approx(9.0)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_lost_mode_lowers_coverage_and_leaves_precision() -> None:
    def two_modes(n: int) -> np.ndarray:
        return RNG.normal(scale=0.3, size=(n, 2)) + np.where(RNG.random(n) < 0.5, -2.0, 2.0)[:, None]

    real, fitted = two_modes(1000), two_modes(1000)
    both = two_modes(1000)
    quality = generated_quality(real, fitted, both)
    collapsed = generated_quality(real, fitted, both[both[:, 0] > 0])
    assert quality is not None
    assert collapsed is not None
    assert collapsed.generated.precision > 0.85
    assert collapsed.generated.coverage < 0.65
    assert quality.generated.coverage > 0.85
    assert quality.generated.frechet_distance < 0.1 < collapsed.generated.frechet_distance
    assert quality.fitted == collapsed.fitted or quality.fitted.coverage > 0.85


def test_one_incident_does_not_outweigh_the_rest() -> None:
    real = RNG.normal(size=(500, 2))
    struck = real.copy()
    struck[0] = 1e6
    quality = generated_quality(struck, real, RNG.normal(size=(500, 2)))
    assert quality is not None
    assert quality.generated.frechet_distance < 0.5


def test_too_few_rows_or_no_feature_are_not_judged() -> None:
    many, few = RNG.normal(size=(200, 2)), RNG.normal(size=(40, 2))
    assert generated_quality(few, many, many) is None
    assert generated_quality(many, many, few) is None
    assert generated_quality(many[:, :0], many[:, :0], many[:, :0]) is None


def test_lost_texts_and_flags_are_farther_from_held_out_ones() -> None:
    columns = DiscreteColumns(
        ("categorical", "continuous", "binary", "count"), (Vocabulary(["DELETE", "GET"]), None, None, None)
    )

    def rows(rare: float) -> np.ndarray:
        texts, flags = RNG.random(1000) >= rare, RNG.random(1000) >= rare
        return np.column_stack([texts, RNG.normal(size=1000), flags, RNG.poisson(3.0, 1000)]).astype(float)

    real, fitted, lost = rows(0.05), rows(0.05), rows(0.0)
    same, without = (
        generated_quality(*in_deviations(real, fitted, of_kind, columns)) for of_kind in (rows(0.05), lost)
    )
    assert same is not None
    assert without is not None
    assert same.generated.frechet_distance < 0.1 < without.generated.frechet_distance
    assert without.generated.coverage < same.generated.coverage - 0.03
