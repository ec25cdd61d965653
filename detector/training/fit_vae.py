"""Fit a conditional variational autoencoder with torch; held-out time says when to stop.

What is missing, and what is labelled anomalous, is left out of the reconstruction, but stays in the windows
of the records after it (Donut's modified bound). Donut also scales the prior by the share of points that are
left. Here a record that is left out altogether has no term at all, and of one that lacks some features the
bound is that on the marginal of the others, in which the prior has its full weight.

References:
    Xu et al. (2018), Unsupervised anomaly detection via variational auto-encoder for seasonal KPIs in web
        applications, arXiv:1802.03903: the modified bound, and the hiding of values in training.
"""

import importlib.util
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from detector.batch import BoolArray, FloatArray, IntArray
from detector.extras import how_to_install
from detector.models.past import Past
from detector.models.vae import Vae
from detector.training.fitting_rows import Progress, Record, body_std, check_rows, gain, held_out_in_time

if TYPE_CHECKING:
    import torch

VARIANCE_FLOOR = 1e-3
"""Added to every decoded variance, relative to the variance of the feature's body."""
INPUT_LIMIT_STD = 10.0
"""Where the networks' inputs are clipped, in standard deviations of the feature's body."""
LEAST_ROWS = 200

_BATCH_ROWS = 256
_LEARNING_RATE = 2e-3
_TRAINING_DRAWS = 4
_LARGEST_GRADIENT = 10.0
_PATIENCE_EPOCHS = 10
_MOST_STEPS = 8000
_HIDDEN_ROWS_SHARE = 0.5
_MOST_HIDDEN_SHARE = 0.5
_MOST_LATENT = 8


def fit_vae(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    anomalous: BoolArray | None = None,
    window: int = 1,
    latent: int | None = None,
    hidden: tuple[int, ...] = (64, 64),
    samples: int = 8,
    max_epochs: int = 100,
    progress: Progress | None = None,
    record: Record | None = None,
) -> Vae:
    """Maximise the importance-weighted bound with Adam; the epoch that scores held-out time best wins.

    Missing values and anomalous rows take no part in the loss. In half of the rows of each step up to half
    of the features are hidden as well, so that the encoder learns what a mask means. Held-out time, the last
    fifth of each run, is scored by ``Vae`` itself, with noise of its own.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of weights, noise, order and hiding.
        anomalous: Rows known to be anomalous, shape (N,); None where none is known.
        window: W, records that the model looks at, the scored one included.
        latent: Z; None takes one per two features, at most 8.
        hidden: Units of the hidden layers of encoder and decoder; empty for linear maps.
        samples: L, draws behind a score.
        max_epochs: Fewer where the rows are so many that 8,000 steps are reached before.
        progress: Called after each epoch.
        record: Told how well each epoch does.

    Raises:
        ValueError: The rows cannot be fitted, or an option is out of range; the message says what to do.
    """
    check_rows(x, lengths)
    for name, value in (("window", window), ("samples", samples), ("max_epochs", max_epochs)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    held_out = held_out_in_time(lengths)
    normal = np.ones(len(x), dtype=np.bool_) if anomalous is None else ~anomalous
    if normal.shape != (len(x),):
        raise ValueError(f"anomalous has shape {normal.shape}, expected ({len(x)},), one mark per row")
    usable = normal & ~np.isnan(x).all(axis=1)
    n_usable, n_held_out = np.count_nonzero(usable & ~held_out), np.count_nonzero(usable & held_out)
    if n_usable < LEAST_ROWS or n_held_out == 0:
        raise ValueError(
            f"{n_usable} usable rows, and {n_held_out} in the last fifth, are too few for a variational "
            f"autoencoder; give at least {LEAST_ROWS} besides the last fifth of each entity's, or take a "
            "Gaussian mixture"
        )
    if anomalous is not None:
        # Refused where only anomalous rows have a feature: nothing would say what is normal of it.
        check_rows(np.where(normal[:, None], x, np.nan), lengths)
    if importlib.util.find_spec("torch") is None:
        raise ValueError(f"fitting a vae needs torch, which is not installed; {how_to_install('torch')}")
    latent = latent or max(1, min(_MOST_LATENT, (x.shape[1] + 1) // 2))
    return _train(
        x, lengths, usable, held_out, seed, window, latent, hidden, samples, max_epochs, progress, record
    )


def _train(
    x: FloatArray,
    lengths: IntArray,
    usable: BoolArray,
    held_out: BoolArray,
    seed: int,
    window: int,
    latent: int,
    hidden: tuple[int, ...],
    samples: int,
    max_epochs: int,
    progress: Progress | None,
    record: Record | None,
) -> Vae:
    import torch

    from detector.training.vae_network import VaeNetwork

    rng = np.random.default_rng(seed)
    scale = body_std(x[usable])
    observed = ~np.isnan(x)
    # Beyond the limit a value counts as the limit here, so that no single row sets the variances.
    filled = np.where(observed, x / scale, 0.0).clip(-INPUT_LIMIT_STD, INPUT_LIMIT_STD)
    n_features = x.shape[1]
    past = Past.of(np.zeros((len(lengths), (window - 1) * n_features)), filled, lengths)
    to_fit = np.flatnonzero(usable & ~held_out)
    to_judge = usable & held_out
    # Another noise than the one stored: the epoch chosen must not be the one that suits the latter.
    noise, judging_noise = stratified_noise(rng, samples, latent), stratified_noise(rng, samples, latent)
    steps_per_epoch = -(-len(to_fit) // _BATCH_ROWS)
    n_epochs = max(1, min(max_epochs, _MOST_STEPS // steps_per_epoch))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VaeNetwork(n_features, window, latent, hidden, VARIANCE_FLOOR, INPUT_LIMIT_STD)
        optimiser = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
        best, best_epoch = network.scoring_parameters(scale, judging_noise), 0
        best_values = _log_likelihood(Vae(best), x, lengths)[to_judge]
        for epoch in range(n_epochs):
            for batch in np.array_split(rng.permutation(to_fit), steps_per_epoch):
                shown = observed[batch] & ~_hide(rng, len(batch), n_features)
                bound = network.bound(
                    _tensor(filled[batch] * shown),
                    _tensor(shown),
                    _tensor(past.contexts(batch)),
                    torch.randn(len(batch), _TRAINING_DRAWS, latent),
                )
                optimiser.zero_grad()
                torch.autograd.backward(-bound.mean())
                torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
                optimiser.step()
            candidate = network.scoring_parameters(scale, judging_noise)
            values = _log_likelihood(Vae(candidate), x, lengths)[to_judge]
            if record is not None:
                record("median bound of held-back rows, nats", "epoch", epoch + 1, float(np.median(values)))
            if gain(values, best_values)[0] > 0.0:
                best, best_values, best_epoch = candidate, values, epoch
            stopping = epoch - best_epoch >= _PATIENCE_EPOCHS
            if progress is not None:
                progress("fitting vae", n_epochs if stopping else epoch + 1, n_epochs)
            if stopping:
                break
    if not np.isfinite(np.median(best_values)):
        raise ValueError("the training of the variational autoencoder diverged; take a Gaussian mixture")
    return Vae(replace(best, noise=noise))


def stratified_noise(rng: np.random.Generator, n_draws: int, n_dimensions: int) -> FloatArray:
    """Draw standard normals, shape (L, Z), with one of every dimension in each L-th of the distribution.

    Each draw is still standard normal, but together they lie less by chance to one side (a Latin
    hypercube), which all scores would share.
    """
    shuffled = rng.permuted(np.tile(np.arange(n_draws), (n_dimensions, 1)), axis=1).T
    return np.asarray(ndtri((shuffled + rng.random((n_draws, n_dimensions))) / n_draws))


def _hide(rng: np.random.Generator, n: int, n_features: int) -> BoolArray:
    """Choose what to hide, shape (n, D): in half of the rows, each feature with a chance of up to half."""
    chance = rng.uniform(0.0, _MOST_HIDDEN_SHARE, size=(n, 1))
    chance[rng.random(n) >= _HIDDEN_ROWS_SHARE] = 0.0
    return np.asarray(rng.random((n, n_features)) < chance)


def _tensor(values: NDArray[np.generic]) -> "torch.Tensor":
    import torch

    return torch.from_numpy(values.astype(np.float32))


def _log_likelihood(model: Vae, x: FloatArray, lengths: IntArray) -> FloatArray:
    return model.scan(model.initial_state(len(lengths)), x, np.full(len(x), np.nan), lengths)[1]
