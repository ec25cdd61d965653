"""The rows naive Bayes is fitted on: what kind each feature is of, and which rows are of a known regime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.kinds import Kind
from detector.training.discrete_estimates import (
    CategoricalEstimate,
    NegativeBinomialEstimate,
    PoissonEstimate,
    TabulatedEstimate,
)
from detector.training.feature_estimates import (
    FeatureEstimate,
    GaussianEstimate,
    HistogramEstimate,
    KernelEstimate,
    StudentEstimate,
)
from detector.training.fitting_rows import body_std

MOST_ROWS = 20_000
"""Of more, evenly spaced ones are taken."""

DENSITIES: dict[Kind, tuple[str, ...]] = {
    "continuous": ("kernel",),
    "count": ("poisson", "negative_binomial", "tabulated"),
    "categorical": ("categorical",),
    "binary": ("categorical",),
}
"""What a feature's density may be, the plainest first."""

ON_REQUEST = ("gaussian", "histogram", "student")
"""Densities of continuous features that are fitted where they are asked for, and never chosen."""

# Of a categorical feature, as many values tell clusters apart.
_MOST_INDICATORS = 8


@dataclass(frozen=True, slots=True)
class FeatureKinds:
    """What the D columns are."""

    kinds: tuple[Kind, ...]
    n_categories: tuple[int, ...]
    """Values in the vocabulary of each categorical feature; of no meaning for the others."""

    @classmethod
    def of(
        cls, x: FloatArray, kinds: Sequence[Kind] | None, n_categories: Sequence[int] | None
    ) -> "FeatureKinds":
        """Check what the caller says of the columns against what is in them.

        Args:
            x: Shape (N, D); NaN is missing.
            kinds: D kinds; None is all continuous.
            n_categories: D sizes of vocabularies; None where no feature is categorical.

        Raises:
            ValueError: A column holds values that are none of its kind, or the arguments do not fit it.
        """
        d = x.shape[1]
        kinds = ("continuous",) * d if kinds is None else tuple(kinds)
        sizes = (0,) * d if n_categories is None else tuple(n_categories)
        if len(kinds) != d or len(sizes) != d:
            raise ValueError(f"{len(kinds)} kinds and {len(sizes)} vocabularies for {d} features")
        for j, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
            if kind == "categorical" and size < 1:
                raise ValueError(
                    f"feature {j} (counted from 0) is categorical; give the size of its vocabulary"
                )
            if kind != "continuous":
                largest = {"count": np.inf, "binary": 1.0, "categorical": float(size)}[kind]
                _check_discrete(x[:, j], j, kind, largest)
        return cls(kinds, sizes)

    @property
    def is_number(self) -> BoolArray:
        """Shape (D,), features whose values lie near or far from one another."""
        return np.array([kind in ("continuous", "count") for kind in self.kinds])

    def estimate(self, j: int, density: str, values: FloatArray, scale: float) -> FeatureEstimate:
        """Prepare to estimate one density of feature j from values of shape (N,)."""
        match density:
            case "gaussian":
                return GaussianEstimate(values, scale)
            case "student":
                return StudentEstimate(values, scale)
            case "histogram":
                return HistogramEstimate(values, scale)
            case "kernel":
                return KernelEstimate(values, scale)
            case "poisson":
                return PoissonEstimate(values)
            case "negative_binomial":
                return NegativeBinomialEstimate(values)
            case "tabulated":
                return TabulatedEstimate(values)
            case _:
                if self.kinds[j] == "binary":
                    return CategoricalEstimate(values, 2, closed=True)
                return CategoricalEstimate(values, self.n_categories[j])


@dataclass(frozen=True, slots=True)
class Rows:
    """What is fitted on: N rows with at least one value each."""

    x: FloatArray
    """Shape (N, D); NaN is missing."""
    for_clustering: FloatArray
    """Shape (N, F), features on a scale of one, gaps filled, categories as indicators."""
    observed: BoolArray
    """Shape (N, D)."""
    regimes: IntArray
    """Shape (N,), -1 where it is not known."""
    kinds: FeatureKinds
    estimates: tuple[Mapping[str, FeatureEstimate], ...]
    """Of each feature, by density, the plainest first."""

    @classmethod
    def of(
        cls,
        x: FloatArray,
        scale: FloatArray,
        regimes: IntArray,
        kinds: FeatureKinds,
        densities: Sequence[Sequence[str]],
    ) -> Self:
        """Take at most 20,000 of the rows.

        Args:
            x: Shape (N, D), with a value in every row and every column.
            scale: Standard deviation of each feature's body, shape (D,).
            regimes: Shape (N,).
            kinds: Of the D columns.
            densities: Which ones may be estimated, of each feature.
        """
        taken = thinning(len(x))
        x, regimes = x[taken], regimes[taken]
        estimates = tuple(
            {density: kinds.estimate(j, density, x[:, j], float(scale[j])) for density in densities[j]}
            for j in range(x.shape[1])
        )
        return cls(x, _for_clustering(x, scale, kinds), ~np.isnan(x), regimes, kinds, estimates)

    @property
    def n_regimes(self) -> int:
        return int(self.regimes.max()) + 1

    @property
    def plainest(self) -> tuple[str, ...]:
        """The plainest density of each feature."""
        return tuple(next(iter(by_density)) for by_density in self.estimates)


def thinning(n: int) -> slice:
    """Return which of n rows to take."""
    return slice(None, None, max(1, -(-n // MOST_ROWS)))


def _check_discrete(values: FloatArray, j: int, kind: Kind, largest: float) -> None:
    seen = values[~np.isnan(values)]
    wrong = seen[(seen < 0) | (seen > largest) | (seen != np.floor(seen))]
    if wrong.size:
        wanted = "a whole number >= 0" if kind == "count" else f"a whole number from 0 to {largest:.0f}"
        raise ValueError(
            f"feature {j} (counted from 0) is of kind {kind}, so {wanted}, but {wrong.size} of {seen.size} "
            f"values are not (the first is {wrong[0]}); correct the kind, or leave these rows out"
        )


def _for_clustering(x: FloatArray, scale: FloatArray, kinds: FeatureKinds) -> FloatArray:
    columns = []
    for j, kind in enumerate(kinds.kinds):
        values = x[:, j]
        if kind == "continuous":
            columns.append(_filled(values) / scale[j])
        elif kind == "count":
            # Counts spread as the root of what they are.
            root = np.sqrt(_filled(values))
            columns.append(root / body_std(root[:, None])[0])
        else:
            distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
            usual = distinct[np.argsort(-counts, kind="stable")[:_MOST_INDICATORS]]
            columns.extend((values == value).astype(np.float64) for value in usual)
    return np.column_stack(columns)


def _filled(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), np.nanmedian(values), values)
