"""Tests for detector.scoring.generate."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detector.batch import FloatArray
from detector.models.predictors import LastPredictor, NoPredictor
from detector.models.scaling import Scaling
from detector.models.seasonal import SeasonalPredictor
from detector.scoring.density import Density
from detector.scoring.generate import generate
from tests.made import density, detector, fitted, gmm, records_like, scoring_model, unbounded
from tests.pipelines import scores_of

ONE = np.zeros(1, dtype=np.int64)
THINNING = 25


def drawn(own: Density, n: int, seed: int = 0) -> FloatArray:
    sequence: FloatArray = generate(own, ONE, n, np.random.default_rng(seed))[0]
    return sequence


@pytest.mark.parametrize("family", ["gmm", "hmm", "naive_bayes", "rbm"])
@pytest.mark.parametrize("predict", [False, True])
def test_generated_rows_score_like_held_out_rows(family: str, predict: bool) -> None:
    model, _ = scoring_model(fitted(family), predict=predict)
    own, n = detector(model), 400 * THINNING
    held_out = records_like(model.density, n, np.random.default_rng(7))
    generated = scores_of(own, drawn(model.density, n)).p_value[THINNING::THINNING]
    assert ks_2samp(generated, scores_of(own, held_out).p_value[THINNING::THINNING]).pvalue > 0.001


def test_every_entity_gets_its_own_location_scale_and_coefficients() -> None:
    location = np.array([[0.0, 5.0], [1e3, -1e3]])
    scale = np.array([[1.0, 2.0], [10.0, 0.1]])
    residual_scale = np.array([[1.0, 1.0], [0.5, 0.5]])
    coefficients = np.stack([np.zeros((2, 2)), 0.8 * np.eye(2)])
    predictor = unbounded(coefficients, np.zeros((2, 2)))
    own = Density(Scaling(location, scale), predictor, residual_scale, gmm(2))
    inner = own.family.sample(50_000, np.random.default_rng(1))
    x = generate(own, np.array([1, 0]), 20_000, np.random.default_rng(0))
    assert x.shape == (2, 20_000, 2)
    for values, m, feedback in ((x[1], 0, 0.0), (x[0], 1, 0.8)):
        z = (values - location[m]) / scale[m]
        np.testing.assert_allclose(
            z.mean(axis=0), residual_scale[m] * inner.mean(axis=0) / (1 - feedback), atol=0.1
        )
        left = z[1:] - feedback * z[:-1]
        np.testing.assert_allclose(left.std(axis=0), residual_scale[m] * inner.std(axis=0), rtol=0.05)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    own = density(fitted("hmm"), predict=True)
    assert drawn(own, 50, 3).tobytes() == drawn(own, 50, 3).tobytes()
    assert drawn(own, 50, 3).tobytes() != drawn(own, 50, 4).tobytes()


def test_the_predictor_last_walks_from_the_mean() -> None:
    own = Density(Scaling(np.full((1, 2), 7.0), np.ones((1, 2))), LastPredictor(2), np.ones((1, 2)), gmm(2))
    still = Density(own.scaling, NoPredictor(2), own.residual_scale, own.family)
    walk, steps = drawn(own, 30), drawn(still, 30) - 7.0
    np.testing.assert_allclose(walk, 7.0 + np.cumsum(steps, axis=0))


def test_a_predictor_that_amplifies_itself_is_refused() -> None:
    predictor = unbounded(2.0 * np.eye(2)[None], np.zeros((1, 2)))
    own = Density(Scaling(np.zeros((1, 2)), np.ones((1, 2))), predictor, np.ones((1, 2)), gmm(2))
    with pytest.raises(ValueError, match="amplified"):
        drawn(own, 10)


def test_seasons_follow_the_event_time() -> None:
    profile = np.zeros((1, 96, 2))
    flat = Density(
        Scaling(np.zeros((1, 2)), np.ones((1, 2))), SeasonalPredictor(profile), np.ones((1, 2)), gmm(2)
    )
    profile = profile.copy()
    profile[0, 12] = 5.0
    daily = Density(flat.scaling, SeasonalPredictor(profile), flat.residual_scale, flat.family)
    # From midnight, UTC, of a Monday, every half-hour of the day.
    monday = (4 * 86_400.0, 1800.0)
    with_season = generate(daily, ONE, 48, np.random.default_rng(0), *monday)[0]
    without = generate(flat, ONE, 48, np.random.default_rng(0), *monday)[0]
    expected = np.zeros((48, 2))
    expected[12] = 5.0
    np.testing.assert_allclose(with_season - without, expected, atol=1e-12)
