"""Tests for detector.scoring.generate."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detector.batch import FloatArray
from detector.models.discrete_columns import DiscreteColumns
from detector.models.predictors import PREDICTORS, NoPredictor
from detector.models.scaling import Scaling
from detector.models.seasonal import SeasonalPredictor
from detector.models.vocabulary import Vocabulary
from detector.scoring.density import Density
from detector.scoring.examples import Example
from detector.scoring.generate import generate
from detector.training.fit_naive_bayes import fit_naive_bayes
from detector.training.job import TrainingPlan, train
from tests.made import batch, density, detector, fitted, gmm, records_like, scoring_model, unbounded
from tests.pipelines import scores_of

ONE = np.zeros(1, dtype=np.int64)
THINNING = 25


def drawn(own: Density, n: int, seed: int = 0) -> FloatArray:
    sequence: FloatArray = generate(own, anywhere(own), ONE, n, np.random.default_rng(seed))[0]
    return sequence


def examples_of(own: Density, z: FloatArray, model: int = 0) -> Example:
    """Held-out records without a past."""
    n = len(z)
    states = own.predictor.initial_state(n), own.family.initial_state(n)
    return Example(z, *states, np.arange(float(n)), np.ones(n), np.full(n, model))


def anywhere(own: Density) -> Example:
    """Held-out records that set no value a bound."""
    return examples_of(own, np.array([[-1e9], [1e9]]) * np.ones(own.family.n_features))


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
    x = generate(own, anywhere(own), np.array([1, 0]), 20_000, np.random.default_rng(0))
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


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_sequences_lie_where_the_real_ones_lie(predictor: str) -> None:
    """A seventh of a day's amplitude is noise, and the noise depends on what came before."""
    rng, n = np.random.default_rng(3), 4000
    noise = np.zeros(n)
    for t in range(1, n):
        noise[t] = 0.8 * noise[t - 1] + 0.6 * rng.normal()
    hours = np.arange(n) / 6.0
    a_day = 6.0 if predictor == "cyclic" else 24.0
    x = 100.0 + np.column_stack([7.0 * np.sin(2 * np.pi * hours / a_day) + noise, noise, rng.normal(size=n)])
    bundle = train(
        batch(x, time=1.7e9 + 600.0 * np.arange(float(n))), TrainingPlan("d", "gmm", predictor), 1e9
    )
    member = bundle.model.members[0]
    start_s = 1.7e9 + 86_400.0 * 30
    (own,) = generate(member.density, member.examples, ONE, 4000, np.random.default_rng(0), start_s, 600.0)
    for values in (own[:2000], own[2000:]):
        np.testing.assert_array_less(np.abs(values.mean(axis=0) - 100.0), 0.8 * x.std(axis=0))
        np.testing.assert_array_less(values.std(axis=0) / x.std(axis=0), 1.4)
        np.testing.assert_array_less(0.5, values.std(axis=0)[1:] / x.std(axis=0)[1:])
        np.testing.assert_array_less(np.ptp(values, axis=0) / np.ptp(x, axis=0), 1.4)
    if predictor in ("seasonal", "regression", "cyclic"):
        usual = 7.0 * np.sin(2 * np.pi * (np.arange(4000) / 6.0 + 30 * 24) / a_day)
        assert np.corrcoef(own[:, 0], usual)[0, 1] > 0.8


def test_a_predictor_that_amplifies_itself_stays_where_records_are() -> None:
    predictor = unbounded(2.0 * np.eye(2)[None], np.zeros((1, 2)))
    own = Density(Scaling(np.zeros((1, 2)), np.ones((1, 2))), predictor, np.ones((1, 2)), gmm(2))
    held_out = examples_of(own, np.random.default_rng(0).normal(size=(1000, 2)))
    values = generate(own, held_out, ONE, 1000, np.random.default_rng(0))[0]
    assert np.abs(values).max() < 1.3 * np.abs(held_out.values).max()


def test_what_never_was_negative_is_not() -> None:
    scaling = Scaling(np.full((1, 1), 1.0), np.full((1, 1), 2.0))
    own = Density(scaling, NoPredictor(1), np.ones((1, 1)), gmm(1))
    held_out = examples_of(own, np.linspace(-0.5, 3.0, 500)[:, None])
    assert generate(own, held_out, ONE, 1000, np.random.default_rng(0)).min() == 0.0


def test_what_never_was_negative_is_not_by_rounding() -> None:
    rng = np.random.default_rng(0)
    for location, scale in rng.lognormal(0.0, 2.0, (50, 2)):
        scaling = Scaling(np.full((1, 1), location), np.full((1, 1), scale))
        own = Density(scaling, NoPredictor(1), np.ones((1, 1)), gmm(1))
        real = rng.lognormal(0.0, 1.0, (500, 1)) * (rng.random((500, 1)) < 0.5)
        held_out = examples_of(own, (real - location) / scale)
        assert generate(own, held_out, ONE, 200, np.random.default_rng(0)).min() >= 0.0


def test_texts_and_flags_are_as_frequent_as_among_held_out_records() -> None:
    """A family that was trimmed has lost what is rare."""
    rng = np.random.default_rng(0)
    columns = DiscreteColumns(
        ("categorical", "binary", "continuous"), (Vocabulary(["DELETE", "GET", "POST"]), None, None)
    )
    x = np.column_stack([rng.choice([1.0, 2.0], 2000), np.ones(2000), rng.normal(size=2000)])
    family = fit_naive_bayes(
        x,
        lengths=np.array([2000]),
        seed=0,
        n_classes=1,
        kinds=columns.kinds,
        n_categories=columns.n_categories,
    )
    own = Density(
        Scaling(np.zeros((1, 3)), np.ones((1, 3)), columns), NoPredictor(1), np.ones((1, 3)), family
    )
    real = np.column_stack(
        [rng.choice(4, 1000, p=[0.05, 0.4, 0.53, 0.02]), rng.random(1000) < 0.97, rng.normal(size=1000)]
    ).astype(float)
    (values,) = generate(own, examples_of(own, real), ONE, 20_000, np.random.default_rng(0))
    known = real[real[:, 0] < 3, 0]
    for text in range(3):
        assert (values[:, 0] == text).mean() == pytest.approx((known == text).mean(), abs=0.01)
    assert values[:, 0].max() == 2.0
    assert values[:, 1].mean() == pytest.approx(real[:, 1].mean(), abs=0.005)


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
    with_season = generate(daily, anywhere(daily), ONE, 48, np.random.default_rng(0), *monday)[0]
    without = generate(flat, anywhere(flat), ONE, 48, np.random.default_rng(0), *monday)[0]
    expected = np.zeros((48, 2))
    expected[12] = 5.0
    np.testing.assert_allclose(with_season - without, expected, atol=1e-12)
