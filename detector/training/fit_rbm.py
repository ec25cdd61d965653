"""Fit a restricted Boltzmann machine, Gaussian and binary; held-out time says which epoch was best."""

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.rbm import Rbm
from detector.models.rbm_energy import RbmParameters
from detector.training.fitting_rows import Progress, Record, body_std, check_rows, gain, held_out_in_time
from detector.training.rbm_partition import PartitionEstimate, estimate_partition
from detector.training.rbm_training import RbmTraining

VARIANCE_FLOOR = 1e-3
"""The smallest variance given the hidden units, relative to the variance of the feature's body."""
INPUT_LIMIT_STD = 10.0
"""Beyond so many standard deviations of the feature's body a value counts as the limit in training."""
LEAST_ROWS = 200

_LEARNING_RATE = 0.02
_LEAST_RATE = 0.02
_MOST_STEPS = 4000
_EPOCHS_PER_CHOICE = 4
_PATIENCE_CHOICES = 5
_CHOICE_CHAINS, _CHOICE_TEMPERATURES = 200, 200
_FINAL_CHAINS, _FINAL_TEMPERATURES = 1000, 1500
_TEMPERATURES_PER_FEATURE = 2
_MOST_HIDDEN = 8


def fit_rbm(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    binary: BoolArray | None = None,
    n_hidden: int | None = None,
    max_epochs: int = 200,
    progress: Progress | None = None,
    record: Record | None = None,
) -> Rbm:
    """Climb the likelihood, see ``rbm_training``; the epoch that scores held-out time best wins.

    Args:
        x: Standardised residuals, and 0 or 1 in binary features, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of weights, chains and order.
        binary: Which features are binary, shape (D,); None where none is.
        n_hidden: H; None takes two per feature, at most 8.
        max_epochs: Fewer where the rows are so many that 4,000 steps are reached before.
        progress: Called after each epoch.
        record: Told how well each epoch does.

    Raises:
        ValueError: The rows cannot be fitted, or an option is out of range; the message says what to do.
    """
    check_rows(x, lengths)
    for name, value in (("n_hidden", n_hidden), ("max_epochs", max_epochs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    binary = _checked(binary, x)
    held_out = held_out_in_time(lengths)
    usable = ~np.isnan(x).all(axis=1)
    n_usable, n_held_out = np.count_nonzero(usable & ~held_out), np.count_nonzero(usable & held_out)
    if n_usable < LEAST_ROWS or n_held_out == 0:
        raise ValueError(
            f"{n_usable} usable rows, and {n_held_out} in the last fifth, are too few for a restricted "
            f"Boltzmann machine; give at least {LEAST_ROWS} besides the last fifth of each entity's, or take "
            "a Gaussian mixture"
        )
    scale = np.where(binary, 1.0, body_std(x))
    filled = (x / scale).clip(-INPUT_LIMIT_STD, INPUT_LIMIT_STD)[usable & ~held_out]
    mean, std = np.nanmean(filled, axis=0), np.sqrt(np.nanvar(filled, axis=0) + VARIANCE_FLOOR)
    mean[binary], std[binary] = 0.0, 1.0
    fit_rows = (filled - mean) / std
    judged = (x[usable & held_out] / scale - mean) / std
    rng = np.random.default_rng(seed)
    n_hidden = n_hidden or min(_MOST_HIDDEN, 2 * x.shape[1])
    machine = RbmTraining(fit_rows, binary, n_hidden, VARIANCE_FLOOR, rng)
    best = _train(machine, judged, max_epochs, rng, progress, record)
    estimate = _estimate(best, _FINAL_CHAINS, _FINAL_TEMPERATURES, rng)
    return _rescaled(best, estimate, mean * scale, std * scale)


def _train(
    machine: RbmTraining,
    judged: FloatArray,
    max_epochs: int,
    rng: np.random.Generator,
    progress: Progress | None,
    record: Record | None,
) -> RbmParameters:
    """Return the parameters under which held-out rows, shape (M, D), are likeliest."""
    n_epochs = max(1, min(max_epochs, _MOST_STEPS // machine.steps_per_epoch))
    n_steps = n_epochs * machine.steps_per_epoch

    def judge(parameters: RbmParameters) -> FloatArray:
        estimate = _estimate(parameters, _CHOICE_CHAINS, _CHOICE_TEMPERATURES, rng)
        return Rbm(parameters, estimate.log_partition, 0.0, estimate.particles).log_likelihood(judged)

    best = machine.parameters()
    best_values, since_best = judge(best), 0
    for epoch in range(n_epochs):
        for batch in np.array_split(rng.permutation(machine.n_rows), machine.steps_per_epoch):
            machine.step(batch, _LEARNING_RATE * max(_LEAST_RATE, 1.0 - machine.n_steps / n_steps))
        if (epoch + 1) % _EPOCHS_PER_CHOICE == 0 or epoch + 1 == n_epochs:
            candidate = machine.parameters()
            values = judge(candidate)
            if record is not None:
                median = float(np.median(values))
                record("median log-likelihood of held-back rows, nats", "epoch", epoch + 1, median)
            since_best += 1
            if gain(values, best_values)[0] > 0.0:
                best, best_values, since_best = candidate, values, 0
        stopping = since_best >= _PATIENCE_CHOICES
        if progress is not None:
            progress("fitting rbm", n_epochs if stopping else epoch + 1, n_epochs)
        if stopping:
            break
    return best


def _estimate(
    p: RbmParameters, n_chains: int, n_temperatures: int, rng: np.random.Generator
) -> PartitionEstimate:
    n_temperatures += _TEMPERATURES_PER_FEATURE * len(p.variances)
    return estimate_partition(p, n_chains=n_chains, n_temperatures=n_temperatures, rng=rng)


def _checked(binary: BoolArray | None, x: FloatArray) -> BoolArray:
    if binary is None:
        return np.zeros(x.shape[1], dtype=np.bool_)
    if binary.shape != x.shape[1:]:
        raise ValueError(f"binary has shape {binary.shape}, expected ({x.shape[1]},), one mark per feature")
    other = binary & (~np.isnan(x) & (x != 0.0) & (x != 1.0)).any(axis=0)
    if other.any():
        j = int(np.flatnonzero(other)[0])
        values = x[:, j][~np.isnan(x[:, j])]
        value = values[(values != 0.0) & (values != 1.0)][0]
        raise ValueError(
            f"feature {j} (counted from 0) is binary, but is {value:g} in some row; "
            "send 0 or 1, or give the feature another kind"
        )
    return binary


def _rescaled(p: RbmParameters, estimate: PartitionEstimate, mean: FloatArray, std: FloatArray) -> Rbm:
    """Return the machine over v = mean + std * u that gives v the energy that ``p`` gives u."""
    return Rbm(
        RbmParameters(
            weights=p.weights * std,
            visible_bias=mean + p.visible_bias * std,
            hidden_bias=p.hidden_bias - (p.weights / p.variances) @ (mean / std),
            variances=p.variances * std**2,
            binary=p.binary,
        ),
        estimate.log_partition + float(np.log(std).sum()),
        estimate.error,
        mean + std * estimate.particles,
    )
