"""The restricted Boltzmann machine: H hidden switches, each of which moves every feature.

``rbm_energy`` has its energy. Given the H hidden units the features are independent, Gaussian or binary, so
the model is a mixture of 2^H such products that share their variances; given the features the hidden units
are independent, so they are summed out at once: log p(v) = -F(v) - log Z with the free energy
F(v) = sum_j e_j(v_j) - sum_i softplus(a_i) and a_i = c_i + sum_j w_ij v_j / s_j. Only log Z is an estimate,
made once at fit and stored with its error. A binary feature that is neither 0 nor 1 is outside the support.

A missing feature m is integrated or summed out: with u = sum_i h_i w_im that leaves
(2 b_m u + u^2) / (2 s_m) + log(2 pi s_m) / 2 of a Gaussian and softplus(b_m + u) of a binary feature. Either
couples the hidden units, which are then no longer independent. With at most ``MOST_ENUMERATED`` of them all
2^H settings are summed, which is exact; with more, a product of independent units takes the place of their
distribution, which gives a lower bound (mean field).

References:
    Cho, Ilin and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann machines.
"""

from typing import ClassVar, Self

import numpy as np
from scipy.special import expit

from detector.batch import BoolArray, FloatArray
from detector.models.arrays import take
from detector.models.contract import Arrays, Evidence, Explanation
from detector.models.log_space import log_sum_exp
from detector.models.memoryless import Memoryless
from detector.models.patterns import by_pattern
from detector.models.rbm_energy import (
    RbmParameters,
    all_settings,
    centre_of,
    draw_hidden,
    draw_visible,
    gain_of,
    offset_of,
)
from detector.models.tiles import Kernel, map_tiles

MOST_ENUMERATED = 12
"""Hidden units up to which marginals are exact: 2^12 settings take some 20 microseconds per record."""

_LOG_2PI = float(np.log(2.0 * np.pi))
_TILE = 64
_TILE_OF_SETTINGS = 16
_MEAN_FIELD_ITERATIONS = 20
_GIBBS_STEPS = 50
_ROWS_AT_ONCE = 256
# Explanations multiply values from here; farther away products would overflow to inf - inf.
_FARTHEST = 1e100
# A sum over a grid this fine is the integral of a Gaussian but for 1e-17 of it, and reaches far enough.
_GRID_STEP_STD = 0.7
_GRID_MARGIN_STD = 9.0
_MOST_GRID_POINTS = 4096


class Rbm(Memoryless):
    """A restricted Boltzmann machine with Gaussian and binary features, scored by its free energy.

    Args:
        parameters: The energy.
        log_partition: An estimate of log Z, nats.
        log_partition_error: Its standard error, nats.
        chains: Records drawn from the model, shape (C, D), from which ``sample`` starts.

    Raises:
        ValueError: The shapes do not fit together, or a variance is not positive.
    """

    name: ClassVar[str] = "rbm"
    evidence: ClassVar[Evidence] = "unnormalised"

    def __init__(
        self,
        parameters: RbmParameters,
        log_partition: float,
        log_partition_error: float,
        chains: FloatArray,
    ) -> None:
        p = parameters
        n_hidden, n_features = p.weights.shape
        for what, array, shape in (
            ("visible_bias", p.visible_bias, (n_features,)),
            ("hidden_bias", p.hidden_bias, (n_hidden,)),
            ("variances", p.variances, (n_features,)),
            ("binary", p.binary, (n_features,)),
            ("chains", chains, (len(chains), n_features)),
        ):
            if array.shape != shape:
                raise ValueError(
                    f"array {what!r} has shape {array.shape}, expected {shape} for {n_features} features and "
                    f"{n_hidden} hidden units; train the bundle again"
                )
        if not (p.variances > 0).all() or log_partition_error < 0:
            raise ValueError(
                "'variances' must be positive, 'log_partition_error' at least 0; train the bundle again"
            )
        self._parameters = p
        self._gain = gain_of(p)
        self._centre, self._offset = centre_of(p), offset_of(p)
        self._log_partition = log_partition
        self._log_partition_error = log_partition_error
        self._chains = chains
        self._settings = all_settings(n_hidden) if n_hidden <= MOST_ENUMERATED else None

    @property
    def n_features(self) -> int:
        return int(self._gain.shape[1])

    @property
    def n_hidden(self) -> int:
        return int(self._gain.shape[0])

    @property
    def log_partition(self) -> float:
        """The estimate of log Z, nats."""
        return self._log_partition

    @property
    def log_partition_error(self) -> float:
        """Its standard error, nats."""
        return self._log_partition_error

    @property
    def latent_size(self) -> int:
        return self.n_hidden

    def log_likelihood(self, x: FloatArray) -> FloatArray:
        """Return the log-likelihood of the observed features of each record, log Z being an estimate.

        Args:
            x: Shape (N, D); NaN is missing and integrated out, as the module says.

        Returns:
            Shape (N,), nats; NaN for a record without any feature.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        missing = np.isnan(x)
        result = self._of_complete(x) if not missing.any() else self._of_patterns(x, missing)
        p = self._parameters
        if p.binary.any():
            values = x[:, p.binary]
            result[((values != 0.0) & (values != 1.0) & ~np.isnan(values)).any(axis=1)] = -np.inf
        return result

    def _of_patterns(self, x: FloatArray, missing: BoolArray) -> FloatArray:
        result = np.full(len(x), np.nan)
        for pattern, rows in by_pattern(missing):
            if not pattern.any():
                result[rows] = self._of_complete(x[rows])
            elif not pattern.all():
                result[rows] = self._of_observed(x[np.ix_(rows, np.flatnonzero(~pattern))], pattern)
        return result

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Return the conditional of each feature given the record's others.

        Along one feature the density is exp(-e(v)) prod_i (1 + exp(a_i + v w_i / s)). Of a Gaussian feature
        that is a mixture of Gaussians of one width, which a sum over a grid integrates to the last digits; of
        a binary one it is a sum over 0 and 1, the likelier of which is expected, without a spread. Exact for
        complete records; where other features are missing these are held at their mean-field expectation.
        """
        shape = (len(x), self.n_features)
        explanation = Explanation(nats=np.empty(shape), expected=np.empty(shape), std=np.empty(shape))
        x = np.clip(x, -_FARTHEST, _FARTHEST)
        for j in range(self.n_features):
            others = x.copy()
            others[:, j] = np.nan
            others = self._imputed(others) if np.isnan(x).any() else others
            others[:, j] = 0.0
            activation = self._activation(others)
            for start in range(0, len(x), _ROWS_AT_ONCE):
                part = slice(start, start + _ROWS_AT_ONCE)
                nats, expected, std = self._along(j, activation[part], x[part, j])
                explanation.nats[part, j] = nats
                explanation.expected[part, j] = expected
                explanation.std[part, j] = std
        return explanation

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the probability that each hidden unit is on, shape (N, H).

        Exact for complete records; missing features are held at their mean-field expectation.
        """
        bounded = np.clip(x, -_FARTHEST, _FARTHEST)
        return np.asarray(expit(self._activation(self._imputed(bounded))))

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> None:
        """Return None: no single discrete cause is behind a record."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n records, shape (n, D): 50 rounds of block Gibbs from chains drawn among the stored ones."""
        v = self._chains[rng.integers(len(self._chains), size=n)]
        for _ in range(_GIBBS_STEPS):
            v = draw_visible(self._parameters, draw_hidden(self._parameters, v, rng), rng)
        return v

    def arrays(self) -> Arrays:
        """Return everything that scoring needs; ``variances`` are those of the Gaussian features alone."""
        p = self._parameters
        arrays = {
            "weights": p.weights,
            "visible_bias": p.visible_bias,
            "hidden_bias": p.hidden_bias,
            "log_partition": np.array([self._log_partition]),
            "log_partition_error": np.array([self._log_partition_error]),
            "chains": self._chains,
        }
        if p.binary.any():
            arrays["binary"] = p.binary.astype(np.float64)
        if not p.binary.all():
            arrays["variances"] = p.variances[~p.binary]
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        weights = take(arrays, "weights", (None, None))
        # Without a mask, as in bundles older than it, every feature is Gaussian.
        mask = take(arrays, "binary", weights.shape[1:]) if "binary" in arrays else np.zeros(weights.shape[1])
        if not np.isin(mask, (0.0, 1.0)).all():
            raise ValueError(f"array 'binary' is {mask.tolist()}, expected 0 and 1; train the bundle again")
        binary = mask == 1.0
        variances = np.ones(len(binary))
        if not binary.all():
            variances[~binary] = take(arrays, "variances", (int((~binary).sum()),))
        return cls(
            RbmParameters(
                weights=weights,
                visible_bias=take(arrays, "visible_bias", (None,)),
                hidden_bias=take(arrays, "hidden_bias", (None,)),
                variances=variances,
                binary=binary,
            ),
            float(take(arrays, "log_partition", (1,))[0]),
            float(take(arrays, "log_partition_error", (1,))[0]),
            take(arrays, "chains", (None, None)),
        )

    def _of_complete(self, x: FloatArray) -> FloatArray:
        p = self._parameters
        precision = 0.5 / p.variances[:, None]

        def kernel(columns: FloatArray) -> FloatArray:
            activation = np.matmul(self._gain, columns) + p.hidden_bias[:, None]
            columns -= self._centre[:, None]
            columns *= columns
            columns *= precision
            free_energy = np.add.reduce(columns, axis=1) - np.add.reduce(
                np.logaddexp(0.0, activation), axis=1
            )
            return np.asarray(-free_energy[:, None])

        offset = float(self._offset.sum()) - self._log_partition
        return _map(kernel, x, _TILE, self.n_features + self.n_hidden) + offset

    def _of_observed(self, x: FloatArray, missing: BoolArray) -> FloatArray:
        """Return the marginal log-likelihood of records that all lack the same features, shape (N,).

        Args:
            x: Their observed features, shape (N, D - M).
            missing: The M features, shape (D,).
        """
        p = self._parameters
        seen = ~missing
        gain, centre = np.ascontiguousarray(self._gain[:, seen]), self._centre[seen, None]
        precision = 0.5 / p.variances[seen, None]
        gaussian, binary = missing & ~p.binary, missing & p.binary
        weights, bias, variances = p.weights[:, gaussian], p.visible_bias[gaussian], p.variances[gaussian]
        log_volume = 0.5 * float((_LOG_2PI + np.log(variances)).sum())
        offset = log_volume + float(self._offset[seen].sum()) - self._log_partition
        sum_out: Kernel
        if self._settings is not None:
            settings, tile = self._settings, _TILE_OF_SETTINGS
            moved = settings @ weights
            coupling = (moved * (bias + 0.5 * moved) / variances).sum(axis=1)
            coupling += np.logaddexp(0.0, p.visible_bias[binary] + settings @ p.weights[:, binary]).sum(
                axis=1
            )

            def sum_out(activation: FloatArray) -> FloatArray:
                log_weights = np.matmul(settings, activation)
                log_weights += coupling[:, None]
                largest = log_weights.max(axis=1, keepdims=True)
                log_weights -= largest
                np.exp(log_weights, out=log_weights)
                return np.asarray(np.log(np.add.reduce(log_weights, axis=1)) + largest[:, 0])
        else:
            tile = _TILE
            spread = 0.5 * (weights**2 / variances).sum(axis=1)[:, None]
            of_binary = p.binary[missing]

            def sum_out(activation: FloatArray) -> FloatArray:
                logit, moved = self._mean_field(activation, missing)
                on = expit(logit)
                entropy = np.logaddexp(0.0, logit) - logit * on
                of_hidden = np.add.reduce(activation * on + entropy + spread * on * (1.0 - on), axis=1)
                of_gaussian = moved[:, ~of_binary]
                pull = (bias[:, None] + 0.5 * of_gaussian) / variances[:, None]
                bound = of_hidden + np.add.reduce(of_gaussian * pull, axis=1)
                # softplus is convex: at the expected input it is at most its expectation.
                inputs = p.visible_bias[binary, None] + moved[:, of_binary]
                return np.asarray(bound + np.add.reduce(np.logaddexp(0.0, inputs), axis=1))

        def kernel(columns: FloatArray) -> FloatArray:
            activation = np.matmul(gain, columns) + p.hidden_bias[:, None]
            columns -= centre
            columns *= columns
            columns *= precision
            return np.asarray(sum_out(activation) - np.add.reduce(columns, axis=1))[:, None]

        widest = self.n_hidden if self._settings is None else len(self._settings)
        return _map(kernel, x, tile, widest) + offset

    def _mean_field(self, activation: FloatArray, missing: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Alternate between missing features and hidden units, each at its expectation given the other.

        Args:
            activation: Of the hidden units by the observed features, shape (B, H, T).
            missing: The M features, shape (D,).

        Returns:
            The units' log odds, shape (B, H, T), and what they add to the biases of the missing features,
            shape (B, M, T).
        """
        weights = np.ascontiguousarray(self._parameters.weights[:, missing].T)
        gain = np.ascontiguousarray(self._gain[:, missing])
        logit = activation + (gain @ self._expected(np.zeros((len(weights), 1)), missing))
        for _ in range(_MEAN_FIELD_ITERATIONS):
            moved = np.matmul(weights, expit(logit))
            logit = activation + np.matmul(gain, self._expected(moved, missing))
        return logit, np.matmul(weights, expit(logit))

    def _expected(self, moved: FloatArray, missing: BoolArray) -> FloatArray:
        """Return what the missing features are expected to be, given what moves their biases, (..., M, T)."""
        p = self._parameters
        expected = p.visible_bias[missing, None] + moved
        of_binary = p.binary[missing]
        if of_binary.any():
            expected[..., of_binary, :] = expit(expected[..., of_binary, :])
        return expected

    def _imputed(self, x: FloatArray) -> FloatArray:
        """Return records with their missing features at the mean-field expectation, shape (N, D)."""
        filled = x.copy()
        for missing, rows in by_pattern(np.isnan(x)):

            def kernel(columns: FloatArray, missing: BoolArray = missing) -> FloatArray:
                activation = np.matmul(self._gain, columns) + self._parameters.hidden_bias[:, None]
                return self._expected(self._mean_field(activation, missing)[1], missing)

            if missing.any():
                zeroed = np.where(missing, 0.0, x[rows])
                n_missing = int(missing.sum())
                expected = map_tiles(kernel, zeroed, n_missing, _TILE, self.n_hidden)
                filled[np.ix_(rows, np.flatnonzero(missing))] = expected
        return filled

    def _activation(self, x: FloatArray) -> FloatArray:
        """Return the hidden units' log odds given complete records, shape (N, H)."""

        def kernel(columns: FloatArray) -> FloatArray:
            return np.asarray(np.matmul(self._gain, columns) + self._parameters.hidden_bias[:, None])

        return map_tiles(kernel, x, self.n_hidden, _TILE, self.n_hidden)

    def _along(
        self, j: int, activation: FloatArray, values: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return nats, expectation and standard deviation of feature j, each shape (N,), given its others.

        Args:
            j: The feature.
            activation: Log odds of the hidden units without it, shape (N, H).
            values: Shape (N,), NaN is missing.
        """
        p = self._parameters
        centre, variance, gain = float(self._centre[j]), float(p.variances[j]), self._gain[:, j]
        grid = _grid(centre, p.weights[:, j], float(np.sqrt(variance)))
        if p.binary[j]:
            grid = np.array([0.0, 1.0])
        # softplus(a + t) - softplus(max(a, 0)) in a form that keeps t where a is enormous.
        floor, on = -np.maximum(activation, 0.0)[:, None], np.minimum(activation, 0.0)[:, None]

        def log_density(v: FloatArray) -> FloatArray:
            of_hidden = np.logaddexp(floor, on + v[..., None] * gain).sum(axis=2)
            return np.asarray(of_hidden - 0.5 * (v - centre) ** 2 / variance)

        on_grid = log_density(grid[None])
        log_total = log_sum_exp(on_grid)
        weight = np.exp(on_grid - log_total[:, None])
        expected = (weight * grid).sum(axis=1)
        spread = (weight * (grid - expected[:, None]) ** 2).sum(axis=1)
        with np.errstate(over="ignore"):
            of_values = log_density(np.nan_to_num(values)[:, None])[:, 0]
        nats = np.where(np.isnan(values), np.nan, log_total + np.log(grid[1] - grid[0]) - of_values)
        if p.binary[j]:
            nats[(values != 0.0) & (values != 1.0) & ~np.isnan(values)] = np.inf
            return nats, (expected > 0.5).astype(np.float64), np.full_like(spread, np.nan)
        return nats, expected, np.sqrt(spread)


def _grid(bias: float, weights: FloatArray, std: float) -> FloatArray:
    """Return points over all that a Gaussian feature can be, whatever hidden units are on."""
    low = bias + np.minimum(weights, 0.0).sum() - _GRID_MARGIN_STD * std
    high = bias + np.maximum(weights, 0.0).sum() + _GRID_MARGIN_STD * std
    n_points = 1 + int(np.ceil((high - low) / (_GRID_STEP_STD * std)))
    return np.linspace(low, high, min(n_points, _MOST_GRID_POINTS))


def _map(kernel: Kernel, x: FloatArray, tile: int, floats_per_record: int) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        result = map_tiles(kernel, x, 1, tile, floats_per_record)[:, 0]
    # Only inf - inf is NaN here: a record so far away that its squares overflow.
    result[np.isnan(result)] = -np.inf
    return result
