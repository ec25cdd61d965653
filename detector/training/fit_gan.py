"""Fit a bidirectional generative adversarial network with torch, watched for modes that it loses."""

import importlib.util
from dataclasses import replace

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.extras import how_to_install
from detector.models.gan import Gan, GanOutcome, GanParameters
from detector.training.fitting_rows import Progress, complete_rows
from detector.training.gan_watch import Watch, imputation_variances, measured

VARIANCE_FLOOR = 1e-3
"""The smallest variance of anything, relative to the variance of the feature's body."""
INPUT_LIMIT_STD = 10.0
"""Where the networks' inputs are clipped, in standard deviations of the feature's body."""
LEAST_COVERAGE = 0.5
"""A generator that meets a smaller share of held-out records, relative to what training records meet, has
lost modes, and training begins again with other random numbers."""
MOST_RESTARTS = 2
LEAST_ROWS = 200

_BATCH_ROWS = 256
_STEPS_PER_EPOCH = 250
_MOST_WATCHED = 1500
_MOST_LATENT = 8
_WORTH = np.array([1.0, 1.0, -1.0])


def fit_gan(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    latent: int | None = None,
    hidden: tuple[int, ...] = (64, 64),
    max_epochs: int = 12,
    progress: Progress | None = None,
) -> Gan:
    """Play the adversarial game; the epoch whose records are most like those of held-out time wins.

    What counts is coverage plus precision, relative to training records', less the distance between the
    surprise of generated and of held-out records. All three are kept for every epoch.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing, see ``complete_rows``.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of weights, noise and order.
        latent: Z; None takes one per two features, at least 2 and at most 8.
        hidden: Units of the hidden layers of each network.
        max_epochs: Of 250 steps each.
        progress: Called after each epoch.

    Raises:
        ValueError: The rows cannot be fitted, or an option is out of range; the message says what to do.
    """
    for name, value in (("latent", latent), ("max_epochs", max_epochs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    rows = complete_rows(x, lengths)
    n_usable, n_held_out = int((~rows.held_out).sum()), int(rows.held_out.sum())
    if n_usable < LEAST_ROWS or n_held_out < LEAST_ROWS // 5:
        raise ValueError(
            f"{n_usable} usable rows, and {n_held_out} in the last fifth, are too few for a generative "
            f"adversarial network; give at least {LEAST_ROWS} and {LEAST_ROWS // 5}, or take a Gaussian "
            "mixture"
        )
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"fitting a gan needs torch, which is not installed; {how_to_install('torch')}")
    if not hidden:
        raise ValueError(
            "hidden is empty, but the critic is looked at through its last hidden layer; give one"
        )
    median = np.median(rows.x[~rows.held_out], axis=0)
    body = (rows.x[~rows.held_out] - median).clip(-INPUT_LIMIT_STD, INPUT_LIMIT_STD)
    location = median + body.mean(axis=0)
    u = (rows.x - location).clip(-INPUT_LIMIT_STD, INPUT_LIMIT_STD)
    latent = latent or max(2, min(_MOST_LATENT, (x.shape[1] + 1) // 2))
    rng = np.random.default_rng(seed)
    fitting, held_out = u[~rows.held_out], _some(u[rows.held_out], rng)
    watch = Watch.of(held_out, _some(fitting, rng, len(held_out)))

    played = _play(fitting, watch, rng, latent, hidden, max_epochs, progress)
    if played is None:
        raise ValueError("the adversarial training diverged; take a Gaussian mixture")
    parameters, outcome = played
    for restart in range(1, 1 + MOST_RESTARTS):
        if outcome.watched[outcome.best_epoch, 0] >= LEAST_COVERAGE:
            break
        again = _play(fitting, watch, rng, latent, hidden, max_epochs, progress)
        if again is not None and _quality(again[1]) > _quality(outcome):
            parameters, outcome = again
        outcome = replace(outcome, restarts=restart)
    spread = imputation_variances(Gan(parameters, outcome), held_out, VARIANCE_FLOOR)
    return Gan(
        replace(
            parameters,
            location=location * rows.scale,
            scale=rows.scale,
            imputation_variances=spread,
        ),
        outcome,
    )


def _play(
    fitting: FloatArray,
    watch: Watch,
    rng: np.random.Generator,
    latent: int,
    hidden: tuple[int, ...],
    n_epochs: int,
    progress: Progress | None,
) -> tuple[GanParameters, GanOutcome] | None:
    """Play one game; return the parameters of its best epoch, and how it went; None where it diverged."""
    import torch

    from detector.training.gan_network import GanGame

    n_features = fitting.shape[1]
    zeros, ones = np.zeros(n_features), np.ones(n_features)
    watched: list[FloatArray] = []
    best, best_quality, best_epoch = None, -np.inf, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(1 << 62)))
        game = GanGame(n_features, latent, hidden, VARIANCE_FLOOR, n_epochs * _STEPS_PER_EPOCH)
        rows = torch.from_numpy(fitting.astype(np.float32))
        for epoch in range(n_epochs):
            for _ in range(_STEPS_PER_EPOCH):
                game.step(rows[torch.randint(len(rows), (_BATCH_ROWS,))])
            encoder, generator, critic = game.layers()
            n_units = len(critic[-1][1])
            candidate = measured(
                GanParameters(
                    encoder=encoder,
                    generator=generator,
                    critic=critic,
                    location=zeros,
                    scale=ones,
                    reconstruction_variances=ones,
                    critic_variances=np.ones(n_units),
                    imputation_variances=ones,
                    noise_variances=game.noise_variances(),
                    input_limit=INPUT_LIMIT_STD,
                ),
                watch.held_out,
                VARIANCE_FLOOR,
                rng,
            )
            watched.append(watch.judge(candidate, rng))
            quality = float(watched[-1] @ _WORTH)
            if quality > best_quality:
                best, best_quality, best_epoch = candidate, quality, epoch
            if progress is not None:
                progress("fitting gan", epoch + 1, n_epochs)
    if best is None:
        return None
    return best, GanOutcome(np.array(watched), best_epoch, 0)


def _quality(outcome: GanOutcome) -> float:
    return float(outcome.watched[outcome.best_epoch] @ _WORTH)


def _some(rows: FloatArray, rng: np.random.Generator, most: int = _MOST_WATCHED) -> FloatArray:
    """Return at most so many rows, drawn without replacement."""
    return rows[np.sort(rng.permutation(len(rows))[:most])]
