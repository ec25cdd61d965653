"""A restricted Boltzmann machine on its way uphill: persistent contrastive divergence with Adam.

The gradient of the log-likelihood is the mean over the data less the mean over the model of the energy's
derivatives. The model's mean comes from chains that go on from step to step. Missing values of the data
are chains as well: they are drawn again, given the rest of their record, whenever it is visited. The
gradients are a few products of small matrices, so numpy does all of it.

References:
    Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.
    Cho, Ilin and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann machines.
    Kingma and Ba (2015), Adam: a method for stochastic optimization.
"""

import numpy as np
from scipy.special import expit

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.rbm import RbmParameters

_BATCH_ROWS = 256
_CHAINS = 256
_GIBBS_STEPS = 3
_FIRST_WEIGHT = 0.1
_ADAM_FIRST, _ADAM_SECOND, _ADAM_LEAST = 0.9, 0.999, 1e-8


class RbmTraining:
    """Parameters, Adam's moments and chains of one fit.

    Args:
        rows: Shape (N, D), each feature of mean 0 and variance about 1; NaN is missing.
        n_hidden: H.
        variance_floor: Of the features given the hidden units.
        rng: Of everything random.
    """

    def __init__(
        self, rows: FloatArray, n_hidden: int, variance_floor: float, rng: np.random.Generator
    ) -> None:
        n_features = rows.shape[1]
        self._rng = rng
        self._least_log_variance = float(np.log(variance_floor))
        self._missing: BoolArray = np.isnan(rows)
        self._rows = np.where(self._missing, rng.standard_normal(rows.shape), rows)
        self._chains = rng.standard_normal((_CHAINS, n_features))
        # The hidden units begin undecided and weak.
        weights = _FIRST_WEIGHT * rng.standard_normal((n_hidden, n_features))
        self._values = {
            "weights": weights,
            "visible_bias": -0.5 * weights.sum(axis=0),
            "hidden_bias": np.zeros(n_hidden),
            "log_variances": np.zeros(n_features),
        }
        self._first = {name: np.zeros_like(value) for name, value in self._values.items()}
        self._second = {name: np.zeros_like(value) for name, value in self._values.items()}
        self.n_steps = 0

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
            v["weights"].copy(), v["visible_bias"].copy(), v["hidden_bias"].copy(), np.exp(v["log_variances"])
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
        for _ in range(_GIBBS_STEPS):
            self._chains = self._gibbs(p, self._chains)
        of_data, of_model = _derivatives(p, rows), _derivatives(p, self._chains)
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

    def _gibbs(self, p: RbmParameters, v: FloatArray) -> FloatArray:
        """Draw hidden units given records, then records given hidden units, shape (N, D)."""
        on = expit(p.hidden_bias + v @ (p.weights / p.variances).T)
        hidden = self._rng.random(on.shape) < on
        noise = self._rng.standard_normal(v.shape)
        return np.asarray(p.visible_bias + hidden @ p.weights + np.sqrt(p.variances) * noise)


def _derivatives(p: RbmParameters, v: FloatArray) -> dict[str, FloatArray]:
    """Return the mean derivatives of minus the free energy over records, shape (N, D).

    Those by weights and visible biases are multiplied with the variances, which Adam's scaling undoes and
    which keeps features of different variance comparable.
    """
    on = expit(p.hidden_bias + v @ (p.weights / p.variances).T)
    error = v - p.visible_bias
    pull = 0.5 * error**2 - v * (on @ p.weights)
    return {
        "weights": on.T @ v / len(v),
        "visible_bias": error.mean(axis=0),
        "hidden_bias": on.mean(axis=0),
        "log_variances": pull.mean(axis=0) / p.variances,
    }
