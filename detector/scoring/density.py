"""Scaling, predictor and family together: the likelihood of a record given its entity's past."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Explanation, Family, Prediction, Predictor
from detector.models.discrete_columns import DiscreteColumns
from detector.models.entity_families import EntityFamilies
from detector.models.families import family_from_arrays
from detector.models.level import LevelAndRangePredictor
from detector.models.predictors import predict, predictor_from_arrays
from detector.models.regression import RegressionPredictor
from detector.models.scaling import Scaling, of_rows
from detector.scoring.named_arrays import joined

# Usual intervals from which on a gap is long, and the most that a past before it may be wrong by, as a
# standard deviation: that of the difference of two records that have nothing to do with each other.
_LONG_GAP, _UNRELATED = 4.0, 2.0**0.5
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class Conditionals:
    """What N records of E entities look like to the model, given everything before each."""

    predictor_rows: FloatArray
    """State after, shape (E, predictor.state_size)."""
    family_rows: FloatArray
    """State after, shape (E, family.state_size)."""
    surprise: FloatArray
    """Minus the family's log-likelihood of the standardised residual, nats, shape (N,).

    With the predictor ``level_and_range`` that of the value itself is added, as a Gaussian's."""
    log_likelihood: FloatArray
    """In the units of the data, nats, shape (N,)."""
    expected: FloatArray
    """What the predictor expected, standardised, shape (N, D)."""
    residual: FloatArray
    """What the family saw, shape (N, D); NaN is missing."""
    past_missing: BoolArray
    """Shape (N, P)."""
    spread: FloatArray | None
    """As in ``Prediction``."""


@dataclass(frozen=True, slots=True)
class Density:
    """Scaling, predictor and family together: log p(record | the entity's past) in the units of the data."""

    scaling: Scaling
    predictor: Predictor
    """Of the continuous features alone."""
    residual_scale: FloatArray
    """Shape (M, D), standard deviation of what the predictor leaves, standardised units."""
    family: Family
    """Of every entity; where entities have families of their own, of the others."""
    entity_families: EntityFamilies | None = None
    """Its pooled one is ``family``; None where no entity has a family of its own."""

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must have been seen before one can be scored."""
        families = self.entity_families or self.family
        return self.predictor.warmup_records + families.warmup_records

    @property
    def n_continuous(self) -> int:
        """Features that a predictor knows."""
        columns = self.scaling.continuous
        return self.family.n_features if columns is None else len(columns)

    def deviation(self, seen: Conditionals, rows: IntArray | slice = slice(None)) -> FloatArray:
        """Return how far records lie from what was expected of them, shape (N, n_continuous).

        In usual deviations; NaN is missing. Of all rows, or of some.
        """
        return self._continuous(seen.residual[rows])

    @property
    def counts_range(self) -> bool:
        """Whether it counts how far values lie from those of training, besides what the family says."""
        return isinstance(self.predictor, LevelAndRangePredictor)

    def _continuous(self, x: FloatArray) -> FloatArray:
        columns = self.scaling.continuous
        return x if columns is None else x[:, columns]

    def family_of(self, model: int) -> Family:
        """Return the family that scores the entities of a model."""
        return self.family if self.entity_families is None else self.entity_families.of(model)

    def scan_family(
        self, rows: FloatArray, residual: FloatArray, gap_s: FloatArray, lengths: IntArray, model: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Score runs of residuals as ``Family.scan``, each by its entity's family.

        Args:
            rows: State before, shape (E, family.state_size).
            residual: As in ``Conditionals``, shape (N, D).
            gap_s: Shape (N,).
            lengths: Shape (E,).
            model: Shape (E,).
        """
        if self.entity_families is None:
            return self.family.scan(rows, residual, gap_s, lengths)
        return self.entity_families.scan(rows, residual, gap_s, lengths, model)

    def latent(
        self, rows: FloatArray, residual: FloatArray, gap_s: FloatArray, model: IntArray
    ) -> FloatArray:
        """Return what each entity's family believes to be behind its record, shape (N, L).

        Args:
            rows: State before the records, shape (N, family.state_size).
            residual: As in ``Conditionals``, shape (N, D).
            gap_s: Shape (N,).
            model: Shape (N,).
        """
        if self.entity_families is None:
            return self.family.latent(rows, residual, gap_s)
        return self.entity_families.latent(rows, residual, gap_s, model)

    def predict(
        self, rows: FloatArray, z: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        """Return what the predictor says of all D features; arguments as ``Predictor.scan``."""
        return predict(self.predictor, self.scaling.continuous, rows, z, time, lengths, model)

    def conditionals(
        self,
        predictor_rows: FloatArray,
        family_rows: FloatArray,
        z: FloatArray,
        time: FloatArray,
        gap_s: FloatArray,
        lengths: IntArray,
        model: IntArray,
        intervals: FloatArray | None = None,
    ) -> Conditionals:
        """Score N standardised records of E entities, entity after entity, each in time order.

        Args:
            predictor_rows: State before, shape (E, predictor.state_size).
            family_rows: State before, shape (E, family.state_size).
            z: Standardised records, shape (N, D); NaN is missing.
            time: Seconds since 1970 UTC, shape (N,).
            gap_s: Seconds since the entity's previous record, shape (N,).
            lengths: Records of each entity, shape (E,).
            model: Each entity's model, shape (E,).
            intervals: The same gaps in usual intervals of the entity, shape (N,); None: all are usual.
        """
        prediction = self.predict(predictor_rows, z, time, lengths, model)
        prediction = self._after_long_gaps(prediction, np.repeat(model, lengths), intervals)
        return self.given(prediction, family_rows, z, gap_s, lengths, model)

    def given(
        self,
        prediction: Prediction,
        family_rows: FloatArray,
        z: FloatArray,
        gap_s: FloatArray,
        lengths: IntArray,
        model: IntArray,
    ) -> Conditionals:
        """Score records of which a predictor has said this; the other arguments as of ``conditionals``."""
        of_row = np.repeat(model, lengths)
        residual = z - prediction.expected
        residual /= of_rows(self.residual_scale, of_row)
        if prediction.spread is not None:
            residual /= prediction.spread
        family_rows, log_likelihood = self.scan_family(family_rows, residual, gap_s, lengths, model)
        # A density of scaled values: each observed feature contributes its Jacobian.
        log_scale = np.log(self.scaling.scale * self.residual_scale)
        jacobian = log_scale.sum(axis=1)[of_row]
        missing = np.isnan(z)
        if missing.any():
            rows = np.flatnonzero(missing.any(axis=1))
            jacobian[rows] = np.where(missing[rows], 0.0, log_scale[of_row[rows]]).sum(axis=1)
        if prediction.spread is not None:
            jacobian += np.where(missing, 0.0, np.log(prediction.spread)).sum(axis=1)
        surprise = -log_likelihood
        if self.counts_range:
            surprise += 0.5 * np.nansum(np.square(self._continuous(z)), axis=1)
        return Conditionals(
            prediction.rows,
            family_rows,
            surprise,
            log_likelihood - jacobian,
            prediction.expected,
            residual,
            prediction.past_missing,
            prediction.spread,
        )

    def _after_long_gaps(
        self, prediction: Prediction, of_row: IntArray, intervals: FloatArray | None
    ) -> Prediction:
        """Expect less exactly what follows from a past before a long gap: as a random walk strays with time.

        A predictor says where the next record lies, and how far from there it usually is; of a later one that
        would be far too near. Not of ``regression``, which leans on the usual value at this hour as well.
        """
        by_hour = isinstance(self.predictor, RegressionPredictor)
        if intervals is None or by_hour or prediction.past_missing.shape[1] == 0:
            return prediction
        late = np.flatnonzero(intervals > _LONG_GAP)
        if late.size == 0:
            return prediction
        spread = np.ones(prediction.expected.shape) if prediction.spread is None else prediction.spread.copy()
        columns = self.scaling.continuous
        at = np.ix_(late, np.arange(spread.shape[1]) if columns is None else columns)
        strays = np.sqrt(intervals[late])[:, None]
        most = _UNRELATED / (self.residual_scale[of_row[late]][:, at[1][0]] * spread[at])
        spread[at] *= np.minimum(strays, np.maximum(most, 1.0))
        return replace(prediction, spread=spread)

    def arrays(self) -> dict[str, Arrays]:
        """Return the arrays of each part, ready for safetensors."""
        families = self.entity_families
        return {
            "scaling": self.scaling.arrays(),
            "predictor": self.predictor.arrays(),
            "residual": {"scale": self.residual_scale},
            "family": self.family.arrays(),
            "entity_family": {} if families is None else families.arrays(),
        }

    def is_same_as(self, other: "Density") -> bool:
        """Return whether the other says the same of every record, to the bit."""
        if self.family.name != other.family.name or self.predictor.name != other.predictor.name:
            return False
        if not _same_columns(self.scaling.discrete, other.scaling.discrete):
            return False
        own, others = joined(self.arrays()), joined(other.arrays())
        return own.keys() == others.keys() and all(np.array_equal(own[name], others[name]) for name in own)

    @classmethod
    def from_arrays(
        cls,
        parts: dict[str, Arrays],
        residual_scale: FloatArray,
        family: str,
        predictor: str,
        n_features: int,
        discrete: DiscreteColumns | None,
    ) -> Self:
        """Rebuild from the arrays of ``scaling``, ``predictor``, ``family`` and ``entity_family``.

        Raises:
            KeyError: An array is absent.
            ValueError: An array does not fit the others.
        """
        n_continuous = n_features if discrete is None else len(discrete.continuous)
        pooled = family_from_arrays(family, parts["family"])
        own = parts["entity_family"]
        return cls(
            Scaling.from_arrays(parts["scaling"], discrete),
            predictor_from_arrays(predictor, parts["predictor"], n_continuous),
            residual_scale,
            pooled,
            EntityFamilies.from_arrays(own, pooled) if own else None,
        )

    def explain(
        self,
        family_rows: FloatArray,
        residual: FloatArray,
        expected: FloatArray,
        gap_s: FloatArray,
        model: IntArray,
        of_level: FloatArray | None = None,
    ) -> Explanation:
        """Explain one record of each of N entities, in the units of the data.

        Args:
            family_rows: State before the records, shape (N, family.state_size).
            residual: As in ``Conditionals``, shape (N, D).
            expected: As in ``Conditionals``, shape (N, D).
            gap_s: Shape (N,).
            model: Shape (N,).
            of_level: ``spread`` as in ``Conditionals``, shape (N, D) or None.
        """
        unit = self.unit_of(model, of_level)
        if self.counts_range:
            residual, expected, unit = _missed_farther(residual, expected, unit)
        if self.entity_families is None:
            inner = self.family.explain(family_rows, residual, gap_s)
        else:
            inner = self.entity_families.explain(family_rows, residual, gap_s, model)
        return self.in_units(inner, expected, model, unit)

    def unit_of(self, model: IntArray, of_level: FloatArray | None) -> FloatArray:
        """Return one usual deviation, standardised, shape (N, D); arguments as of ``explain``."""
        return np.asarray(self.residual_scale[model] * (1.0 if of_level is None else of_level))

    def in_units(
        self, inner: Explanation, expected: FloatArray, model: IntArray, unit: FloatArray
    ) -> Explanation:
        """Return what is said of residuals in the units of the data.

        Args:
            inner: Of residuals.
            expected: As in ``Conditionals``, shape (N, D).
            model: Shape (N,).
            unit: Of residuals, standardised, shape (N, D).
        """
        scale = self.scaling.scale[model]
        spread = unit * scale
        centre = self.scaling.location[model] + expected * scale
        # What is beyond the largest number, of values near it, is told as that.
        with np.errstate(over="ignore"):
            told, std = centre + inner.expected * spread, inner.std * spread
        return Explanation(
            # In the units of the data, so that nats add up to the published log-likelihood's scale.
            inner.nats + np.log(spread),
            np.clip(told, -_LARGEST, _LARGEST),
            np.minimum(std, _LARGEST),
        )


def _missed_farther(
    residual: FloatArray, expected: FloatArray, unit: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return residual, what was expected and the unit of residuals: of the range where a value misses that
    by more than its level, shape (N, D) each."""
    value = expected + residual * unit
    by_range = np.abs(value) > np.abs(residual)
    return (
        np.where(by_range, value, residual),
        np.where(by_range, 0.0, expected),
        np.where(by_range, 1.0, unit),
    )


def _same_columns(one: DiscreteColumns | None, other: DiscreteColumns | None) -> bool:
    if one is None or other is None:
        return one is other
    texts = [[v and v.texts for v in discrete.vocabularies] for discrete in (one, other)]
    return one.kinds == other.kinds and texts[0] == texts[1]
