"""How well generated records pass for held-out ones: distance of moments, precision and coverage.

References:
    Heusel et al. (2017), GANs trained by a two time-scale update rule: the Fréchet distance of Gaussians.
    Naeem et al. (2020), Reliable fidelity and diversity metrics for generative models.
"""

import numpy as np

from detector.batch import FloatArray
from detector.bundles.report import Closeness, GeneratedQuality
from detector.models.discrete_columns import DiscreteColumns
from detector.training.gan_watch import coverage_and_precision

_MOST_ROWS = 2_000
_FEWEST_ROWS = 50
# One incident among the held-out rows would outweigh all the others' moments.
_FARTHEST = 10.0
# More texts of a feature, the rarer ones, are all the same.
_MOST_TEXTS = 10


def generated_quality(
    held_out: FloatArray, fitted: FloatArray, generated: FloatArray
) -> GeneratedQuality | None:
    """Compare generated rows with held-out ones, and rows that fitted the model likewise.

    Args:
        held_out: In standard deviations, shape (M, D), nothing missing; values beyond 10 count as 10.
        fitted: Shape (M', D).
        generated: Shape (M'', D).

    Returns:
        None with fewer than 50 rows of any kind, or no feature.
    """
    n = min(len(held_out), len(fitted), len(generated), _MOST_ROWS)
    if n < _FEWEST_ROWS or held_out.shape[1] == 0:
        return None
    real, known, drawn = (
        np.clip(_thinned(rows, n), -_FARTHEST, _FARTHEST) for rows in (held_out, fitted, generated)
    )
    return GeneratedQuality(rows=n, generated=_closeness(real, drawn), fitted=_closeness(real, known))


def in_deviations(
    held_out: FloatArray, fitted: FloatArray, generated: FloatArray, discrete: DiscreteColumns | None
) -> list[FloatArray]:
    """Return rows with counts and flags in standard deviations of held-out ones, and texts in columns.

    Of a categorical feature there is a column for each of the ten texts that are held out most: whether it
    is this one.

    Args:
        held_out: Standardised, shape (M, D), nothing missing.
        fitted: Shape (M', D).
        generated: Shape (M'', D).
        discrete: Which columns are not in standard deviations yet.
    """
    kinds_of_rows = [held_out, fitted, generated]
    if discrete is None or len(held_out) == 0:
        return kinds_of_rows
    columns = [[of_kind[:, discrete.continuous]] for of_kind in kinds_of_rows]
    for j in discrete.columns.tolist():
        of_feature = [of_kind[:, j : j + 1] for of_kind in kinds_of_rows]
        if discrete.kinds[j] == "categorical":
            texts, times = np.unique(of_feature[0], return_counts=True)
            usual = texts[np.argsort(-times, kind="stable")][:_MOST_TEXTS]
            of_feature = [(values == usual).astype(np.float64) for values in of_feature]
        body = np.minimum(of_feature[0], np.quantile(of_feature[0], 0.99, axis=0, method="higher"))
        std = body.std(axis=0)
        for of_kind, values in zip(columns, of_feature, strict=True):
            of_kind.append((values - body.mean(axis=0)) / np.where(std > 0, std, 1.0))
    return [np.hstack(of_kind) for of_kind in columns]


def frechet_distance(a: FloatArray, b: FloatArray) -> float:
    """Return the squared Fréchet distance of the Gaussians with the moments of ``a`` and ``b``.

    |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)); both of shape (N, D), in standard deviations squared.
    """
    covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    # (A B)^(1/2) has the trace of (A^(1/2) B A^(1/2))^(1/2), which is symmetric.
    of_product = np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0.0)
    traces = np.trace(covariances[0]) + np.trace(covariances[1]) - 2.0 * np.sqrt(of_product).sum()
    return float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + max(float(traces), 0.0))


def _closeness(real: FloatArray, rows: FloatArray) -> Closeness:
    coverage, precision = coverage_and_precision(real, rows)
    return Closeness(frechet_distance=frechet_distance(real, rows), precision=precision, coverage=coverage)


def _thinned(rows: FloatArray, n: int) -> FloatArray:
    return rows[np.linspace(0, len(rows) - 1, n).astype(np.int64)]
