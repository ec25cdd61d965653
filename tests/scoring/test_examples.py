"""Tests for detector.scoring.examples: stored records with features hidden, now and in the past."""

import numpy as np
import pytest

from detector.models.discrete_columns import DiscreteColumns
from detector.models.gmm import Gmm
from detector.models.kinds import Kind
from detector.models.predictors import PREDICTORS
from detector.models.scaling import Scaling
from detector.scoring.density import Density
from detector.scoring.examples import Example, SurpriseOfPattern
from tests.made import predictor_called

N, D = 300, 4
KINDS: tuple[Kind, ...] = ("continuous", "count", "continuous", "continuous")
CONTINUOUS = 3


def stored(predictor: str) -> SurpriseOfPattern:
    """The newest records of a stream, of which some lack features, with the states before them."""
    rng = np.random.default_rng(3)
    own = Density(
        Scaling(np.zeros((1, D)), np.ones((1, D)), DiscreteColumns(KINDS, (None,) * D)),
        predictor_called(predictor, CONTINUOUS, order=2),
        np.ones((1, D)),
        Gmm(np.ones(1), np.zeros((1, D)), np.ones((1, D))),
    )
    z, time, one = rng.normal(size=(N, D)), 60.0 * np.arange(float(N)), np.ones(1, dtype=np.int64)
    z[rng.uniform(size=z.shape) < 0.1] = np.nan
    states = [own.predictor.initial_state(1)]
    for i in range(N - 1):
        states.append(own.predict(states[-1], z[i : i + 1], time[i : i + 1], one, 0 * one).rows)
    kept = slice(150, None)
    rows, n = np.concatenate(states)[kept], N - 150
    gaps, model = np.full(n, 60.0), np.zeros(n, dtype=np.int64)
    return SurpriseOfPattern(own, Example(z[kept], rows, np.empty((n, 0)), time[kept], gaps, model))


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_surprise_is_that_of_a_state_with_the_past_hidden_to_the_bit(predictor: str) -> None:
    of_pattern, rng = stored(predictor), np.random.default_rng(4)
    density, examples = of_pattern.density, of_pattern.examples
    n = len(examples.values)
    lags = {"autoregressive": 2, "regression": 2, "ewma": 1, "last": 1}.get(predictor, 0)
    missing = rng.uniform(size=(12, D)) < 0.3
    past_missing = rng.uniform(size=(12, lags * CONTINUOUS)) < 0.4
    past_missing[0] = False
    found = [surprise for surprise, _ in of_pattern(missing, past_missing, most=25 * n)]
    for own, hidden, past_hidden in zip(found, missing, past_missing, strict=True):
        expected = density.conditionals(
            density.predictor.hide(examples.predictor_rows, past_hidden),
            examples.family_rows,
            np.where(hidden, np.nan, examples.values),
            examples.time,
            examples.gap_s,
            np.ones(n, dtype=np.int64),
            examples.model,
        ).surprise
        np.testing.assert_array_equal(own, expected[~np.isnan(expected)])


def test_examples_of_a_bundle_whose_predictor_remembered_less_begin_as_at_first() -> None:
    arrays = {
        "values": np.zeros((3, 2)),
        "predictor_rows": np.empty((3, 0)),
        "family_rows": np.full((3, 1), 7.0),
        "time": np.arange(3.0),
        "gap_s": np.ones(3),
        "model": np.zeros(3),
    }
    example = Example.from_arrays(arrays, np.zeros((3, 3)), np.full((3, 2), 5.0))
    np.testing.assert_array_equal(example.predictor_rows, np.zeros((3, 3)))
    np.testing.assert_array_equal(example.family_rows, [[7.0, 5.0]] * 3)
