"""Tests for detector.training.fit_predictor."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from detector.batch import FloatArray, IntArray
from detector.models.predictors import AutoregressivePredictor
from detector.models.scaling import fit_scaling
from detector.training.fit_predictor import Extremes, fit_predictor, fit_residual_scale
from detector.training.job import TrainingPlan, train
from tests.made import batch

ENTITIES, ROWS, FEATURES = 3000, 40, 10
OF_ROW = np.repeat(np.arange(ENTITIES), ROWS)
LENGTHS = np.full(ENTITIES, ROWS)
Z = np.random.default_rng(3).normal(size=(ENTITIES * ROWS, FEATURES))
TIME = np.tile(np.arange(ROWS) * 3 * 3600.0, ENTITIES)


def fitted(name: str) -> object:
    return fit_predictor(name, Z, TIME, LENGTHS, np.arange(ENTITIES), ENTITIES + 1)


@pytest.mark.parametrize(
    "fit",
    [
        pytest.param(lambda: fit_residual_scale(Z, Z, OF_ROW, ENTITIES + 1), id="residual scale"),
        pytest.param(lambda: fit_scaling(Z, OF_ROW, ENTITIES + 1), id="scaling"),
        pytest.param(lambda: fitted("autoregressive"), id="autoregressive"),
        pytest.param(lambda: fitted("seasonal"), id="seasonal"),
    ],
)
def test_many_entities_cost_no_more_than_their_rows(fit: Callable[[], object]) -> None:
    before_s = time.process_time()
    fit()
    # A look at all rows for every entity takes much longer.
    assert time.process_time() - before_s < 2.0


def by_hand(residual: FloatArray, model: IntArray, m: int) -> FloatArray:
    return np.asarray(np.sqrt(np.nanmean(np.clip(residual[model == m], -20.0, 20.0) ** 2, axis=0)))


@pytest.mark.parametrize("n_features", [1, 3])
def test_a_residual_scale_is_that_of_the_models_own_rows_and_the_last_one_of_all(n_features: int) -> None:
    rng = np.random.default_rng(5)
    residual = rng.normal(size=(300, n_features))
    residual[rng.random(residual.shape) < 0.1] = np.nan
    model = rng.permutation(np.repeat([0, 1, 2], 100))
    scale = fit_residual_scale(residual, residual, model, 3)
    np.testing.assert_allclose(scale[:2], [by_hand(residual, model, m) for m in (0, 1)])
    np.testing.assert_allclose(scale[2], by_hand(residual, np.zeros_like(model), 0))


def test_extremes_are_those_of_a_models_own_rows_and_the_last_ones_of_all() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [-2.0, 5.0], [9.0, 6.0]])
    extremes = Extremes.of(values, np.array([0, 0, 2, 3]), 4)
    np.testing.assert_array_equal(extremes.lowest, [[1.0, np.nan], [-2.0, 5.0], [-2.0, 5.0], [-2.0, 5.0]])
    np.testing.assert_array_equal(extremes.highest, [[3.0, np.nan], [9.0, 6.0], [-2.0, 5.0], [9.0, 6.0]])
    np.testing.assert_array_equal(extremes.rows, [2, 4, 1, 4])


def test_the_past_counts_as_far_as_held_out_values_go() -> None:
    values = np.random.default_rng(1).normal(size=(4000, 2))
    # The newest 30 % fit nothing.
    values[3000:, 0] += 9.0
    bundle = train(batch(values), TrainingPlan("hosts", "gmm", "autoregressive"), 1e9)
    density = bundle.model.members[0].density
    predictor, scaling = density.predictor, density.scaling
    assert isinstance(predictor, AutoregressivePredictor)
    highest = scaling.location + predictor.highest * scaling.scale
    assert (highest[:, 0] >= values[:, 0].max()).all()
    assert (highest[:, 1] < values[:, 1].max() + 5.0).all()
