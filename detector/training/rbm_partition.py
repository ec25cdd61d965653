"""The partition function of a restricted Boltzmann machine, by annealed importance sampling.

Chains start from independent Gaussians, whose partition function is known, and are led through a sequence
of machines, each a little closer to the one in question. The mean of their importance weights estimates
Z / Z_0 without bias, whatever the chains have missed; their spread gives the error of its logarithm.

References:
    Neal (2001), Annealed importance sampling.
    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import expit, logsumexp

from detector.batch import FloatArray
from detector.models.rbm import RbmParameters

_LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class PartitionEstimate:
    """log Z, and where the chains that found it ended."""

    log_partition: float
    """Nats."""
    error: float
    """Standard error of ``log_partition``, nats."""
    particles: FloatArray
    """Shape (C, D), approximately drawn from the machine: the chains' ends, resampled by their weights."""


def estimate_partition(
    p: RbmParameters,
    base_mean: FloatArray,
    base_variance: FloatArray,
    *,
    n_chains: int,
    n_temperatures: int,
    rng: np.random.Generator,
) -> PartitionEstimate:
    """Lead chains from independent Gaussians to the machine.

    The machine at inverse temperature beta has the unnormalised density
    N_0(v)^(1 - beta) exp(-beta sum_j (v_j - b_j)^2 / (2 s_j)) prod_i (1 + exp(beta a_i(v))).

    Args:
        p: The machine.
        base_mean: Of the Gaussians at the start, shape (D,).
        base_variance: Shape (D,). A start wider than the machine costs precision, which the error shows; a
            narrower one misses regimes that lie far out, which the error does not show.
        n_chains: C; the error falls with its square root.
        n_temperatures: Steps of beta from 0 to 1; more make the weights more equal.
        rng: Where the chains' noise comes from.
    """
    n_hidden, n_features = p.weights.shape
    gain = p.weights / p.variances
    v = base_mean + np.sqrt(base_variance) * rng.standard_normal((n_chains, n_features))
    log_weights = np.full(n_chains, 0.5 * (_LOG_2PI + np.log(base_variance)).sum() + n_hidden * np.log(2.0))
    betas = np.linspace(0.0, 1.0, n_temperatures + 1)
    for before, beta in pairwise(betas):
        activation = p.hidden_bias + v @ gain.T
        base_energy = (0.5 * (v - base_mean) ** 2 / base_variance).sum(axis=1)
        energy = (0.5 * (v - p.visible_bias) ** 2 / p.variances).sum(axis=1)
        log_weights += (beta - before) * (base_energy - energy)
        log_weights += np.logaddexp(0.0, beta * activation).sum(axis=1)
        log_weights -= np.logaddexp(0.0, before * activation).sum(axis=1)
        hidden = rng.random((n_chains, n_hidden)) < expit(beta * activation)
        precision = (1.0 - beta) / base_variance + beta / p.variances
        pull = (1.0 - beta) * base_mean / base_variance + beta * (
            p.visible_bias / p.variances + hidden @ gain
        )
        v = pull / precision + rng.standard_normal(v.shape) / np.sqrt(precision)
    weights = np.exp(log_weights - log_weights.max())
    return PartitionEstimate(
        log_partition=float(logsumexp(log_weights) - np.log(n_chains)),
        error=float(weights.std() / weights.mean() / np.sqrt(n_chains)),
        particles=v[rng.choice(n_chains, size=n_chains, p=weights / weights.sum())],
    )
