"""What each state of a hidden Markov model emits: a Gaussian, or a mixture of M Gaussians."""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.gaussians import Gaussians


class Emissions:
    """Densities of K states over D features, each a mixture of M Gaussians.

    All K * M Gaussians are evaluated together, state after state.

    Args:
        means: Shape (K * M, D).
        covariances: Shape (K * M, D, D), or variances of shape (K * M, D) for diagonal covariances.
        weights: Of the Gaussians of each state, shape (K, M), rows summing to one.

    Raises:
        ValueError: A covariance is not symmetric and positive definite.
    """

    def __init__(self, means: FloatArray, covariances: FloatArray, weights: FloatArray) -> None:
        self.gaussians = Gaussians(means, covariances)
        self.weights = weights
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(weights).ravel()

    @property
    def n_states(self) -> int:
        return int(self.weights.shape[0])

    @property
    def n_mixtures(self) -> int:
        """M, Gaussians per state."""
        return int(self.weights.shape[1])

    @property
    def n_features(self) -> int:
        return self.gaussians.n_features

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n | state) of the observed features of each record, shape (N, K).

        Args:
            x: Shape (N, D); NaN is missing and integrated out.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if self.n_mixtures == 1:
            return self.gaussians.log_density(x)
        log_joint = self.log_joint(x)
        largest = log_joint.max(axis=2)
        largest[np.isneginf(largest)] = 0.0
        # One Gaussian of every state after the other, in an order that no neighbour changes.
        total = np.zeros_like(largest)
        for m in range(self.n_mixtures):
            total += np.exp(log_joint[:, :, m] - largest)
        with np.errstate(divide="ignore"):
            log_total = np.log(total)
        return np.asarray(log_total + largest)

    def log_joint(self, x: FloatArray) -> FloatArray:
        """Return log p(x_n, Gaussian | state), shape (N, K, M); ``x`` as in ``log_density``."""
        log_joint = self.gaussians.log_density(x) + self._log_weights
        return log_joint.reshape(len(x), self.n_states, self.n_mixtures)

    def explain(self, log_states: FloatArray, x: FloatArray) -> Explanation:
        """Explain records, exactly; ``log_states`` are of the states before each, shape (N, K), nats."""
        log_weights = np.repeat(log_states, self.n_mixtures, axis=1) + self._log_weights
        return self.gaussians.explain(log_weights, x)

    def sample(self, states: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw one record from each given state, shape (N, D); ``states`` has shape (N,)."""
        component = states
        if self.n_mixtures > 1:
            cumulative = np.cumsum(self.weights, axis=1)[states, :-1]
            within = (rng.random((len(states), 1)) >= cumulative).sum(axis=1)
            component = states * self.n_mixtures + within
        return self.gaussians.sample(component, rng)
