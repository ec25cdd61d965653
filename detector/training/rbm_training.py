"""A restricted Boltzmann machine on its way uphill: the likelihood's gradient, followed with Adam.

The gradient is the mean over the data less the mean over the model of the energy's derivatives. With at most
``MOST_SUMMED`` hidden units the model's mean is a sum over all their settings, without error. With more, it
comes from chains that go on from step to step (persistent contrastive divergence); these find it hard to
move between regimes that lie far apart, and the machine then weighs those badly. Missing values of the data
are chains as well: they are drawn again, given the rest of their record, whenever it is visited. The
gradients are a few products of small matrices, so numpy does all of it.

References:
    Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
    Cho, Ilin and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann machines.
    Kingma and Ba (2015), Adam: a method for stochastic optimization.
"""

import numpy as np
from scipy.special import expit, logit, logsumexp

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.rbm_energy import (
    RbmParameters,
    all_settings,
    draw_hidden,
    draw_visible,
    hidden_log_odds,
)

MOST_SUMMED = 10
"""Hidden units up to which the gradient is exact: 2^10 settings cost about as much as the chains."""

_BATCH_ROWS = 256
_CHAINS = 256
_GIBBS_STEPS = 3
_FIRST_WEIGHT = 0.1
_ADAM_FIRST, _ADAM_SECOND, _ADAM_LEAST = 0.9, 0.999, 1e-8


class RbmTraining:
    """Parameters, Adam's moments and chains of one fit.

    Args:
        rows: Shape (N, D), each Gaussian feature of mean 0 and variance about 1; NaN is missing.
        binary: Which features are 0 or 1, shape (D,).
        n_hidden: H.
        variance_floor: Of the features given the hidden units.
        rng: Of everything random.
    """

    def __init__(
        self,
        rows: FloatArray,
        binary: BoolArray,
        n_hidden: int,
        variance_floor: float,
        rng: np.random.Generator,
    ) -> None:
        n_features = rows.shape[1]
        self._rng = rng
        self._binary = binary
        self._least_log_variance = float(np.log(variance_floor))
        self._missing: BoolArray = np.isnan(rows)
        log_odds = np.zeros(n_features)
        if binary.any():
            rows = rows.copy()
            rows[:, binary], log_odds[binary] = _never_certain(rows[:, binary])
        # The hidden units begin undecided and weak.
        weights = _FIRST_WEIGHT * rng.standard_normal((n_hidden, n_features))
        self._values = {
            "weights": weights,
            "visible_bias": log_odds - 0.5 * weights.sum(axis=0),
            "hidden_bias": np.zeros(n_hidden),
            "log_variances": np.zeros(n_features),
        }
        self._first = {name: np.zeros_like(value) for name, value in self._values.items()}
        self._second = {name: np.zeros_like(value) for name, value in self._values.items()}
        self.n_steps = 0
        p = self.parameters()
        self._settings = all_settings(n_hidden) if n_hidden <= MOST_SUMMED else None
        self._chains = draw_visible(p, rng.random((_CHAINS, n_hidden)) < 0.5, rng)
        self._rows = rows
        if self._missing.any():
            drawn = draw_visible(p, rng.random((len(rows), n_hidden)) < 0.5, rng)
            self._rows = np.where(self._missing, drawn, rows)

    @property
    def n_rows(self) -> int:
        return len(self._rows)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._rows) // _BATCH_ROWS)

    def parameters(self) -> RbmParameters:
        """Return a copy of where the fit is."""
        v = self._values
        return RbmParameters(
            v["weights"].copy(),
            v["visible_bias"].copy(),
            v["hidden_bias"].copy(),
            np.exp(v["log_variances"]),
            self._binary,
        )

    def step(self, batch: IntArray, learning_rate: float) -> None:
        """Go uphill once.

        Args:
            batch: Which rows, shape (B,).
            learning_rate: Adam's, in standard deviations of the features.
        """
        p = self.parameters()
        rows, missing = self._rows[batch], self._missing[batch]
        if missing.any():
            rows = self._rows[batch] = np.where(missing, self._gibbs(p, rows), rows)
        of_data, of_model = _derivatives(p, rows), self._derivatives_of_model(p)
        self.n_steps += 1
        first_share = 1.0 - _ADAM_FIRST**self.n_steps
        second_share = 1.0 - _ADAM_SECOND**self.n_steps
        for name, value in self._values.items():
            gradient = of_data[name] - of_model[name]
            self._first[name] += (1.0 - _ADAM_FIRST) * (gradient - self._first[name])
            self._second[name] += (1.0 - _ADAM_SECOND) * (gradient**2 - self._second[name])
            size = np.sqrt(self._second[name] / second_share) + _ADAM_LEAST
            value += learning_rate * self._first[name] / first_share / size
        variances = self._values["log_variances"]
        np.maximum(variances, self._least_log_variance, out=variances)
        variances[self._binary] = 0.0

    def _derivatives_of_model(self, p: RbmParameters) -> dict[str, FloatArray]:
        if self._settings is not None:
            return _expected_derivatives(p, self._settings)
        for _ in range(_GIBBS_STEPS):
            self._chains = self._gibbs(p, self._chains)
        return _derivatives(p, self._chains)

    def _gibbs(self, p: RbmParameters, v: FloatArray) -> FloatArray:
        """Draw hidden units given records, then records given hidden units, shape (N, D)."""
        return draw_visible(p, draw_hidden(p, v, self._rng), self._rng)


def _never_certain(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Add one row that is undecided in every feature, spread over all rows, so that no odds are infinite.

    Args:
        rows: Binary features, shape (N, B); NaN is missing.

    Returns:
        The rows, and the log odds of each feature, shape (B,).
    """
    n = (~np.isnan(rows)).sum(axis=0)
    rows = (n * rows + 0.5) / (n + 1)
    return rows, np.asarray(logit(np.nanmean(rows, axis=0)))


def _derivatives(p: RbmParameters, v: FloatArray) -> dict[str, FloatArray]:
    """Return the mean derivatives of minus the free energy over records, shape (N, D).

    Of a binary feature, the bias' lacks the bias itself, which cancels between data and model, and there is
    no variance to move.

    Those by weights and visible biases are multiplied with the variances, which Adam's scaling undoes and
    which keeps features of different variance comparable.
    """
    on = expit(hidden_log_odds(p, v))
    error = v - p.visible_bias
    pull = 0.5 * error**2 - v * (on @ p.weights)
    return {
        "weights": on.T @ v / len(v),
        "visible_bias": error.mean(axis=0),
        "hidden_bias": on.mean(axis=0),
        "log_variances": pull.mean(axis=0) / p.variances,
    }


def _expected_derivatives(p: RbmParameters, settings: FloatArray) -> dict[str, FloatArray]:
    """Return what ``_derivatives`` are on average over the machine's own records.

    Args:
        p: The machine.
        settings: Every setting of its hidden units, shape (2^H, H).
    """
    moved = settings @ p.weights
    inputs = p.visible_bias + moved
    gained = moved * (p.visible_bias + 0.5 * moved) / p.variances
    mean = inputs
    if p.binary.any():
        gained[:, p.binary] = np.logaddexp(0.0, inputs[:, p.binary])
        mean = np.where(p.binary, expit(inputs), inputs)
    log_share = settings @ p.hidden_bias + gained.sum(axis=1)
    share = np.exp(log_share - logsumexp(log_share))
    weighted = settings * share[:, None]
    # E (v - b)^2 / 2 - v m, with v - b = m + noise of variance s.
    pull = 0.5 * (moved**2 + p.variances) - mean * moved
    return {
        "weights": weighted.T @ mean,
        "visible_bias": share @ (mean - p.visible_bias),
        "hidden_bias": weighted.sum(axis=0),
        "log_variances": share @ pull / p.variances,
    }
