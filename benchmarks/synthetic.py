"""Made-up traffic of many entities that is normal throughout: what alarms on it is false, by construction.

Every entity has locations and scales of its own. Three features depend on one another:

independent
    drawn anew, from a mixture of three regimes
autocorrelated
    a vector autoregression of first order with Gaussian innovations; half is forgotten in 1 to 7 records
heavy_tailed
    drawn anew, Student-t with three degrees of freedom
drifting
    autocorrelated, while location and scale of every feature move on, in directions of the entity's own
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.signal import lfilter

from detector.batch import Batch, FloatArray, Source

Kind = Literal["independent", "autocorrelated", "heavy_tailed", "drifting"]
KINDS: tuple[Kind, ...] = get_args(Kind)
N_FEATURES = 3
FEATURES = tuple(f"f{j}" for j in range(N_FEATURES))
DRIFT_LOCATION, DRIFT_SCALE = 0.5, 1.1
"""Over ``DRIFT_S``: location by so many standard deviations, scale by this factor or its inverse."""
DRIFT_S = 60 * 86400.0
_START_S = 1_700_000_000.0
_REGIMES, _PERSISTENCE, _FREEDOM = 3, (0.9, 0.7, 0.5), 3.0
_MIXING = np.array([[1.0, 0.6, 0.2], [0.0, 0.8, 0.4], [0.0, 0.0, 0.9]])


@dataclass(frozen=True, slots=True)
class Traffic:
    """Every record of some entities, evenly spaced in time."""

    time: FloatArray
    """Seconds since 1970 UTC, shape (T,), the same for every entity."""
    values: FloatArray
    """Shape (E, T, D)."""

    def batch(self, first: int, last: int, entities: slice = slice(None)) -> Batch:
        """Return records ``first`` to before ``last`` of entities, entity after entity."""
        values = self.values[entities, first:last]
        e, t = values.shape[:2]
        names = range(len(self.values))[entities]
        return Batch(
            "synthetic",
            FEATURES,
            (Source("synthetic", 0),),
            np.zeros(e * t, dtype=np.int64),
            np.arange(e * t),
            [f"e{i:03d}" for i in names for _ in range(t)],
            np.tile(self.time[first:last], e),
            values.reshape(e * t, N_FEATURES),
        )


def traffic(kind: Kind, entities: int, days: float, interval_s: float, seed: int) -> Traffic:
    """Draw the records of every entity; an entity's are the same however many others there are."""
    t = round(days * 86400.0 / interval_s)
    time: FloatArray = _START_S + interval_s * np.arange(t, dtype=np.float64)
    regimes = np.random.default_rng(seed).normal(scale=2.0, size=(_REGIMES, N_FEATURES))
    values: FloatArray = np.stack(
        [_entity(kind, regimes, time, np.random.default_rng((seed, i))) for i in range(entities)]
    )
    return Traffic(time, values)


def _entity(kind: Kind, regimes: FloatArray, time: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the records of one entity, shape (T, D)."""
    t = len(time)
    location, scale = rng.normal(scale=20.0, size=N_FEATURES), rng.uniform(0.5, 5.0, N_FEATURES)
    if kind == "independent":
        z = regimes[rng.integers(_REGIMES, size=t)] + rng.normal(size=(t, N_FEATURES)) @ _MIXING
    elif kind == "heavy_tailed":
        spread = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, size=(t, 1)))
        z = spread * (rng.normal(size=(t, N_FEATURES)) @ _MIXING)
    else:
        innovations = rng.normal(size=(t, N_FEATURES)) @ _MIXING
        z = np.column_stack(
            [
                np.sqrt(1 - phi**2) * lfilter([1.0], [1.0, -phi], innovations[:, j])
                for j, phi in enumerate(_PERSISTENCE)
            ]
        )
    if kind == "drifting":
        passed = ((time - time[0]) / DRIFT_S)[:, None]
        direction = rng.choice([-1.0, 1.0], size=(2, N_FEATURES))
        z = z * DRIFT_SCALE ** (direction[0] * passed) + DRIFT_LOCATION * direction[1] * passed
    return np.asarray(location + scale * z)
