"""What tells a generator that has lost modes from one that has not, and one epoch from a better one.

References:
    Naeem, Oh, Uh, Choi and Yoo (2020), Reliable fidelity and diversity metrics for generative models.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import ks_2samp

from detector.batch import FloatArray
from detector.models.gan import Gan, GanOutcome, GanParameters

_NEIGHBOURS = 5
_NOISE_ROUNDS = 10
_LEAST_CRITIC_SHARE = 0.01
_MOST_IMPUTED_ROWS = 500
NOT_WATCHED = GanOutcome(np.zeros((1, 3)), 0, 0)
"""The outcome of a training that is still going on."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Standardised records to compare generated ones with, and what equally many training records reach."""

    held_out: FloatArray
    """Shape (M, D)."""
    coverage: float
    precision: float

    @classmethod
    def of(cls, held_out: FloatArray, fitting: FloatArray) -> "Watch":
        """Measure training records, shape (M', D), as if they had been generated."""
        return cls(held_out, *coverage_and_precision(held_out, fitting))

    def judge(self, parameters: GanParameters, rng: np.random.Generator) -> FloatArray:
        """Return coverage and precision, relative to the training records', and the surprises' distance.

        Args:
            parameters: What generates; location 0 and scale 1.
            rng: Where the generated records come from.
        """
        gan = Gan(parameters, NOT_WATCHED)
        generated = gan.sample(len(self.held_out), rng)
        coverage, precision = coverage_and_precision(self.held_out, generated)
        distance = ks_2samp(gan.log_likelihood(generated), gan.log_likelihood(self.held_out)).statistic
        least = 1.0 / len(self.held_out)
        return np.array(
            [
                min(1.0, coverage / max(least, self.coverage)),
                min(1.0, precision / max(least, self.precision)),
                float(distance),
            ]
        )


def coverage_and_precision(real: FloatArray, generated: FloatArray) -> tuple[float, float]:
    """Return how much of the real is met by the generated, and how much of the generated is near the real.

    A ball around each real record reaches to its fifth neighbour. Coverage is the share of balls with a
    generated record inside, precision the share of generated records inside a ball.

    Args:
        real: Shape (N, D), N > 5.
        generated: Shape (M, D).
    """
    of_real = cKDTree(real)
    radius = of_real.query(real, _NEIGHBOURS + 1)[0][:, -1]
    coverage = cKDTree(generated).query(real)[0] <= radius
    distance, nearest = of_real.query(generated, _NEIGHBOURS)
    return float(coverage.mean()), float((distance <= radius[nearest]).any(axis=1).mean())


def measured(
    parameters: GanParameters, held_out: FloatArray, floor: float, rng: np.random.Generator
) -> GanParameters:
    """Return the networks with the variances that held-out records give them.

    The critic only half sees how wide the noise on generated records has to be, so that is set here: wide
    enough that generated records are missed by their reconstruction as held-out ones are.

    Args:
        parameters: The networks, location 0 and scale 1; ``noise_variances`` are where the search begins.
        held_out: Standardised records, shape (M, D).
        floor: The smallest variance.
        rng: Where generated records come from.
    """
    gan = Gan(parameters, NOT_WATCHED)
    error, _, of_critic = gan.differences(held_out)
    variances = (error**2).mean(axis=0) + floor
    critic_variances = (of_critic**2).mean(axis=0)
    critic_variances += _LEAST_CRITIC_SHARE * critic_variances.mean() + np.finfo(float).tiny
    parameters = replace(parameters, reconstruction_variances=variances, critic_variances=critic_variances)
    seed = int(rng.integers(1 << 62))
    for _ in range(_NOISE_ROUNDS):
        # The same draws in every round, so that the rounds settle.
        generated = Gan(parameters, NOT_WATCHED).sample(len(held_out), np.random.default_rng(seed))
        missed = (gan.differences(generated)[0] ** 2).mean(axis=0) + floor
        noise = np.clip(parameters.noise_variances * variances / missed, floor, 4.0 * variances)
        parameters = replace(parameters, noise_variances=noise)
    return parameters


def imputation_variances(gan: Gan, held_out: FloatArray, floor: float) -> FloatArray:
    """Return the mean square of what imputing each feature misses, shape (D,)."""
    rows = held_out[:: max(1, len(held_out) // _MOST_IMPUTED_ROWS)]
    variances = np.empty(rows.shape[1])
    for j in range(rows.shape[1]):
        hidden = rows.copy()
        hidden[:, j] = np.nan
        variances[j] = ((rows[:, j] - gan.imputed(hidden)[:, j]) ** 2).mean() + floor
    return variances
