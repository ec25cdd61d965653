"""K Gaussians over D features: densities, marginals and conditionals, whichever features are missing.

Every density goes through the inverse W of the covariance's Cholesky factor: with y = W (x - mean),
log N(x) = -|y|^2 / 2 + log det W - D/2 log(2 pi). The W of all K Gaussians are stacked, so one matrix
product whitens a record under all of them. Missing features are integrated out exactly, by factoring the
covariance of the observed ones.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 2.3.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.log_space import log_sum_exp, normalise
from detector.models.patterns import by_pattern
from detector.models.tiles import map_tiles

_LOG_2PI = float(np.log(2.0 * np.pi))
_TILE = 64
_CACHED_PATTERNS = 256
_CACHED_FLOATS = 4_000_000
# Explanations square differences from here; farther away they would overflow to inf - inf.
_FARTHEST = 1e100


@dataclass(frozen=True, slots=True)
class _Whitening:
    """What whitens m observed features under all K Gaussians."""

    matrix: FloatArray
    """Shape (m * K, m), row i * K + k is row i of W_k; for diagonal covariances shape (m, K), 1 / std."""
    offset: FloatArray
    """Shape (m * K,), the whitened means in the same order."""
    log_norm: FloatArray
    """Shape (K,), the log density at each mean."""


class Gaussians:
    """K Gaussian densities with full or diagonal covariances.

    Args:
        means: Shape (K, D).
        covariances: Shape (K, D, D), or variances of shape (K, D) when diagonal.

    Raises:
        ValueError: A covariance is not symmetric and positive definite.
    """

    def __init__(self, means: FloatArray, covariances: FloatArray) -> None:
        self.means = means
        self.covariances = covariances
        self._cache: OrderedDict[bytes, _Whitening] = OrderedDict()
        self._cached_floats = 0
        if not self.is_diagonal and not np.allclose(covariances, covariances.swapaxes(1, 2), rtol=1e-9):
            raise ValueError("a covariance is not symmetric; train the bundle again")
        if self.is_diagonal and not (covariances > 0).all():
            raise ValueError("a variance is not positive; train the bundle again")
        try:
            self._complete = self._factor(np.ones(self.n_features, dtype=np.bool_))
        except np.linalg.LinAlgError as error:
            raise ValueError("a covariance is not positive definite; train the bundle again") from error

    @property
    def n_components(self) -> int:
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.means.shape[1])

    @property
    def is_diagonal(self) -> bool:
        return self.covariances.ndim == 2

    def log_density(self, x: FloatArray) -> FloatArray:
        """Return log p_k of the observed features of each record, shape (N, K).

        The same bits for the same record, whatever else is in ``x``.

        Args:
            x: Shape (N, D); NaN is missing and integrated out, so a record without any feature gives 0.

        Returns:
            Shape (N, K), nats; ``-inf`` where a density is smaller than any float's logarithm can say.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        missing = np.isnan(x)
        if not missing.any():
            return self._observed_log_density(self._complete, x)
        result = np.empty((len(x), self.n_components))
        for observed, rows in by_pattern(~missing):
            if observed.any():
                whitening = self._whitening(observed)
                result[rows] = self._observed_log_density(
                    whitening, x[np.ix_(rows, np.flatnonzero(observed))]
                )
            else:
                result[rows] = 0.0
        return result

    def explain(self, log_weights: FloatArray, x: FloatArray) -> Explanation:
        """Explain records under the mixture of the Gaussians, exactly.

        Each feature is compared with its distribution given the record's other features: again a
        mixture, whose weights are updated by the other features' density.

        Args:
            log_weights: Weights of each record before it is seen, shape (N, K), nats.
            x: Shape (N, D); NaN is missing.
        """
        shape = (len(x), self.n_features)
        explanation = Explanation(nats=np.full(shape, np.nan), expected=np.empty(shape), std=np.empty(shape))
        for n, record in enumerate(np.clip(x, -_FARTHEST, _FARTHEST)):
            observed = ~np.isnan(record)
            patterns = [(observed, np.flatnonzero(observed))] if observed.any() else []
            for j in np.flatnonzero(~observed):
                with_j = observed.copy()
                with_j[j] = True
                patterns.append((with_j, np.array([j])))
            for pattern, features in patterns:
                log_others, means, variances = self._leave_one_out(pattern, features, record)
                weights = normalise(log_weights[n] + log_others)
                expected = (weights * means).sum(axis=1)
                spread = variances + (means - expected[:, None]) ** 2
                explanation.expected[n, features] = expected
                explanation.std[n, features] = np.sqrt((weights * spread).sum(axis=1))
                if observed[features[0]]:
                    error = record[features][:, None] - means
                    log_density = -0.5 * (error**2 / variances + np.log(variances) + _LOG_2PI)
                    with np.errstate(divide="ignore"):
                        explanation.nats[n, features] = -log_sum_exp(np.log(weights) + log_density)
        return explanation

    def sample(self, component: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw one record from each given Gaussian, shape (N, D); ``component`` has shape (N,)."""
        noise = rng.standard_normal((len(component), self.n_features))
        if self.is_diagonal:
            return np.asarray(self.means[component] + np.sqrt(self.covariances)[component] * noise)
        cholesky = np.linalg.cholesky(self.covariances)
        return np.asarray(self.means[component] + np.einsum("nij,nj->ni", cholesky[component], noise))

    def _leave_one_out(
        self, pattern: BoolArray, features: IntArray, record: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return, for J features, each shape (J, K): log density of the pattern's other features, and the
        feature's mean and variance given them.

        All three come from the precision P of the pattern's features: the variance is 1 / P_jj, the mean
        x_j - (P (x - mean))_j / P_jj. None of them depends on x_j, so it is set to 0 rather than used: an
        enormous x_j would cancel the digits of the others.
        """
        whitening = self._whitening(pattern)
        k, m = self.n_components, int(pattern.sum())
        if self.is_diagonal:
            whiten = np.einsum("ik,ij->kij", whitening.matrix, np.eye(m))
        else:
            whiten = whitening.matrix.reshape(m, k, m).transpose(1, 0, 2)
        precision = whiten.transpose(0, 2, 1) @ whiten
        position = np.searchsorted(np.flatnonzero(pattern), features)
        others = np.tile(np.nan_to_num(record[pattern]), (len(features), 1))
        others[np.arange(len(features)), position] = 0.0
        difference = others[None] - self.means[:, None, pattern]
        whitened = difference @ whiten.transpose(0, 2, 1)
        gradient = np.einsum("kji,kij->jk", difference, precision[:, :, position])
        variances = 1.0 / precision[:, position, position].T
        quadratic = (whitened**2).sum(axis=2).T - gradient**2 * variances
        log_others = whitening.log_norm + 0.5 * (_LOG_2PI + np.log(variances)) - 0.5 * quadratic
        return log_others, -gradient * variances, variances

    def _observed_log_density(self, whitening: _Whitening, x: FloatArray) -> FloatArray:
        k, m = self.n_components, x.shape[1]

        def kernel(columns: FloatArray) -> FloatArray:
            if self.is_diagonal:
                y = columns[:, :, None, :] * whitening.matrix[:, :, None]
                y = y.reshape(len(columns), m * k, _TILE)
            else:
                y = np.matmul(whitening.matrix, columns)
            y -= whitening.offset[:, None]
            y *= y
            squares = np.add.reduce(y.reshape(len(columns), m, k * _TILE), axis=1)
            return np.asarray(whitening.log_norm[:, None] - 0.5 * squares.reshape(len(columns), k, _TILE))

        with np.errstate(over="ignore", invalid="ignore"):
            result = map_tiles(kernel, x, k, _TILE, floats_per_record=m * k)
        # Only inf - inf is NaN here: a record so far away that its squares overflow.
        result[np.isnan(result)] = -np.inf
        return result

    def _whitening(self, observed: BoolArray) -> _Whitening:
        if observed.all():
            return self._complete
        key = np.packbits(observed).tobytes()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        whitening = self._cache[key] = self._factor(observed)
        self._cached_floats += whitening.matrix.size
        while len(self._cache) > 1 and (
            len(self._cache) > _CACHED_PATTERNS or self._cached_floats > _CACHED_FLOATS
        ):
            _, evicted = self._cache.popitem(last=False)
            self._cached_floats -= evicted.matrix.size
        return whitening

    def _factor(self, observed: BoolArray) -> _Whitening:
        k, m = self.n_components, int(observed.sum())
        means = self.means[:, observed]
        if self.is_diagonal:
            whiten = 1.0 / np.sqrt(self.covariances[:, observed])
            log_det = np.log(whiten).sum(axis=1)
            matrix, offset = whiten.T, (means * whiten).T
        else:
            cholesky = np.linalg.cholesky(self.covariances[:, observed][:, :, observed])
            whitens = np.stack([solve_triangular(factor, np.eye(m), lower=True) for factor in cholesky])
            log_det = np.log(np.diagonal(whitens, axis1=1, axis2=2)).sum(axis=1)
            matrix = whitens.transpose(1, 0, 2).reshape(m * k, m)
            offset = np.einsum("kij,kj->ik", whitens, means)
        return _Whitening(
            matrix=np.ascontiguousarray(matrix),
            offset=np.ascontiguousarray(offset).reshape(m * k),
            log_norm=log_det - 0.5 * m * _LOG_2PI,
        )
