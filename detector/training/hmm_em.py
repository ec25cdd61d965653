"""Expectation maximisation of a hidden Markov model whose states emit Gaussians, or mixtures of them.

hmmlearn runs forwards and backwards and maximises the transitions. The emissions are maximised here, so that
no variance falls below the floor, and no Gaussian or state that lost its rows spoils the others.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, sections 9.2.2 and 13.2.1.
"""

from typing import Any

import numpy as np
from hmmlearn.base import BaseHMM

from detector.batch import FloatArray
from detector.models.emissions import Emissions
from detector.models.log_space import log_sum_exp, normalise

# A Gaussian with fewer rows stays where it is, and its weight goes on shrinking.
_FEWEST_ROWS = 2.0
_PSEUDO_ROWS = 1.0


class HmmEm(BaseHMM):  # type: ignore[misc]
    """What ``fit(x, lengths)`` maximises, from given parameters on.

    Args:
        emissions: To begin with.
        transition: To begin with, shape (K, K); the start distribution begins even.
        pseudo_transitions: Transitions more than was seen, of each state, spread over all.
        floor: Added to every variance.
        n_iter: Most iterations.
        tol: Gain of total log-likelihood, nats, below which it ends.
    """

    def __init__(
        self,
        emissions: Emissions,
        transition: FloatArray,
        *,
        pseudo_transitions: float,
        floor: float,
        n_iter: int,
        tol: float,
    ) -> None:
        n_states = emissions.n_states
        super().__init__(
            n_states,
            transmat_prior=1.0 + pseudo_transitions / n_states,
            n_iter=n_iter,
            tol=tol,
            params="st",
            init_params="",
        )
        self.startprob_ = np.full(n_states, 1.0 / n_states)
        self.transmat_ = transition
        self.emissions = emissions
        self._floor = floor

    def _get_n_fit_scalars_per_param(self) -> None:
        # Whether there are enough rows has been looked at before.
        return None

    def _compute_log_likelihood(self, x: FloatArray) -> FloatArray:
        # Kept for the statistics of the same rows, which hmmlearn asks for next.
        self._log_joint = self.emissions.log_joint(x)
        return log_sum_exp(self._log_joint.reshape(-1, self.emissions.n_mixtures)).reshape(len(x), -1)

    def _initialize_sufficient_statistics(self) -> dict[str, Any]:
        stats: dict[str, Any] = super()._initialize_sufficient_statistics()
        gaussians = self.emissions.gaussians
        stats["rows"] = np.zeros(gaussians.n_components)
        stats["x"] = np.zeros_like(gaussians.means)
        stats["xx"] = np.zeros_like(gaussians.covariances)
        return stats

    def _accumulate_sufficient_statistics(
        self,
        stats: dict[str, Any],
        x: FloatArray,
        lattice: FloatArray,
        posteriors: FloatArray,
        fwdlattice: FloatArray,
        bwdlattice: FloatArray,
    ) -> None:
        super()._accumulate_sufficient_statistics(stats, x, lattice, posteriors, fwdlattice, bwdlattice)
        within_state = normalise(self._log_joint.reshape(-1, self.emissions.n_mixtures))
        share = (posteriors.reshape(-1, 1) * within_state).reshape(len(x), -1)
        stats["rows"] += share.sum(axis=0)
        stats["x"] += share.T @ x
        if self.emissions.gaussians.is_diagonal:
            stats["xx"] += share.T @ x**2
        else:
            stats["xx"] += np.stack([(column[:, None] * x).T @ x for column in share.T])

    def _do_mstep(self, stats: dict[str, Any]) -> None:
        super()._do_mstep(stats)
        gaussians, weights = self.emissions.gaussians, self.emissions.weights
        fed = stats["rows"] >= _FEWEST_ROWS
        rows = stats["rows"][fed, None]
        means, covariances = gaussians.means.copy(), gaussians.covariances.copy()
        means[fed] = stats["x"][fed] / rows
        # The floor also makes up for what the difference of two squares loses to rounding.
        if gaussians.is_diagonal:
            covariances[fed] = (stats["xx"][fed] / rows - means[fed] ** 2).clip(min=0.0) + self._floor
        else:
            outer = means[fed, :, None] * means[fed, None, :]
            spread = stats["xx"][fed] / rows[:, :, None] - outer
            symmetric = 0.5 * (spread + spread.swapaxes(1, 2))
            covariances[fed] = symmetric + self._floor * np.eye(outer.shape[1])
        share = stats["rows"].reshape(weights.shape) + _PSEUDO_ROWS / self.emissions.n_mixtures
        self.emissions = Emissions(means, covariances, share / share.sum(axis=1, keepdims=True))
