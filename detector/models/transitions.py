"""How a belief over states moves with time: one transition for every usual interval that passed."""

import numpy as np

from detector.batch import FloatArray, IntArray

# Powers of the transition matrix end where two of them agree to this, or at this one.
_SAME_PROBABILITY = 1e-14
_MOST_DOUBLINGS = 20


class Transitions:
    """The transition matrix of a Markov chain of K states, and its powers.

    Args:
        matrix: Row i is the distribution of the state one step after state i, shape (K, K).
        interval_s: Seconds of one step; None where every gap between records counts as one.
    """

    def __init__(self, matrix: FloatArray, interval_s: float | None = None) -> None:
        self.matrix = np.ascontiguousarray(matrix)
        self.interval_s = interval_s
        self._powers = _powers(self.matrix)

    def extra_steps(self, gap_s: FloatArray) -> IntArray | None:
        """Return the steps beyond one before each record, shape (N,); None where there are none.

        Args:
            gap_s: Seconds since each entity's previous record, shape (N,); NaN for its first.
        """
        if self.interval_s is None:
            return None
        # Nearly always nobody was silent; a half is rounded to the even number, so 1.5 is a second step.
        if np.fmax.reduce(gap_s, initial=0.0) < 1.5 * self.interval_s:
            return None
        return np.minimum(steps_of(gap_s, self.interval_s) - 1, 1 << len(self._powers) - 1)

    def after(self, belief: FloatArray, extra: IntArray | None) -> FloatArray:
        """Return beliefs, shape (E, K), one step later and ``extra`` more, shape (E,)."""
        # One product of the same shape per entity, so that the number of entities changes no bit.
        later = np.asarray(np.matmul(belief[:, None, :], self.matrix)[:, 0, :])
        if extra is not None:
            self.advance(later, extra)
        return later

    def advance(self, belief: FloatArray, extra: IntArray) -> None:
        """Move beliefs, shape (E, K), by ``extra`` steps, shape (E,), in place."""
        needed = int(np.bitwise_or.reduce(extra))
        for bit in range(needed.bit_length()):
            if needed >> bit & 1:
                far = np.flatnonzero(extra >> bit & 1)
                belief[far] = np.matmul(belief[far][:, None, :], self._powers[bit])[:, 0, :]


def steps_of(gap_s: FloatArray, interval_s: float) -> IntArray:
    """Return how many steps lie before each record: at least one, and a million at most.

    Args:
        gap_s: Seconds since each entity's previous record, shape (N,); NaN for its first.
        interval_s: Seconds of one step.

    Returns:
        Shape (N,).
    """
    steps = np.fmin(np.rint(gap_s / interval_s), 2.0**_MOST_DOUBLINGS)
    return np.fmax(steps, 1.0).astype(np.int64)


def _powers(matrix: FloatArray) -> list[FloatArray]:
    """Return the transition over 1, 2, 4, 8, ... steps, up to where more steps change nothing.

    A chain that goes round in circles never gets there; it is followed for a million steps.
    """
    powers = [matrix]
    while len(powers) <= _MOST_DOUBLINGS:
        longer = powers[-1] @ powers[-1]
        # Rounding errors double with the steps, and would wear probability off.
        longer /= longer.sum(axis=1, keepdims=True)
        if np.abs(longer - powers[-1]).max() < _SAME_PROBABILITY:
            break
        powers.append(longer)
    return powers
