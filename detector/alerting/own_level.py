"""What an entity has been like of late, feature by feature, and how far a record stands out of that.

Location and spread of every feature are followed. What a record deviates by in all features together,
averaged over three records, is in turn compared with how large that usually is: so it does not matter how
many features there are, nor how they hang together, and an entity that has become restless is judged as a
restless one. A large deviation counts by its size, not its square: several features that are a little off say
more than one that is far off.

References:
    Huber (1964), Robust estimation of a location parameter.
    Charbonnier, Blanc-Feraud, Aubert and Barlaud (1994), Two deterministic half-quadratic regularization
    algorithms for computed imaging: the smooth form of the loss.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import FloatArray

QUICK = 50.0
"""Records, as ``teaching_weight`` counts them, from which an entity is known that is only just followed."""
HALF_LIFE = 500.0
"""Of what is known of a feature, in such records, later on."""
HALF_LIFE_OF_USUAL = 2000.0
"""Of how large deviations usually are."""
_RECORDS_AVERAGED = 3
# What is farther out teaches no more than what is so far out: spreads of a feature, and of the average.
_FARTHEST_TAUGHT, _LOUDEST_TAUGHT = 5.0, 6.0
_FARTHEST_COUNTED = 100.0
"""Spreads of a feature, in the average."""
_LARGEST = 1e9
_SUSPICIOUS_TEACHES = 0.3
_LEAST_SPREAD = 0.16
"""Of the average, if there is one feature and its deviations are Gaussian; of C features, by their root."""


@dataclass(frozen=True, slots=True)
class OwnLevel:
    """What the records of one entity have been like, in usual deviations from what a model expected."""

    location: FloatArray
    """Of each of C features, shape (C,); not a number of those never seen."""
    spread: FloatArray
    """The same; never below 1, that of the traffic which trained the model."""
    average: float
    """Of the loss of features, over the last records."""
    usual: float
    """What that average is of late, and ..."""
    usual_spread: float
    """... by how much it varies."""
    records: float
    """After the first, from which all this is known."""

    @classmethod
    def of_first(cls, values: FloatArray) -> Self:
        """Return what is known after one record, values (C,), C >= 1; NaN is missing."""
        return cls(_bounded(values), np.ones(len(values)), 0.0, 0.0, _least_spread(len(values)), 0.0)

    def deviation(self, values: FloatArray) -> FloatArray:
        """Return by how many spreads each feature is off, shape (C,)."""
        return np.asarray((_bounded(values) - self.location) / self.spread)

    def surprise(self, values: FloatArray) -> FloatArray:
        """Return how much each feature stands out, nats beyond what is usual at least, shape (C,)."""
        return np.asarray(_loss(self.deviation(values)))

    def followed_by(
        self, values: FloatArray, weight: float, *, settled: bool, suspicious_from: float = np.inf
    ) -> tuple[float, Self]:
        """Return by how many of its spreads the average stands out, and what is known after the record.

        Args:
            values: Shape (C,), in usual deviations; NaN is missing.
            weight: How much the record teaches, in [0, 1].
            settled: Whether what is known is kept for long; if not, it is of the last records alone.
            suspicious_from: What stands out so far says nothing of the features, and a little of how large
                deviations usually are: who does not learn from them at all is startled for ever.
        """
        deviation = self.deviation(values)
        present = ~np.isnan(deviation)
        average = self.average
        if present.any():
            far = np.clip(deviation[present], -_FARTHEST_COUNTED, _FARTHEST_COUNTED)
            average += (float(_loss(far).mean()) - average) / _RECORDS_AVERAGED
        standing = (average - self.usual) / self.usual_spread

        records = self.records + weight
        known = records if settled else min(records, QUICK)
        rate, rate_of_usual = (
            weight * max(1.0 / known, 1.0 - 0.5 ** (1.0 / half_life)) if weight > 0.0 else 0.0
            for half_life in (HALF_LIFE, HALF_LIFE_OF_USUAL)
        )
        if standing >= suspicious_from:
            rate, rate_of_usual = 0.0, _SUSPICIOUS_TEACHES * rate_of_usual
        taught = np.clip(np.where(present, deviation, 0.0), -_FARTHEST_TAUGHT, _FARTHEST_TAUGHT)
        moved = self.location + rate * self.spread * taught
        grown = 1.0 + np.where(present, rate * (taught**2 - 1.0), 0.0)
        loud = min(max(standing, -_LOUDEST_TAUGHT), _LOUDEST_TAUGHT)
        spread = self.usual_spread * float(np.sqrt(1.0 + rate_of_usual * (loud**2 - 1.0)))
        return standing, type(self)(
            np.where(np.isnan(self.location), _bounded(values), moved),
            np.maximum(self.spread * np.sqrt(grown), 1.0),
            average,
            self.usual + rate_of_usual * self.usual_spread * loud,
            max(spread, _least_spread(len(values))),
            known,
        )


def _loss(deviation: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(1.0 + deviation**2) - 1.0)


def _bounded(values: FloatArray) -> FloatArray:
    return np.clip(values, -_LARGEST, _LARGEST)


def _least_spread(features: int) -> float:
    return _LEAST_SPREAD / float(np.sqrt(features))
