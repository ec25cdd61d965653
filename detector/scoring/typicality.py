"""The lower side of surprise: rows more likely than normal traffic ever is, and one p-value of both sides.

In many dimensions nearly all rows of a density lie in a thin shell, its typical set, and none at the mode.
The highest density can even be where no traffic is, and often is in deep networks. A row there looks the
most normal of all, unless its surprise is also compared with the smallest that normal rows have.

Nalisnick, Matsukawa, Teh and Lakshminarayanan (2019), Detecting out-of-distribution inputs to deep
generative models using typicality, arXiv:1906.02994.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Evidence, TypicalityChoice
from detector.scoring.moments import Moments, bounded
from detector.scoring.tail import Tail

Choice = TypicalityChoice

# Of every p-value this share is spent on the upper side, the rest on the lower one. What people label as an
# incident is nearly always improbable, so such a row loses a factor of 1.05, where equal shares cost it 2.
_UPPER_SHARE = 0.95
# Nearer than this, in nats, two surprises are the same: an idle host repeats itself up to rounding, and up to
# what a moving mean has still to forget.
_TIE = 1e-4
# A spread below this, in nats, means that values repeat, not that they are known so well.
_NARROWEST = 0.1
# Its own lowest rows, this share of them, are not rare for an entity, whatever they would be for others.
_OWN_SHARE = 0.02


class PValues(NamedTuple):
    """Of N rows."""

    p_value: FloatArray
    """Shape (N,), in (0, 1], small is anomalous; NaN where surprise is."""
    too_likely: BoolArray
    """Shape (N,), whether the p-value comes from the lower side."""


def is_on(choice: Choice, evidence: Evidence) -> bool:
    """Return whether p-values have a lower side; ``auto`` gives one to all but exact densities."""
    return choice == "on" or (choice == "auto" and evidence != "exact")


def two_sided(upper: FloatArray, depth: FloatArray, lower: Tail) -> PValues:
    """Make one p-value of two.

    Where the statistic is continuous its lower p-value is one minus the upper, u. Then either u <= 0.95 t or
    1 - u <= 0.05 t, never both, and together that has probability t for every t: the result is as uniform
    as the two are. Ties make it larger.

    Args:
        upper: How often normal rows are at least this surprising, shape (N,).
        depth: How far below the usual surprise the rows lie, shape (N,).
        lower: How depth is distributed over normal rows.
    """
    p_value = np.minimum(upper / _UPPER_SHARE, 1.0)
    too_likely = np.zeros(p_value.shape, dtype=bool)
    # Of the others the lower p-value exceeds its share, so it cannot be the smaller one.
    deep = np.flatnonzero(depth > lower.surprise[int(_UPPER_SHARE * lower.surprise.size)])
    by_lower = lower.p_value(depth[deep]) / (1 - _UPPER_SHARE)
    smaller = by_lower < p_value[deep]
    p_value[deep[smaller]] = by_lower[smaller]
    too_likely[deep[smaller]] = True
    return PValues(p_value, too_likely)


@dataclass(frozen=True, slots=True)
class LowerSide:
    """How likely normal rows get: M models, the last one pooled. Depth is surprise below the usual.

    Beyond the deepest held-out row the same kind of tail goes on as above the most surprising one. A
    log-density has an upper bound, so the true probability reaches zero at a finite depth, and the tail's
    does not: it errs towards calling a row normal. That bound also limits the evidence: a row of highest
    density lies deeper than the held-out ones by very little with one feature, by many nats with thirty. One
    record of few features is hardly ever improbable for being typical; a long run of them can be, which takes
    a statistic over the run, calibrated in its own right.
    """

    moments: Moments
    """Of minus surprise: where calibration rows lie."""
    reach: FloatArray
    """Shape (M,), minus the surprise from which new rows are measured, nats, above ``moments.location``."""
    complete: Tail
    """Of the depth of rows with every feature, present and past."""

    @classmethod
    def fit(cls, surprise: FloatArray, model: IntArray, n_models: int) -> Self:
        """Measure held-out rows.

        An entity that is constant, or idle at times, has many rows of one small surprise. Where its own
        lowest rows lie deeper than the fleet's, its new rows are measured from so much deeper: what was
        normal for it in training stays so. Calibration rows are not moved, or fresh ones would look deep.

        Args:
            surprise: Nats, shape (R,), no NaN; infinite values count as the largest or smallest finite one.
            model: Entity of each row, shape (R,), in [0, n_models).
            n_models: Entities plus one.

        Raises:
            ValueError: There are no rows.
        """
        likeliness = -bounded(surprise)
        fitted = Moments.fit(likeliness, model, n_models)
        moments = Moments(fitted.location, np.maximum(fitted.scale, _NARROWEST))
        depth = moments.normalise(likeliness, model)
        complete = Tail.fit(depth)

        edge = _edge(depth)
        own_edge = np.full(n_models, edge)
        order = np.argsort(model, kind="stable")
        models, first = np.unique(model[order], return_index=True)
        own_edge[models] = [_edge(own) for own in np.split(depth[order], first[1:])]
        own_edge[-1] = _edge(moments.normalise(likeliness, np.full(model.shape, n_models - 1)))
        reach = moments.location + np.maximum(own_edge - edge, 0.0) * moments.scale + _TIE
        return cls(moments, reach, complete)

    def depth_of_calibration(self, surprise: FloatArray, model: IntArray) -> FloatArray:
        """Return how deep calibration rows lie, on the scale that all entities share, shape (R,)."""
        return self.moments.normalise(-surprise, model)

    def depth(self, surprise: FloatArray, model: IntArray) -> FloatArray:
        """Return how deep new rows lie, on the same scale, shape (N,)."""
        return -(surprise + self.reach[model]) / self.moments.scale[model]

    def arrays(self) -> Arrays:
        """Return everything, ready for safetensors."""
        return {**self.moments.arrays(), "reach": self.reach, **self.complete.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: The arrays do not describe a lower side.
        """
        moments, reach = Moments.from_arrays(arrays), arrays["reach"]
        if reach.shape != moments.location.shape or not (reach >= moments.location).all():
            raise ValueError(f"calibration reach {reach.shape} must be at least each location")
        return cls(moments, reach, Tail.from_arrays(arrays))


def _edge(depth: FloatArray) -> float:
    return float(np.quantile(depth, 1 - _OWN_SHARE, method="lower"))
