"""p-values of any record: per entity, and per pattern of missing features.

Each entity's surprise is brought to a common scale by two robust moments, shrunk towards the fleet's
where an entity has few rows; one tail over all of them then serves every entity at once. A row that lacks
features is compared with calibration rows that had the same features hidden.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays
from detector.scoring.moments import Moments, bounded, median_and_spread
from detector.scoring.sketch import Sketch
from detector.scoring.tail import Tail
from detector.scoring.time_scale import MOST_SPREADS
from detector.scoring.typicality import LowerSide, PValues, two_sided

# Patterns kept; each is a few kilobytes and can be made again from the bundle.
_CACHED_PATTERNS = 1024
# Where values are lost one by one nearly every record has a pattern of its own. Of a pattern's place, two
# numbers, far more are kept, and fewer stored rows tell it.
_CACHED_PLACES = 32_768
_ROWS_FOR_TAIL, _ROWS_FOR_PLACE = 1000, 250
# In a bundle, before the names of their arrays.
_LOWER = "lower_"
_SKETCH = "sketch_"

T = TypeVar("T")


class SurpriseOfPattern(Protocol):
    """Scores stored calibration rows with features hidden."""

    def __call__(
        self, missing: BoolArray, past_missing: BoolArray, *, most: int
    ) -> tuple[FloatArray, IntArray]:
        """Return surprise and model of so many stored rows at most, without features (now, in the past)."""
        ...


class _Tails(NamedTuple):
    """Of rows that lack the same features, or none."""

    upper: Tail
    lower: Tail | None

    def p_value(self, common: FloatArray, depth: FloatArray | None) -> PValues:
        upper = self.upper.p_value(common)
        if self.lower is None or depth is None:
            return PValues(upper, np.zeros(upper.shape, dtype=bool))
        return two_sided(upper, depth, self.lower)


@dataclass(slots=True)
class Calibration:
    """Turns surprise in nats into p-values."""

    moments: Moments
    complete: Tail
    """Of rows with every feature, present and past."""
    surprise_of_pattern: SurpriseOfPattern
    """Surprise of the stored calibration rows when features are hidden."""
    lower: LowerSide | None = None
    """The guard against rows that are too likely; None where p-values are one-sided."""
    sketch: Sketch | None = None
    """How averages of surprise are counted on while they are scored; None where held-out rows suffice."""
    _patterns: OrderedDict[bytes, _Tails] = field(default_factory=OrderedDict, init=False)
    _places: OrderedDict[bytes, tuple[float, float]] = field(default_factory=OrderedDict, init=False)

    def p_value(
        self, surprise: FloatArray, model: IntArray, missing: BoolArray, past_missing: BoolArray
    ) -> PValues:
        """Return the p-value of every row, and which side it comes from.

        Args:
            surprise: Minus the family's log-likelihood of the standardised row, nats, shape (N,).
            model: Entity of each row, shape (N,), the pooled model for entities not in training.
            missing: Shape (N, D), features the row lacks.
            past_missing: Shape (N, P), past values the prediction lacked.
        """
        common = self.moments.normalise(surprise, model)
        depth = None if self.lower is None else self.lower.depth(surprise, model)
        found = _Tails(self.complete, None if self.lower is None else self.lower.complete).p_value(
            common, depth
        )
        for key, rows in _patterns(missing, past_missing):
            tails = self._tails(key, missing[rows[0]], past_missing[rows[0]])
            of_pattern = tails.p_value(common[rows], None if depth is None else depth[rows])
            found.p_value[rows], found.too_likely[rows] = of_pattern
        return found

    def as_if_complete(
        self, surprise: FloatArray, model: IntArray, missing: BoolArray, past_missing: BoolArray
    ) -> FloatArray:
        """Return surprise, as large for rows that lack features as for complete rows equally improbable.

        That is so in location and spread, as the stored rows have them with and without the features; the
        shape of the distribution is taken to be the same. No value is beyond ``MOST_SPREADS``, each of a nat
        at least, nor NaN.

        Args:
            surprise: Nats, shape (N,).
            model: As in ``p_value``, as are the others.
        """
        # Where hardly a record differs from the others the spread is next to nothing, which a nat is not.
        highest = self.moments.location[model] + MOST_SPREADS * np.maximum(self.moments.scale[model], 1.0)
        result = np.fmin(surprise, highest)
        patterns = _patterns(missing, past_missing)
        if patterns:
            nothing = np.zeros_like(missing[0]), np.zeros_like(past_missing[0])
            location, scale = self._place(_key(*nothing), *nothing)
        for key, rows in patterns:
            from_location, from_scale = self._place(key, missing[rows[0]], past_missing[rows[0]])
            moved = location + (surprise[rows] - from_location) / from_scale * scale
            result[rows] = np.fmin(moved, highest[rows])
        return result

    def _place(self, key: bytes, missing: BoolArray, past_missing: BoolArray) -> tuple[float, float]:
        """Return location and scale of stored rows' surprise without the features."""
        place = self._places.get(key)
        if place is None:
            surprise, _ = self.surprise_of_pattern(missing, past_missing, most=_ROWS_FOR_PLACE)
            place = median_and_spread(bounded(surprise))
            _keep(self._places, key, place, _CACHED_PLACES)
        return place

    def _tails(self, key: bytes, missing: BoolArray, past_missing: BoolArray) -> _Tails:
        tails = self._patterns.get(key)
        if tails is None:
            surprise, model = self.surprise_of_pattern(missing, past_missing, most=_ROWS_FOR_TAIL)
            upper = Tail.fit(self.moments.normalise(surprise, model))
            lower = None if self.lower is None else Tail.fit(self.lower.depth_of_calibration(surprise, model))
            tails = _Tails(upper, lower)
            _keep(self._patterns, key, tails, _CACHED_PATTERNS)
        return tails

    def arrays(self) -> Arrays:
        """Return everything but the stored rows, ready for safetensors."""
        arrays = {**self.moments.arrays(), **self.complete.arrays()}
        if self.lower is not None:
            arrays |= {_LOWER + name: array for name, array in self.lower.arrays().items()}
        if self.sketch is not None:
            arrays |= {_SKETCH + name: array for name, array in self.sketch.arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays, surprise_of_pattern: SurpriseOfPattern) -> Self:
        """Rebuild from ``arrays()``; without arrays of a lower side there is none.

        Raises:
            KeyError: An array is absent.
            ValueError: The arrays do not describe a calibration.
        """
        of_lower, of_sketch = (
            {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
            for part in (_LOWER, _SKETCH)
        )
        return cls(
            Moments.from_arrays(arrays),
            Tail.from_arrays(arrays),
            surprise_of_pattern,
            LowerSide.from_arrays(of_lower) if of_lower else None,
            Sketch.from_arrays(of_sketch) if of_sketch else None,
        )


def _patterns(missing: BoolArray, past_missing: BoolArray) -> list[tuple[bytes, IntArray]]:
    """Return a key and the rows, ascending, of every pattern of missing features that occurs."""
    # Nearly always nothing is missing, and looking at every row costs more than looking at all at once.
    if not (missing.any() or past_missing.any()):
        return []
    incomplete = np.flatnonzero(missing.any(axis=1) | past_missing.any(axis=1))
    both = np.hstack([missing[incomplete], past_missing[incomplete]])
    patterns, which = np.unique(np.packbits(both, axis=1), axis=0, return_inverse=True)
    return [(packed.tobytes(), incomplete[which.ravel() == i]) for i, packed in enumerate(patterns)]


def _key(missing: BoolArray, past_missing: BoolArray) -> bytes:
    """Return the key of one pattern, as ``_patterns`` has it."""
    return np.packbits(np.concatenate([missing, past_missing])).tobytes()


def _keep(known: OrderedDict[bytes, T], key: bytes, value: T, most: int) -> None:
    known[key] = value
    if len(known) > most:
        known.popitem(last=False)
