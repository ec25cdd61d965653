"""The Gaussians of many models at once: each record under those of its own model.

Records of a poll belong to hundreds of entities; a call per entity would cost far more than its few
records. Here the factors of all models lie in stacked arrays, every record gathers those of its model, and
all work is element by element along the records: no bit of a record depends on its neighbours.
"""

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.patterns import by_pattern
from detector.models.scaling import of_rows

_LOG_2PI = float(np.log(2.0 * np.pi))
# A few hundred records' factors stay in a core's cache.
_RECORDS_AT_ONCE = 256


class StackedGaussians:
    """K Gaussians over D features in each of E models.

    Args:
        means: Shape (E, K, D).
        covariances: Shape (E, K, D, D), symmetric and positive definite; (E, 1, D, D) where the Gaussians of
            a model share one; variances of shape (E, K, D) when diagonal.
    """

    def __init__(self, means: FloatArray, covariances: FloatArray) -> None:
        n_models, k, d = means.shape
        self._means = means
        self._covariances = covariances
        # Of each covariance the inverse of its Cholesky factor, W: y = W (x - mean) is white.
        if self._is_diagonal:
            whiten = 1.0 / np.sqrt(covariances)
            log_det = np.log(whiten).sum(axis=2)
            offset = (whiten * means).swapaxes(1, 2)
            columns = [whiten[:, :, j] for j in range(d)]
        else:
            factors = np.linalg.inv(np.linalg.cholesky(covariances))
            whiten = np.broadcast_to(factors, (n_models, k, d, d))
            log_det = np.log(np.diagonal(whiten, axis1=2, axis2=3)).sum(axis=2)
            offset = np.einsum("ekij,ekj->eik", whiten, means)
            # Feature j adds nothing to the first j values of y, since W is a lower triangle.
            columns = [whiten[:, :, j:, j].swapaxes(1, 2).reshape(n_models, -1) for j in range(d)]
        self._log_norm = log_det - 0.5 * d * _LOG_2PI
        self._offset = np.ascontiguousarray(offset).reshape(n_models, d * k)
        self._columns = [np.ascontiguousarray(column) for column in columns]

    @property
    def _is_diagonal(self) -> bool:
        return self._covariances.ndim == 3

    @property
    def n_components(self) -> int:
        return int(self._means.shape[1])

    @property
    def n_features(self) -> int:
        return int(self._means.shape[2])

    def log_density(self, x: FloatArray, model: IntArray) -> FloatArray:
        """Return log p_k of the observed features of each record under its model, shape (N, K).

        The same bits for the same record and model, whatever else is in the call.

        Args:
            x: Shape (N, D); NaN is missing and integrated out, so a record without any feature gives 0.
            model: Shape (N,), in [0, E).

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        observed = ~np.isnan(x)
        with np.errstate(over="ignore", invalid="ignore"):
            if observed.all():
                result = self._by_parts(x, model, np.ones(self.n_features, dtype=np.bool_))
            else:
                result = np.empty((len(x), self.n_components))
                for pattern, rows in by_pattern(observed):
                    result[rows] = self._by_parts(x[rows], model[rows], pattern)
        # Only inf - inf is NaN here: a record so far away that its squares overflow.
        result[np.isnan(result)] = -np.inf
        return result

    def _by_parts(self, x: FloatArray, model: IntArray, observed: BoolArray) -> FloatArray:
        complete = observed.all()
        result = np.empty((len(x), self.n_components))
        for start in range(0, len(x), _RECORDS_AT_ONCE):
            part = slice(start, start + _RECORDS_AT_ONCE)
            if complete:
                result[part] = self._complete(x[part], model[part])
            else:
                result[part] = self._marginal(x[part][:, observed], model[part], observed)
        return result

    def _complete(self, x: FloatArray, model: IntArray) -> FloatArray:
        k, d = self.n_components, self.n_features
        y = -self._offset[model]
        for j, column in enumerate(self._columns):
            begin = j * k
            y[:, begin : begin + column.shape[1]] += of_rows(column, model) * x[:, j, None]
        y *= y
        squares = y[:, :k].copy()
        for i in range(1, d):
            squares += y[:, i * k : (i + 1) * k]
        return np.asarray(self._log_norm[model] - 0.5 * squares)

    def _marginal(self, x: FloatArray, model: IntArray, observed: BoolArray) -> FloatArray:
        """Factor the observed features' covariance of each record's model: exact, and nothing to keep."""
        m = x.shape[1]
        if m == 0:
            return np.zeros((len(x), self.n_components))
        if self._is_diagonal:
            variances = self._covariances[model][:, :, observed]
            error = x[:, None, :] - self._means[model][:, :, observed]
            return np.asarray(-0.5 * (error**2 / variances + np.log(variances) + _LOG_2PI).sum(axis=2))
        covariances = self._covariances[model][:, :, observed][:, :, :, observed]
        cholesky = np.linalg.cholesky(covariances)
        difference = x[:, None, :] - self._means[model][:, :, observed]
        y = np.linalg.solve(cholesky, difference[..., None])[..., 0]
        # Copied, since a logarithm may have other bits where memory is strided.
        diagonal = np.diagonal(cholesky, axis1=2, axis2=3).copy()
        return np.asarray(-np.log(diagonal).sum(axis=2) - 0.5 * m * _LOG_2PI - 0.5 * (y * y).sum(axis=2))
