"""p-values of any record: per entity, and per pattern of missing features.

Each entity's surprise is brought to a common scale by two robust moments, shrunk towards the fleet's
where an entity has few rows; one tail over all of them then serves every entity at once. A row that lacks
features is compared with calibration rows that had the same features hidden.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays
from detector.scoring.tail import Tail

# Rows at which an entity's own moments and the fleet's weigh the same.
_SHRINKAGE_ROWS = 200
# Patterns kept; each is a few kilobytes and can be made again from the bundle.
_CACHED_PATTERNS = 1024

SurpriseOfPattern = Callable[[BoolArray, BoolArray], tuple[FloatArray, IntArray]]


@dataclass(frozen=True, slots=True)
class Moments:
    """Where an entity's surprise lies: M models, the last one pooled."""

    location: FloatArray
    """Shape (M,), the median, nats."""
    scale: FloatArray
    """Shape (M,), from the median to the 95th percentile, nats, positive."""

    @classmethod
    def fit(cls, surprise: FloatArray, model: IntArray, n_models: int) -> Self:
        """Measure every entity, shrunk towards all rows together.

        Args:
            surprise: Nats, shape (M,); infinite values count as the largest finite one.
            model: Entity of each row, shape (M,), in [0, n_models).
            n_models: Entities plus one.
        """
        finite = surprise[np.isfinite(surprise)]
        if finite.size == 0:
            return cls(np.zeros(n_models), np.ones(n_models))
        bounded = np.minimum(surprise, finite.max())
        pooled_location, pooled_scale = _median_and_spread(bounded)
        location = np.full(n_models, pooled_location)
        scale = np.full(n_models, pooled_scale)
        for m in np.unique(model):
            own = bounded[model == m]
            weight = own.size / (own.size + _SHRINKAGE_ROWS)
            own_location, own_scale = _median_and_spread(own)
            location[m] = weight * own_location + (1 - weight) * pooled_location
            scale[m] = weight * own_scale + (1 - weight) * pooled_scale
        location[-1], scale[-1] = pooled_location, pooled_scale
        return cls(location, scale)

    def normalise(self, surprise: FloatArray, model: IntArray) -> FloatArray:
        """Return surprise on the scale that all entities share, shape (N,)."""
        return (surprise - self.location[model]) / self.scale[model]


def _median_and_spread(surprise: FloatArray) -> tuple[float, float]:
    median, high = np.quantile(surprise, [0.5, 0.95])
    return float(median), max(float(high - median), 1e-6)


@dataclass(slots=True)
class Calibration:
    """Turns surprise in nats into p-values."""

    moments: Moments
    complete: Tail
    """Of rows with every feature, present and past."""
    surprise_of_pattern: SurpriseOfPattern
    """Surprise and model of the stored calibration rows when features (now, in the past) are hidden."""
    _patterns: OrderedDict[bytes, Tail] = field(default_factory=OrderedDict)

    def p_value(
        self, surprise: FloatArray, model: IntArray, missing: BoolArray, past_missing: BoolArray
    ) -> FloatArray:
        """Return the p-value of every row.

        Args:
            surprise: Minus the family's log-likelihood of the standardised row, nats, shape (N,).
            model: Entity of each row, shape (N,), the pooled model for entities not in training.
            missing: Shape (N, D), features the row lacks.
            past_missing: Shape (N, P), past values the prediction lacked.

        Returns:
            Shape (N,), in (0, 1]; NaN where surprise is NaN.
        """
        common = self.moments.normalise(surprise, model)
        p_value = self.complete.p_value(common)
        # Nearly always nothing is missing, and looking at every row costs more than looking at all at once.
        if missing.any() or past_missing.any():
            incomplete = np.flatnonzero(missing.any(axis=1) | past_missing.any(axis=1))
            both = np.hstack([missing[incomplete], past_missing[incomplete]])
            patterns, which = np.unique(np.packbits(both, axis=1), axis=0, return_inverse=True)
            for i, packed in enumerate(patterns):
                rows = incomplete[which.ravel() == i]
                tail = self._tail(packed.tobytes(), missing[rows[0]], past_missing[rows[0]])
                p_value[rows] = tail.p_value(common[rows])
        return p_value

    def _tail(self, key: bytes, missing: BoolArray, past_missing: BoolArray) -> Tail:
        tail = self._patterns.get(key)
        if tail is None:
            surprise, model = self.surprise_of_pattern(missing, past_missing)
            tail = self._patterns[key] = Tail.fit(self.moments.normalise(surprise, model))
            if len(self._patterns) > _CACHED_PATTERNS:
                self._patterns.popitem(last=False)
        else:
            self._patterns.move_to_end(key)
        return tail

    def arrays(self) -> Arrays:
        """Return everything but the stored rows, ready for safetensors."""
        tail = self.complete
        return {
            "location": self.moments.location,
            "scale": self.moments.scale,
            "surprise": tail.surprise,
            "tail": np.array([tail.onset, tail.onset_probability, tail.shape, tail.scale]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, surprise_of_pattern: SurpriseOfPattern) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            ValueError: The arrays do not describe a calibration.
        """
        surprise = arrays["surprise"]
        if (
            surprise.ndim != 1
            or surprise.size == 0
            or np.isnan(surprise).any()
            or (np.diff(surprise) < 0).any()
        ):
            raise ValueError(f"calibration surprise {surprise.shape} must be a rising row of numbers")
        onset, onset_probability, shape, scale = (float(v) for v in arrays["tail"])
        if not (0 <= onset_probability <= 1 and shape >= 0 and scale > 0):
            raise ValueError(f"calibration tail {arrays['tail']} is not a generalised Pareto tail")
        moments = Moments(arrays["location"], arrays["scale"])
        if not (np.isfinite(moments.location).all() and (moments.scale > 0).all()):
            raise ValueError("calibration moments must be finite, with positive scales")
        return cls(moments, Tail(surprise, onset, onset_probability, shape, scale), surprise_of_pattern)
