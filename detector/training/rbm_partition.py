"""The partition function of a restricted Boltzmann machine, by annealed importance sampling.

The visible units are summed out by hand, which leaves a distribution over the H hidden units alone:
log p*(h) = sum_i h_i (c_i + sum_j b_j w_ij / s_j) + 1/2 h' K h + sum_m softplus(b_m + sum_i h_i w_im),
but for a constant, with j over the Gaussian features, m over the binary ones, K_ik = sum_j w_ij w_kj / s_j.
Chains of hidden units start where nothing couples them and each is on half of the time: a machine in which
the visible units follow their biases alone, and whose partition function is known. Then everything that
concerns the hidden units is faded in. The mean of the chains' importance weights estimates Z / Z_0 without
bias, whatever the chains have missed; their spread gives the error of its logarithm.

References:
    Neal (2001), Annealed importance sampling.
    Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import expit, logsumexp

from detector.batch import FloatArray
from detector.models.rbm_energy import RbmParameters, draw_visible

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
    p: RbmParameters, *, n_chains: int, n_temperatures: int, rng: np.random.Generator
) -> PartitionEstimate:
    """Lead chains of hidden units from independent ones to the machine.

    At inverse temperature beta the first two terms of log p*(h) are multiplied with beta, and so is what the
    hidden units add to the binary features' log odds.

    Args:
        p: The machine.
        n_chains: C; the error falls with its square root.
        n_temperatures: Steps of beta from 0 to 1; more make the weights more equal.
        rng: Where the chains' noise comes from.
    """
    n_hidden, gaussian = len(p.hidden_bias), ~p.binary
    gain = p.weights[:, gaussian] / p.variances[gaussian]
    pull = (p.hidden_bias + gain @ p.visible_bias[gaussian])[:, None]
    coupling = gain @ p.weights[:, gaussian].T
    to_binary, bias = p.weights[:, p.binary].T, p.visible_bias[p.binary, None]
    log_volume = 0.5 * (_LOG_2PI + np.log(p.variances[gaussian])).sum()
    log_base = n_hidden * np.log(2.0) + log_volume + np.logaddexp(0.0, bias).sum()

    hidden = (rng.random((n_hidden, n_chains)) < 0.5).astype(np.float64)
    log_weights = np.zeros(n_chains)
    for before, beta in pairwise(np.linspace(0.0, 1.0, n_temperatures + 1)):
        coupled = coupling @ hidden
        log_weights += (beta - before) * (hidden * (pull + 0.5 * coupled)).sum(axis=0)
        log_odds = pull + coupled
        if len(bias):
            inputs = to_binary @ hidden
            on = expit(bias + beta * inputs)
            # (1 + exp(before)) / (1 + exp(now)), feature by feature, is 1 + on (exp(before - now) - 1).
            log_weights -= np.log((1.0 + on * np.expm1((before - beta) * inputs)).prod(axis=0))
            log_odds += to_binary.T @ (rng.random(inputs.shape) < on)
        # What turns a unit on is what it would gain, its coupling with itself being gained once.
        threshold = rng.logistic(size=hidden.shape)
        for i in range(n_hidden):
            gained = log_odds[i] + (0.5 - hidden[i]) * coupling[i, i]
            turned = (threshold[i] < beta * gained) - hidden[i]
            hidden[i] += turned
            log_odds += coupling[i][:, None] * turned
    weights = np.exp(log_weights - log_weights.max())
    chosen = rng.choice(n_chains, size=n_chains, p=weights / weights.sum())
    return PartitionEstimate(
        log_partition=float(log_base + logsumexp(log_weights) - np.log(n_chains)),
        error=float(weights.std() / weights.mean() / np.sqrt(n_chains)),
        particles=draw_visible(p, hidden.T[chosen] > 0.5, rng),
    )
