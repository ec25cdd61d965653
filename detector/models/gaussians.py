"""K Gaussians over D features: densities, marginals and conditionals, whichever features are missing.

Covariances are full, diagonal, or tied: one full covariance that all share. Missing features are integrated
out exactly: of independent features they drop out, otherwise the covariance of the observed ones is factored.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 2.3.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.gaussian_kernels import (
    LOG_2PI,
    diagonal_kernel,
    full_kernel,
    incomplete_diagonal_kernel,
    is_near,
    mixture_kernel,
    shared_kernel,
)
from detector.models.log_space import log_sum_exp, normalise
from detector.models.patterns import by_pattern
from detector.models.tiles import Kernel, map_tiles

_TILE = 64
_CACHED_PATTERNS = 256
_CACHED_FLOATS = 4_000_000
# Explanations square differences from here; farther away they would overflow to inf - inf.
_FARTHEST = 1e100
# Of an explanation's largest array: it stays in the processor's cache.
_NUMBERS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class _Factor:
    """What scores m observed features under all K Gaussians."""

    whiten: FloatArray
    """The inverse W of each covariance's Cholesky factor, shape (K, m, m), (1, m, m) when tied; for diagonal
    covariances shape (K, m), 1 / std."""
    kernel: Kernel
    """From records, shape (B, m, T), to log densities, (B, K, T)."""


class Gaussians:
    """K Gaussian densities with full, tied or diagonal covariances.

    Args:
        means: Shape (K, D).
        covariances: Shape (K, D, D); (1, D, D) when all share it; variances of shape (K, D) when diagonal.

    Raises:
        ValueError: A covariance is not symmetric and positive definite.
    """

    def __init__(self, means: FloatArray, covariances: FloatArray) -> None:
        self.means = means
        self.covariances = covariances
        self._cache: OrderedDict[bytes, _Factor] = OrderedDict()
        self._cached_floats = 0
        if not self.is_diagonal and not np.allclose(covariances, covariances.swapaxes(1, 2), rtol=1e-9):
            raise ValueError("a covariance is not symmetric; train the bundle again")
        if self.is_diagonal and not (covariances > 0).all():
            raise ValueError("a variance is not positive; train the bundle again")
        try:
            self._complete = self._factor(np.ones(self.n_features, dtype=np.bool_))
        except np.linalg.LinAlgError as error:
            raise ValueError("a covariance is not positive definite; train the bundle again") from error
        self._incomplete: Kernel | None = None
        if self.is_diagonal and is_near((means - means.mean(axis=0)) * self._complete.whiten):
            self._incomplete = incomplete_diagonal_kernel(1.0 / covariances, means)

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
        result = self._by_pattern(x, None)
        # Only inf - inf is NaN here: a record so far away that its squares overflow.
        result[np.isnan(result)] = -np.inf
        return result

    def log_mixture(self, log_weights: FloatArray, x: FloatArray) -> FloatArray:
        """Return log(sum_k w_k p_k) of the observed features of each record, shape (N,).

        Args:
            log_weights: Shape (K,), nats.
            x: As in ``log_density``.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        result = self._by_pattern(x, log_weights)[:, 0]
        beyond = ~np.isfinite(result)
        if beyond.any():
            result[beyond] = log_sum_exp(self.log_density(x[beyond]) + log_weights)
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
        if len(x) == 0:
            return explanation
        records = np.clip(x, -_FARTHEST, _FARTHEST)
        # Records with the same features are explained together.
        present, group = np.unique(~np.isnan(records), axis=0, return_inverse=True)
        for g, observed in enumerate(present):
            rows = np.flatnonzero(group.ravel() == g)
            patterns = [(observed, np.flatnonzero(observed))] if observed.any() else []
            for j in np.flatnonzero(~observed):
                with_j = observed.copy()
                with_j[j] = True
                patterns.append((with_j, np.array([j])))
            for pattern, features in patterns:
                numbers_each = self.n_components * features.size * int(pattern.sum())
                at_once = max(1, _NUMBERS_AT_ONCE // numbers_each)
                for start in range(0, rows.size, at_once):
                    part = rows[start : start + at_once]
                    self._explain(explanation, log_weights[part], records[part], part, pattern, features)
        return explanation

    def _explain(
        self,
        explanation: Explanation,
        log_weights: FloatArray,
        records: FloatArray,
        rows: IntArray,
        pattern: BoolArray,
        features: IntArray,
    ) -> None:
        """Write what is said of some features of n records into these rows of an explanation.

        Args:
            explanation: Of all records.
            log_weights: Shape (n, K).
            records: Shape (n, D).
            rows: Shape (n,).
            pattern: The observed features and the explained ones, shape (D,).
            features: Shape (J,), all observed or none.
        """
        log_others, means, variances = self._leave_one_out(pattern, features, records)
        shape, k = means.shape[:2], self.n_components
        weights = normalise((log_weights[:, None] + log_others).reshape(-1, k)).reshape(means.shape)
        expected = (weights * means).sum(axis=2)
        spread = variances + (means - expected[:, :, None]) ** 2
        at = np.ix_(rows, features)
        explanation.expected[at] = expected
        explanation.std[at] = np.sqrt((weights * spread).sum(axis=2))
        if np.isnan(records[0, features[0]]):
            return
        error = records[:, features][:, :, None] - means
        log_density = -0.5 * (error**2 / variances + np.log(variances) + LOG_2PI)
        with np.errstate(divide="ignore"):
            log_terms = np.log(weights) + log_density
        explanation.nats[at] = -log_sum_exp(log_terms.reshape(-1, k)).reshape(shape)

    def sample(self, component: IntArray, rng: np.random.Generator) -> FloatArray:
        """Draw one record from each given Gaussian, shape (N, D); ``component`` has shape (N,)."""
        noise = rng.standard_normal((len(component), self.n_features))
        if self.is_diagonal:
            return np.asarray(self.means[component] + np.sqrt(self.covariances)[component] * noise)
        cholesky = np.linalg.cholesky(self.covariances)
        for k in range(self.n_components):
            own = component == k
            noise[own] = self.means[k] + noise[own] @ cholesky[k % len(cholesky)].T
        return noise

    def _leave_one_out(
        self, pattern: BoolArray, features: IntArray, records: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return, for J features of n records, shape (n, J, K): log density of the pattern's other features,
        and the feature's mean given them; and its variance, shape (J, K).

        All three come from the precision P of the pattern's features: the variance is 1 / P_jj, the mean
        x_j - (P (x - mean))_j / P_jj. None of them depends on x_j, so it is set to 0 rather than used: an
        enormous x_j would cancel the digits of the others.
        """
        m, whiten = int(pattern.sum()), self._factor_of(pattern).whiten
        if self.is_diagonal:
            whiten = np.einsum("ki,ij->kij", whiten, np.eye(m))
        log_norm = np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1) - 0.5 * m * LOG_2PI
        precision = whiten.transpose(0, 2, 1) @ whiten
        if len(whiten) < self.n_components:
            precision = np.broadcast_to(precision, (self.n_components, m, m))
        position = np.searchsorted(np.flatnonzero(pattern), features)
        others = np.repeat(np.nan_to_num(records[:, pattern])[:, None], features.size, axis=1)
        others[:, np.arange(features.size), position] = 0.0
        # Axes: record, component, feature that is left out, feature.
        difference = others[:, None] - self.means[:, None, pattern]
        whitened = difference @ whiten.transpose(0, 2, 1)
        gradient = (difference * precision[:, position]).sum(axis=3)
        variances = 1.0 / precision[:, position, position]
        quadratic = (whitened**2).sum(axis=3) - gradient**2 * variances
        log_others = log_norm[:, None] + 0.5 * (LOG_2PI + np.log(variances)) - 0.5 * quadratic
        return (
            np.ascontiguousarray(log_others.transpose(0, 2, 1)),
            np.ascontiguousarray((-gradient * variances).transpose(0, 2, 1)),
            np.ascontiguousarray(variances.T),
        )

    def _by_pattern(self, x: FloatArray, log_weights: FloatArray | None) -> FloatArray:
        """Return log densities, shape (N, K), or, with weights, those of their mixture, shape (N, 1)."""
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        missing = np.isnan(x)
        if not missing.any():
            return self._map(self._complete.kernel, x, log_weights)
        result = np.empty((len(x), self.n_components if log_weights is None else 1))
        if self._incomplete is not None:
            incomplete = missing.any(axis=1)
            result[~incomplete] = self._map(self._complete.kernel, x[~incomplete], log_weights)
            gone = missing[incomplete]
            masked = np.concatenate([np.where(gone, 0.0, x[incomplete]), ~gone], axis=1)
            result[incomplete] = self._map(self._incomplete, masked, log_weights)
            return result
        for observed, rows in by_pattern(~missing):
            if observed.any():
                seen = x[np.ix_(rows, np.flatnonzero(observed))]
                result[rows] = self._map(self._factor_of(observed).kernel, seen, log_weights)
            else:
                result[rows] = 0.0
        return result

    def _map(self, kernel: Kernel, x: FloatArray, log_weights: FloatArray | None) -> FloatArray:
        k = self.n_components
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if log_weights is None:
                return map_tiles(kernel, x, k, _TILE, floats_per_record=k * x.shape[1])
            mixture = mixture_kernel(kernel, log_weights)
            return map_tiles(mixture, x, 1, _TILE, floats_per_record=k * x.shape[1])

    def _factor_of(self, observed: BoolArray) -> _Factor:
        if observed.all():
            return self._complete
        key = np.packbits(observed).tobytes()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        factor = self._cache[key] = self._factor(observed)
        self._cached_floats += factor.whiten.size
        while len(self._cache) > 1 and (
            len(self._cache) > _CACHED_PATTERNS or self._cached_floats > _CACHED_FLOATS
        ):
            _, evicted = self._cache.popitem(last=False)
            self._cached_floats -= evicted.whiten.size
        return factor

    def _factor(self, observed: BoolArray) -> _Factor:
        means = self.means[:, observed]
        if self.is_diagonal:
            variances = self.covariances[:, observed]
            return _Factor(1.0 / np.sqrt(variances), diagonal_kernel(1.0 / variances, means))
        identity = np.eye(int(observed.sum()))
        cholesky = np.linalg.cholesky(self.covariances[:, observed][:, :, observed])
        whiten = np.stack([solve_triangular(factor, identity, lower=True) for factor in cholesky])
        if len(whiten) < len(means):
            return _Factor(whiten, shared_kernel(whiten[0], means))
        return _Factor(whiten, full_kernel(whiten, means))
