"""Tests for detector.models.stacked_gaussians."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.gaussians import Gaussians
from detector.models.stacked_gaussians import StackedGaussians
from tests.models.families_by_hand import random_covariances, with_gaps

E, K, D = 5, 3, 4


SHAPES = pytest.mark.parametrize("shape", ["full", "tied", "diagonal"])


def parameters(shape: str) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(E, K, D))
    if shape == "diagonal":
        return means, rng.gamma(2.0, size=(E, K, D))
    return means, np.stack([random_covariances(rng, 1 if shape == "tied" else K, D) for _ in range(E)])


def records(n: int = 600) -> tuple[FloatArray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = 3.0 * with_gaps(rng.normal(size=(n, D)))
    x[5], x[6, 0] = 1e300, -1e200
    return x, rng.integers(0, E, n)


@SHAPES
def test_every_record_is_scored_by_the_gaussians_of_its_model(shape: str) -> None:
    means, covariances = parameters(shape)
    x, model = records()
    together = StackedGaussians(means, covariances).log_density(x, model)
    for e in range(E):
        alone = Gaussians(means[e], covariances[e]).log_density(x[model == e])
        np.testing.assert_allclose(together[model == e], alone, rtol=1e-10, atol=1e-10)


@SHAPES
def test_a_record_has_the_same_bits_alone(shape: str) -> None:
    stacked = StackedGaussians(*parameters(shape))
    x, model = records()
    together = stacked.log_density(x, model)
    alone = [stacked.log_density(x[n : n + 1], model[n : n + 1]) for n in range(len(x))]
    np.testing.assert_array_equal(np.vstack(alone), together)


def test_no_record_has_no_density() -> None:
    stacked = StackedGaussians(*parameters("full"))
    assert stacked.log_density(np.empty((0, D)), np.empty(0, dtype=np.int64)).shape == (0, K)


def test_records_with_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 4 features"):
        StackedGaussians(*parameters("full")).log_density(np.zeros((2, 3)), np.zeros(2, dtype=np.int64))
