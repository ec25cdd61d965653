"""p-values of any record: per entity, and per pattern of missing features.

Each entity's surprise is brought to a common scale by two robust moments, shrunk towards the fleet's
where an entity has few rows; one tail over all of them then serves every entity at once. A row that lacks
features is compared with calibration rows that had the same features hidden.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

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
# numbers, far more are kept, and fewer stored rows tell it; the more features there are, the dearer is a row.
_CACHED_PLACES = 32_768
_ROWS_FOR_TAIL, _ROWS_FOR_PLACE, _VALUES_FOR_PLACE, _FEWEST_FOR_PLACE = 1000, 250, 6250, 50
_USUAL_SPREADS = 4.0
# In a bundle, before the names of their arrays.
_LOWER = "lower_"
_SKETCH = "sketch_"

T = TypeVar("T")


class SurpriseOfPattern(Protocol):
    """Scores stored calibration rows with features hidden."""

    @property
    def complete(self) -> bool:
        """Whether stored rows have every feature and past value: then those of one pattern are another's."""
        ...

    def __call__(
        self, missing: BoolArray, past_missing: BoolArray, *, most: int
    ) -> Iterable[tuple[FloatArray, IntArray]]:
        """Return surprise and model of so many stored rows at most, for each of K patterns.

        Args:
            missing: Features to hide, shape (K, D).
            past_missing: Past values to hide, shape (K, P).
            most: Rows of each pattern.
        """
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
    _known_tails: "_Known[_Tails]" = field(init=False)
    _known_places: "_Known[tuple[float, float]]" = field(init=False)
    _whole: "_Whole | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._known_tails, self._known_places = _Known(_CACHED_PATTERNS), _Known(_CACHED_PLACES)

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
        patterns = _patterns(missing, past_missing)
        for rows, tails in zip(patterns.rows, self._tails(patterns), strict=True):
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
        if patterns.keys:
            if self._whole is None:
                self._whole = self._as_stored(patterns)
            whole = self._whole
            places = self._known_places.of(
                patterns, self.surprise_of_pattern, whole.rows, lambda surprise, _: whole.place(surprise)
            )
            rows = np.concatenate(patterns.rows)
            location, scale = np.repeat(np.array(places), [len(own) for own in patterns.rows], axis=0).T
            moved = whole.location + (surprise[rows] - location) / scale * whole.scale
            result[rows] = np.fmin(moved, highest[rows])
        return result

    def _as_stored(self, patterns: "_Patterns") -> "_Whole":
        """Return what stored rows are like from which nothing is hidden."""
        missing, past_missing = np.zeros_like(patterns.missing[:1]), np.zeros_like(patterns.past_missing[:1])

        def surprise(most: int) -> FloatArray:
            ((found, _),) = self.surprise_of_pattern(missing, past_missing, most=most)
            return bounded(found)

        rows = max(_FEWEST_FOR_PLACE, _VALUES_FOR_PLACE // max(1, missing.shape[1]))
        if rows >= _ROWS_FOR_PLACE or not self.surprise_of_pattern.complete:
            return _Whole(_ROWS_FOR_PLACE, *median_and_spread(surprise(_ROWS_FOR_PLACE)), None)
        return _Whole(rows, *median_and_spread(surprise(_ROWS_FOR_TAIL)), surprise(rows))

    def _tails(self, patterns: "_Patterns") -> list[_Tails]:
        def tails(surprise: FloatArray, model: IntArray) -> _Tails:
            upper = Tail.fit(self.moments.normalise(surprise, model))
            lower = None if self.lower is None else Tail.fit(self.lower.depth_of_calibration(surprise, model))
            return _Tails(upper, lower)

        return self._known_tails.of(patterns, self.surprise_of_pattern, _ROWS_FOR_TAIL, tails)

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


class _Whole(NamedTuple):
    """Stored rows from which nothing is hidden."""

    rows: int
    """How many at most tell the place of a pattern."""
    location: float
    scale: float
    surprise: FloatArray | None
    """Of the rows that tell the place of a pattern; None where those are others for each pattern."""

    def place(self, surprise: FloatArray) -> tuple[float, float]:
        """Return where surprise lies without some features: its location and scale, as these are.

        Of many features some change the place but not the shape, so that each row can be compared with
        itself, which tells as much as five times as many rows that are not.
        """
        without = bounded(surprise)
        if self.surprise is None or len(self.surprise) != len(without):
            return median_and_spread(without)
        # Incidents among the rows would have the say in a standard deviation.
        usual = self.surprise <= self.location + _USUAL_SPREADS * self.scale
        spread, narrowed = self.surprise[usual].std(), without[usual].std()
        ratio = narrowed / spread if spread > 0 and narrowed > 0 else 1.0
        return self.location - float(np.median(self.surprise - without)), self.scale * float(ratio)


class _Patterns(NamedTuple):
    """The K patterns of missing features that occur in a batch."""

    keys: list[bytes]
    rows: list[IntArray]
    """Of the batch, ascending."""
    missing: BoolArray
    """Shape (K, D)."""
    past_missing: BoolArray
    """Shape (K, P)."""


class _Known(Generic[T]):
    """What was found out of patterns, for those that occurred last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_key: OrderedDict[bytes, T] = OrderedDict()

    def of(
        self,
        patterns: _Patterns,
        surprise_of_pattern: SurpriseOfPattern,
        most: int,
        made: Callable[[FloatArray, IntArray], T],
    ) -> list[T]:
        """Return what is known of each pattern, ``made`` of so many stored rows at most where nothing is."""
        new = [i for i, key in enumerate(patterns.keys) if key not in self._by_key]
        if new:
            found = surprise_of_pattern(patterns.missing[new], patterns.past_missing[new], most=most)
            for i, (surprise, model) in zip(new, found, strict=True):
                self._by_key[patterns.keys[i]] = made(surprise, model)
        for key in patterns.keys:
            self._by_key.move_to_end(key)
        result = [self._by_key[key] for key in patterns.keys]
        while len(self._by_key) > self._most:
            self._by_key.popitem(last=False)
        return result


def _patterns(missing: BoolArray, past_missing: BoolArray) -> _Patterns:
    """Return every pattern of missing features, now or in the past, that occurs."""
    # Nearly always nothing is missing, and looking at every row costs more than looking at all at once.
    if not (missing.any() or past_missing.any()):
        return _Patterns([], [], missing[:0], past_missing[:0])
    incomplete = np.flatnonzero(missing.any(axis=1) | past_missing.any(axis=1))
    both = np.packbits(np.hstack([missing[incomplete], past_missing[incomplete]]), axis=1)
    packed, first, which = np.unique(both, axis=0, return_index=True, return_inverse=True)
    ends = np.cumsum(np.bincount(which.ravel()))[:-1]
    rows = np.split(incomplete[np.argsort(which.ravel(), kind="stable")], ends)
    first = incomplete[first]
    return _Patterns([key.tobytes() for key in packed], rows, missing[first], past_missing[first])
