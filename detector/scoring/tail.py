"""From surprise to p-value: ranks among held-out rows, and a generalised Pareto tail beyond them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from detector.batch import FloatArray
from detector.models.contract import Arrays

# Share of the calibration rows that shape the tail, and how few of them, where there are twice as many.
_TAIL_SHARE = 0.02
_FEWEST_EXCESSES = 20
# Of few rows the upper half has to do, since without a tail nothing could ever be an alert.
_LEAST_EXCESSES = 3
# Beyond this shape a variance no longer exists: an incident in held-out time would make all others ordinary.
_HEAVIEST = 0.5
# Logarithms of the ratios of shape to scale that are searched, of excesses with a mean of one; how many, and
# how often between the two beside the best.
_LOG_RATIOS = (-9.0, 12.0)
_RATIOS, _REFINEMENTS = 48, 4


@dataclass(frozen=True, slots=True)
class Tail:
    """How surprise is distributed over held-out normal rows. Surprise is in nats, large is anomalous."""

    surprise: FloatArray
    """Shape (M,), of the calibration rows, ascending; ``inf`` for rows outside the support."""
    onset: float
    """Where the Pareto tail takes over from the ranks; ``inf`` where there is no tail."""
    onset_probability: float
    """Share of normal rows above ``onset``."""
    shape: float
    """Of the generalised Pareto tail, >= 0."""
    scale: float
    """Of the generalised Pareto tail, nats, > 0."""

    def p_value(self, surprise: FloatArray) -> FloatArray:
        """Return how often normal rows are at least this surprising.

        Args:
            surprise: Nats, shape (N,); NaN stays NaN.

        Returns:
            Shape (N,), in (0, 1], never increasing with surprise.

        References:
            Ranks: Vovk, Gammerman and Shafer (2005), Algorithmic Learning in a Random World, ch. 2.
            Tail: Siffer et al. (KDD 2017), Anomaly detection in streams with extreme value theory.
        """
        m = self.surprise.size
        at_least_as_surprising = m - np.searchsorted(self.surprise, surprise, side="left")
        # The added one counts the row itself: M rows cannot justify a p-value of zero.
        p_value: FloatArray = (at_least_as_surprising + 1) / (m + 1)
        # Few rows are in the tail, and only these are worth an exponential.
        beyond = np.flatnonzero(surprise > self.onset)
        if beyond.size:
            p_value[beyond] = self._beyond_onset(surprise[beyond] - self.onset)
        # NaN sorts after every number, so without this it would look anomalous.
        p_value[np.isnan(surprise)] = np.nan
        return p_value

    def _beyond_onset(self, excess: FloatArray) -> FloatArray:
        if self.shape > 0:
            log_survival = -np.log1p(self.shape * excess / self.scale) / self.shape
        else:
            log_survival = -excess / self.scale
        # Surprise without bound still is a p-value above zero: the smallest that a float holds.
        return np.maximum(self.onset_probability * np.exp(log_survival), np.finfo(np.float64).tiny)

    @classmethod
    def fit(cls, surprise: FloatArray) -> Self:
        """Learn the distribution from calibration rows held out in time.

        Args:
            surprise: Nats, shape (M,), any order, no NaN.

        Raises:
            ValueError: There are no calibration rows.
        """
        if surprise.size == 0:
            raise ValueError("no calibration rows; train with more held-out records")
        ordered = np.sort(surprise)
        finite = ordered[np.isfinite(ordered)]
        excesses = max(_FEWEST_EXCESSES, int(np.ceil(_TAIL_SHARE * finite.size)))
        excesses = min(excesses, finite.size // 2)
        if excesses < _LEAST_EXCESSES:
            return cls(ordered, np.inf, 0.0, 0.0, 1.0)
        onset = float(finite[-excesses - 1])
        excess = finite[-excesses:] - onset
        if 2 * np.unique(excess).size < excess.size:
            # Surprise of discrete features has few values, and a density says too little of a value's own
            # probability: ranks go on to the largest value then.
            onset = float(finite[-1])
        above = ordered.size - int(np.searchsorted(ordered, onset, side="right"))
        least_shape = 1.0 / excesses if excesses < _FEWEST_EXCESSES else 0.0
        shape, scale = _fit_pareto(excess[excess > 0], least_shape)
        return cls(ordered, onset, (above + 1) / (ordered.size + 1), shape, scale)

    def arrays(self) -> Arrays:
        """Return everything, ready for safetensors."""
        tail = np.array([self.onset, self.onset_probability, self.shape, self.scale])
        return {"surprise": self.surprise, "tail": tail}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: The arrays do not describe a tail.
        """
        surprise = arrays["surprise"]
        if (
            surprise.ndim != 1
            or surprise.size == 0
            or np.isnan(surprise).any()
            or (surprise[1:] < surprise[:-1]).any()
        ):
            raise ValueError(f"calibration surprise {surprise.shape} must be a rising row of numbers")
        onset, onset_probability, shape, scale = (float(v) for v in arrays["tail"])
        if not (0 <= onset_probability <= 1 and shape >= 0 and scale > 0):
            raise ValueError(f"calibration tail {arrays['tail']} is not a generalised Pareto tail")
        return cls(surprise, onset, onset_probability, shape, scale)


def _fit_pareto(excess: FloatArray, least_shape: float) -> tuple[float, float]:
    """Return the likeliest shape >= 0 and scale: a bounded tail would call the next record impossible.

    For a given ratio of shape to scale the likeliest shape is a mean, so the ratio alone is searched for.

    Args:
        excess: Shape (K,), positive.
        least_shape: That of the next value of an exponential tail whose scale K values tell is 1/K, and its
            scale their mean: so few rows do not promise what many could.

    References:
        Grimshaw (1993), Computing maximum likelihood estimates for the generalized Pareto distribution.
    """
    if excess.size < 2 or excess.min() == excess.max():
        return least_shape, float(excess.mean()) if excess.size else 1.0
    mean = float(excess.mean())
    relative = excess / mean
    # Without a shape, as of an exponential, the log-likelihood per value is -1 at a mean of one.
    best, likeliest = 0.0, -1.0
    low, high = _LOG_RATIOS
    for _ in range(_REFINEMENTS):
        ratios = np.linspace(low, high, _RATIOS)
        shape = np.log1p(np.exp(ratios)[:, None] * relative).mean(axis=1)
        log_likelihood = ratios - np.log(shape) - shape - 1.0
        at = int(log_likelihood.argmax())
        if log_likelihood[at] > likeliest:
            best, likeliest = float(np.exp(ratios[at])), float(log_likelihood[at])
        step = (high - low) / (_RATIOS - 1)
        low, high = ratios[at] - step, ratios[at] + step
    shape_found = float(np.log1p(best * relative).mean())
    if shape_found <= least_shape:
        return least_shape, mean
    if shape_found > _HEAVIEST:
        return _HEAVIEST, mean * (1.0 - _HEAVIEST)
    return shape_found, shape_found / best * mean
