"""Tests for detector.models.gan."""

from dataclasses import replace

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.gan import Gan, GanOutcome, GanParameters
from detector.models.networks import Layer
from tests.models.families_by_hand import log_likelihood, random_gan, scan, step_by_step, with_gaps

NO_GAP = np.array([np.nan])


def by_hand(layers: tuple[Layer, ...], x: FloatArray) -> FloatArray:
    for weight, bias in layers[:-1]:
        x = np.maximum(0.0, weight @ x + bias)
    return np.asarray(layers[-1][0] @ x + layers[-1][1])


def filled_by_hand(p: GanParameters, u: FloatArray) -> FloatArray:
    """What the networks see of one standardised record."""
    seen = ~np.isnan(u)
    known = np.clip(u, -p.input_limit, p.input_limit)
    filled = np.where(seen, known, 0.0)
    if not seen.all():
        for _ in range(5):
            generated = np.clip(
                by_hand(p.generator, by_hand(p.encoder, filled)), -p.input_limit, p.input_limit
            )
            filled = np.where(seen, known, generated)
    return filled


def surrogate_by_hand(p: GanParameters, x: FloatArray) -> float:
    """The formula of the module, for one record."""
    seen = ~np.isnan(x)
    u = (x - p.location) / p.scale
    filled = filled_by_hand(p, u)
    z = by_hand(p.encoder, filled)
    y = by_hand(p.generator, z)
    r = p.reconstruction_variances
    # The scale's logarithm is the Jacobian of the standardisation.
    energy = (((u - y) ** 2 / r + np.log(2 * np.pi * r) + 2 * np.log(p.scale))[seen]).sum() + z @ z
    seen_by_critic, drawn_by_critic = (
        np.maximum(0.0, by_hand(p.critic, np.concatenate([v, z])))
        for v in (filled, np.clip(y, -p.input_limit, p.input_limit))
    )
    of_critic = ((seen_by_critic - drawn_by_critic) ** 2 / p.critic_variances).sum()
    return float(-0.5 * (energy + seen.sum() / len(p.critic_variances) * of_critic))


@pytest.mark.parametrize("d", [1, 3, 8])
@pytest.mark.parametrize("missing", [False, True])
def test_log_likelihood_is_the_stated_formula(d: int, missing: bool) -> None:
    gan = random_gan(d)
    x = 2.0 * np.random.default_rng(1).normal(size=(40, d))
    x[0] = 300.0
    if missing:
        x = with_gaps(x)[:-1]
    x = x[~np.isnan(x).all(axis=1)]
    expected = [surrogate_by_hand(gan.parameters, record) for record in x]
    np.testing.assert_allclose(log_likelihood(gan, x), expected, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 5])
def test_batch_size_and_order_change_no_bit(d: int) -> None:
    gan, lengths = random_gan(d), np.array([30, 120])
    x = np.random.default_rng(2).normal(size=(150, d))
    x[::2] = with_gaps(x[::2])
    x[20], x[30] = 1e200, 1e4
    together = log_likelihood(gan, x)
    np.testing.assert_array_equal(step_by_step(gan, x, lengths)[1], scan(gan, x, lengths)[1])
    order = np.random.default_rng(3).permutation(150)
    np.testing.assert_array_equal(log_likelihood(gan, x[order]), together[order])
    explained = gan.explain(gan.initial_state(150), x, np.full(150, np.nan))
    for n in (0, 1, 77):
        alone = gan.explain(gan.initial_state(1), x[n : n + 1], NO_GAP)
        np.testing.assert_array_equal(alone.nats[0], explained.nats[n])
        np.testing.assert_array_equal(alone.expected[0], explained.expected[n])


def test_absurd_values_are_improbable_or_outside_the_support() -> None:
    gan = random_gan(3)
    values = log_likelihood(gan, np.array([[1e200, 0.0, 0.0], [1e6, 0.0, 0.0], [1e6, np.nan, np.nan]]))
    assert np.isneginf(values[0])
    assert np.isfinite(values[1:]).all()
    assert (values[1:] < -1e10).all()


def test_a_record_without_features_has_no_score() -> None:
    assert np.isnan(log_likelihood(random_gan(2), np.full((1, 2), np.nan))).all()
    assert log_likelihood(random_gan(2), np.empty((0, 2))).shape == (0,)


def test_explanation_compares_a_feature_with_its_imputation() -> None:
    gan = random_gan(3)
    p, x = gan.parameters, np.array([[0.3, -1.0, np.nan]])
    explanation = gan.explain(gan.initial_state(1), x, NO_GAP)
    imputed = gan.imputed((np.array([[np.nan, -1.0, np.nan]]) - p.location) / p.scale)[0]
    expected, std = p.location + p.scale * imputed, np.sqrt(p.imputation_variances) * p.scale
    assert explanation.expected[0, 0] == pytest.approx(expected[0], rel=1e-12)
    assert explanation.std[0] == pytest.approx(std, rel=1e-12)
    nats = 0.5 * ((0.3 - expected[0]) / std[0]) ** 2 + np.log(std[0]) + 0.5 * np.log(2 * np.pi)
    assert explanation.nats[0, 0] == pytest.approx(nats, rel=1e-12)
    assert np.isnan(explanation.nats[0, 2])
    assert np.isfinite(explanation.expected[0, 2])


@pytest.mark.parametrize("missing", [False, True])
def test_latent_is_the_encoding_of_what_the_networks_see(missing: bool) -> None:
    gan, x = random_gan(4), np.random.default_rng(2).normal(size=(20, 4))
    x = with_gaps(x) if missing else x
    p = gan.parameters
    expected = [by_hand(p.encoder, filled_by_hand(p, (record - p.location) / p.scale)) for record in x]
    np.testing.assert_allclose(gan.latent(np.empty((20, 0)), x, np.full(20, np.nan)), expected, rtol=1e-9)


def test_samples_are_generated_records_with_noise() -> None:
    gan = random_gan(2)
    p = replace(gan.parameters, noise_variances=np.array([1e-12, 4.0]))
    x = Gan(p, gan.outcome).sample(20_000, np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((20_000, 2))
    drawn = np.array([by_hand(p.generator, one) for one in z])
    mean, variance = (
        p.location + p.scale * drawn.mean(axis=0),
        p.scale**2 * (drawn.var(axis=0) + p.noise_variances),
    )
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.1)
    np.testing.assert_allclose(x.var(axis=0), variance, rtol=0.05)


def test_arrays_round_trip_exactly() -> None:
    gan = random_gan(3)
    x = with_gaps(np.random.default_rng(0).normal(size=(30, 3)))
    rebuilt = Gan.from_arrays(gan.arrays())
    np.testing.assert_array_equal(log_likelihood(rebuilt, x), log_likelihood(gan, x))
    assert (rebuilt.n_features, rebuilt.n_latent, rebuilt.state_size, rebuilt.warmup_records) == (3, 2, 0, 0)
    assert (rebuilt.outcome.best_epoch, rebuilt.outcome.restarts) == (1, 0)
    np.testing.assert_array_equal(rebuilt.outcome.watched, gan.outcome.watched)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("location", np.zeros(4), "'location' has shape"),
        ("critic_variances", np.ones(6), "critic_variances' has shape"),
        ("noise_variances", np.array([1.0, 0.0, 1.0]), "'noise_variances' must be positive"),
        ("scale", np.array([1.0, -1.0, 1.0]), "must be positive"),
        ("encoder_0_weight", np.zeros((12, 4)), "encoder layer 0"),
        ("generator_1_weight", np.zeros((4, 12)), "shape"),
        ("critic_0_weight", np.full((12, 5), np.nan), "not finite"),
        ("watched", np.zeros((3, 2)), "'watched' has shape"),
        ("best_epoch", np.array([3.0]), "'best_epoch' is 3, but 3 epochs"),
    ],
)
def test_arrays_of_no_network_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gan.from_arrays({**random_gan(3).arrays(), name: value})


def test_records_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 3 features"):
        log_likelihood(random_gan(3), np.zeros((2, 4)))


def test_outcome_must_hold_its_best_epoch() -> None:
    with pytest.raises(ValueError, match="'best_epoch' is 1, but 1 epochs"):
        Gan(random_gan(2).parameters, GanOutcome(np.zeros((1, 3)), 1, 0))
