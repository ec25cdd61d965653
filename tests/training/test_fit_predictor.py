"""Tests for detector.training.fit_predictor."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from detector.batch import FloatArray, IntArray
from detector.models.scaling import fit_scaling
from detector.training.fit_predictor import fit_predictor, fit_residual_scale

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
