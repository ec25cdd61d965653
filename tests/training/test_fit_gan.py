"""Tests for detector.training.fit_gan, its game and its watch."""

from dataclasses import replace

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.gan import Gan, GanOutcome
from detector.training import fit_gan as module
from detector.training.fit_gan import fit_gan
from detector.training.gan_watch import Watch, coverage_and_precision, imputation_variances, measured
from tests.models.families_by_hand import log_likelihood, random_gan

torch = pytest.importorskip("torch", reason="torch is not installed: the GAN cannot be fitted")


def ring(n: int, seed: int) -> FloatArray:
    """Eight small bells on a circle, equally likely."""
    rng = np.random.default_rng(seed)
    angle = rng.integers(0, 8, n) * np.pi / 4
    return np.column_stack([np.cos(angle), np.sin(angle)]) * 1.4 + 0.05 * rng.normal(size=(n, 2))


def correlated(n: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).multivariate_normal([5.0, -3.0], [[1.0, 0.9], [0.9, 1.0]], size=n)


def test_a_ring_of_eight_modes_loses_none() -> None:
    gan = fit_gan(ring(4000, 0), lengths=np.array([4000]), seed=0)
    x = gan.sample(4000, np.random.default_rng(1))
    nearest = np.round(np.arctan2(x[:, 1], x[:, 0]) / (np.pi / 4)).astype(int) % 8
    share = np.bincount(nearest, minlength=8) / len(x)
    assert share.min() > 0.125 / 2
    assert share.max() < 0.125 * 2
    centres = 1.4 * np.column_stack([np.cos(nearest * np.pi / 4), np.sin(nearest * np.pi / 4)])
    assert (np.linalg.norm(x - centres, axis=1) < 5 * 0.05).mean() > 0.7
    coverage, _, _ = gan.outcome.watched[gan.outcome.best_epoch]
    assert coverage > 0.8
    # Between two modes, in the middle of the ring and outside of it nothing is expected.
    between = 1.4 * np.array([[np.cos(np.pi / 8), np.sin(np.pi / 8)], [0.0, 0.0], [1.5, 0.0]])
    typical = np.median(log_likelihood(gan, ring(500, 2)))
    assert (log_likelihood(gan, between) < typical - 5.0).all()


def test_learns_a_correlation() -> None:
    gan = fit_gan(correlated(3000), lengths=np.array([3000]), seed=0, max_epochs=4)
    x = gan.sample(4000, np.random.default_rng(0))
    np.testing.assert_allclose(x.mean(axis=0), [5.0, -3.0], atol=0.15)
    np.testing.assert_allclose(np.cov(x.T), [[1.0, 0.9], [0.9, 1.0]], atol=0.2)
    along, across = log_likelihood(gan, np.array([[6.0, -2.0], [6.0, -4.0]]))
    assert along > across + 3.0
    explanation = gan.explain(gan.initial_state(1), np.array([[6.5, -1.5]]), np.array([np.nan]))
    np.testing.assert_allclose(explanation.expected, [[6.35, -1.65]], atol=0.5)
    assert (explanation.std < 0.8).all()


def test_a_collapsed_generator_is_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_COVERAGE", 1.1)
    monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 2)
    gan = fit_gan(correlated(400), lengths=np.array([400]), seed=0, hidden=(8,), max_epochs=2)
    assert gan.outcome.restarts == module.MOST_RESTARTS
    monkeypatch.setattr(module, "LEAST_COVERAGE", 0.0)
    assert (
        fit_gan(correlated(400), lengths=np.array([400]), seed=0, hidden=(8,), max_epochs=2).outcome.restarts
        == 0
    )


def test_a_game_that_diverges_leaves_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    play, games = module._play, iter([True, False, False, False])
    monkeypatch.setattr(module, "LEAST_COVERAGE", 1.1)
    monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(module, "_play", lambda *args: play(*args) if next(games) else None)
    rows, lengths = correlated(400), np.array([400])
    gan = fit_gan(rows, lengths=lengths, seed=0, hidden=(8,), max_epochs=2)
    assert gan.outcome.restarts == module.MOST_RESTARTS
    monkeypatch.setattr(module, "_play", lambda *args: None)
    with pytest.raises(ValueError, match="diverged; take a Gaussian mixture"):
        fit_gan(rows, lengths=lengths, seed=0, hidden=(8,), max_epochs=2)


def test_coverage_falls_with_lost_modes_and_precision_with_invented_ones() -> None:
    real, other = ring(1000, 0), ring(1000, 1)
    coverage, precision = coverage_and_precision(real, other)
    assert coverage > 0.9
    assert precision > 0.9
    half = other[other[:, 0] + 1e-3 * other[:, 1] > 0]
    lost_coverage, lost_precision = coverage_and_precision(real, half)
    assert lost_coverage == pytest.approx(coverage / 2, abs=0.15)
    assert lost_precision > 0.9
    invented = np.vstack([other, np.random.default_rng(0).normal(size=(1000, 2)) * 0.1])
    assert coverage_and_precision(real, invented)[1] == pytest.approx(precision / 2, abs=0.05)


def test_watch_is_relative_to_what_training_records_reach() -> None:
    rng = np.random.default_rng(0)
    gan = random_gan(3)
    p = replace(gan.parameters, location=np.zeros(3), scale=np.ones(3))
    own = Gan(p, gan.outcome)
    watch = Watch.of(own.sample(800, rng), own.sample(800, rng))
    coverage, precision, distance = watch.judge(p, rng)
    assert coverage > 0.95
    assert precision > 0.95
    assert distance < 0.1
    coverage, precision, distance = watch.judge(replace(p, location=np.full(3, 50.0)), rng)
    assert coverage == 0.0
    assert precision == 0.0
    assert distance > 0.9


def test_measured_noise_makes_generated_records_as_hard_to_reconstruct_as_real_ones() -> None:
    gan, rng = random_gan(3), np.random.default_rng(0)
    p = replace(gan.parameters, location=np.zeros(3), scale=np.ones(3))
    real = Gan(p, gan.outcome).sample(3000, rng)
    found = measured(replace(p, noise_variances=np.full(3, 2.0)), real, 1e-6, rng)
    own = Gan(found, GanOutcome(np.zeros((1, 3)), 0, 0))
    missed = (own.differences(own.sample(3000, rng))[0] ** 2).mean(axis=0)
    np.testing.assert_allclose(missed, found.reconstruction_variances, rtol=0.15)
    np.testing.assert_allclose(
        found.reconstruction_variances, (own.differences(real)[0] ** 2).mean(axis=0), rtol=1e-3
    )


def test_imputation_variances_are_what_imputing_misses() -> None:
    gan = random_gan(3)
    x = np.random.default_rng(0).normal(size=(50, 3))
    hidden = x.copy()
    hidden[:, 1] = np.nan
    missed = ((gan.imputed(hidden)[:, 1] - x[:, 1]) ** 2).mean()
    assert imputation_variances(gan, x, 0.5)[1] == pytest.approx(missed + 0.5)


def test_training_and_scoring_apply_the_same_networks() -> None:
    from detector.training.gan_network import GanGame

    with torch.random.fork_rng():
        torch.manual_seed(0)
        game = GanGame(3, 2, (8, 8), 1e-3, 10)
        x = torch.randn(64, 3)
        game.step(x)
        encoder, generator, critic = game.layers()
    assert [len(layers) for layers in (encoder, generator, critic)] == [3, 3, 2]
    assert encoder[-1][0].shape == (2, 8)
    assert generator[-1][0].shape == (3, 8)
    assert critic[0][0].shape == (8, 5)
    assert (game.noise_variances() > 1e-3).all()


def test_same_seed_same_bits_and_the_global_generator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 5)
    x = correlated(400)
    before = torch.random.get_rng_state()
    first, again = (
        fit_gan(x, lengths=np.array([400]), seed=3, hidden=(8,), max_epochs=2).arrays() for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_missing_values_and_constant_features_can_be_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 5)
    x = np.column_stack([correlated(600), np.full(600, 7.0)])
    x[np.random.default_rng(0).random(x.shape) < 0.05] = np.nan
    gan = fit_gan(x, lengths=np.array([600]), seed=0, hidden=(8,), max_epochs=2)
    assert np.isfinite(log_likelihood(gan, x[~np.isnan(x).all(axis=1)])).all()


def test_progress_ends_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS_PER_EPOCH", 5)
    told: list[tuple[str, int, int]] = []
    fit_gan(
        correlated(400),
        lengths=np.array([400]),
        seed=0,
        hidden=(8,),
        max_epochs=3,
        progress=lambda *step: told.append(step),
    )
    assert told[-1] == ("fitting gan", 3, 3)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (100, {}, "too few for a generative adversarial network"),
        (400, {"latent": 0}, "latent is 0"),
        (400, {"max_epochs": 0}, "max_epochs is 0"),
        (400, {"hidden": ()}, "hidden is empty"),
    ],
)
def test_what_cannot_be_fitted_is_refused(rows: int, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_gan(correlated(rows), lengths=np.array([rows]), seed=0, **options)  # type: ignore[arg-type]
