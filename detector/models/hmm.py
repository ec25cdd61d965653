"""The hidden Markov model: an entity moves between K regimes, each of which is one correlated bell.

What it remembers of an entity is its belief: the probability of each regime after the records so far. A
record is scored one step ahead, under the Gaussians weighted by where the entity probably is now; then
the belief is updated by Bayes' rule.

References:
    Rabiner (1989), A tutorial on hidden Markov models, section III.A (the forward recursion, scaled).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take, take_count, take_distribution
from detector.models.contract import Arrays, Evidence, Explanation
from detector.models.gaussians import Gaussians
from detector.models.log_space import log_sum_exp
from detector.models.sequences import starts_of

# Below this a product of probabilities may have lost terms to underflow, and logarithms take over.
_TINY = 1e-200
# Powers of the transition end where two of them agree to this, or at this one.
_SAME_PROBABILITY = 1e-14
_MOST_DOUBLINGS = 20


class Hmm:
    """A Markov chain of K states with a Gaussian emission in each, over D features.

    Time passes in steps of the usual interval. A record that comes g seconds after the last one is
    ``max(1, round(g / interval_s))`` steps later: the belief takes that many transitions, as if records
    without any feature lay between, so a long silence leaves it where the chain spends its time in the
    long run. Without an interval, or without a gap, it is one step.

    Args:
        start: Distribution of the state at an entity's first record, shape (K,).
        transition: Row i is the distribution of the state after state i, shape (K, K).
        means: Shape (K, D).
        covariances: Shape (K, D, D), or variances of shape (K, D) for diagonal covariances.
        warmup_records: Records after which a filter that began at ``start`` has forgotten that.
        interval_s: Seconds between two records of an entity that are one transition apart; None where
            every gap counts as one.

    Raises:
        ValueError: A covariance is not symmetric and positive definite.
    """

    name: ClassVar[str] = "hmm"
    evidence: ClassVar[Evidence] = "exact"

    def __init__(
        self,
        start: FloatArray,
        transition: FloatArray,
        means: FloatArray,
        covariances: FloatArray,
        warmup_records: int = 0,
        interval_s: float | None = None,
    ) -> None:
        self._start = start
        self._transition = np.ascontiguousarray(transition)
        self._gaussians = Gaussians(means, covariances)
        self._warmup_records = warmup_records
        self._interval_s = interval_s
        self._powers = _powers(self._transition)

    @property
    def n_features(self) -> int:
        return self._gaussians.n_features

    @property
    def n_states(self) -> int:
        return self._gaussians.n_components

    @property
    def state_size(self) -> int:
        return self.n_states

    @property
    def latent_size(self) -> int:
        return self.n_states

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must be seen before its scores are the long-running ones."""
        return self._warmup_records

    def initial_state(self, n: int) -> FloatArray:
        """Return rows of NaN, the mark of an entity whose first record the start distribution awaits."""
        return np.full((n, self.n_states), np.nan)

    def step(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score one record of each entity; see the contract.

        A record under which every density is too small for a float gets ``-inf`` and teaches nothing:
        the belief is then the predicted one. So is that of a record without any feature.
        """
        return self._forward(rows, x, gap_s, _one_round(len(x)))[:2]

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        return self._forward(rows, x, gap_s, _rounds(lengths))[:2]

    def beliefs(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray) -> FloatArray:
        """Return the probability of each state after each record, shape (N, K); arguments as ``scan``."""
        return self._forward(rows, x, gap_s, _rounds(lengths))[2]

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Return the exact conditional of each feature given the record's others and the entity's past."""
        with np.errstate(divide="ignore"):
            return self._gaussians.explain(np.log(self._predict(rows, self._extra_steps(gap_s))), x)

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the posterior of each entity's state after its record, shape (N, K)."""
        return self.step(rows, x, gap_s)[0]

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw one sequence of n records from its first record on, shape (n, D)."""
        cumulative = np.cumsum(np.vstack([self._transition, self._start]), axis=1)
        cumulative[:, -1] = 1.0
        states = np.empty(n, dtype=np.int64)
        state = -1
        for t, uniform in enumerate(rng.random(n)):
            states[t] = state = int(np.searchsorted(cumulative[state], uniform, side="right"))
        return self._gaussians.sample(states, rng)

    def arrays(self) -> Arrays:
        arrays = {
            "start": self._start,
            "transition": self._transition,
            "means": self._gaussians.means,
            "covariances": self._gaussians.covariances,
            "warmup_records": np.array([float(self._warmup_records)]),
        }
        if self._interval_s is not None:
            arrays["interval_s"] = np.array([self._interval_s])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        start = take_distribution(arrays, "start", (None,))
        n_states = len(start)
        transition = take_distribution(arrays, "transition", (n_states, n_states))
        means = take(arrays, "means", (n_states, None))
        n_features = means.shape[1]
        is_diagonal = "covariances" in arrays and arrays["covariances"].ndim == 2
        shape = (n_states, n_features) if is_diagonal else (n_states, n_features, n_features)
        covariances = take(arrays, "covariances", shape)
        warmup_records = take_count(arrays, "warmup_records")
        # Bundles of before gaps counted have no interval.
        interval_s = float(take(arrays, "interval_s", (1,))[0]) if "interval_s" in arrays else None
        if interval_s is not None and interval_s <= 0:
            raise ValueError(
                f"array 'interval_s' is {interval_s}, expected more than 0; train the bundle again"
            )
        return cls(start, transition, means, covariances, warmup_records, interval_s)

    def _extra_steps(self, gap_s: FloatArray) -> IntArray | None:
        """Return the transitions beyond one before each record, shape (N,); None where there are none."""
        if self._interval_s is None:
            return None
        # Nearly always nobody was silent; a half is rounded to the even number, so 1.5 is a second step.
        if np.fmax.reduce(gap_s, initial=0.0) < 1.5 * self._interval_s:
            return None
        return np.minimum(steps_of(gap_s, self._interval_s) - 1, 1 << len(self._powers) - 1)

    def _predict(self, rows: FloatArray, extra: IntArray | None) -> FloatArray:
        """Return the belief before the next record, shape (E, K); ``extra`` steps later, shape (E,)."""
        # One product of the same shape per entity, so that the number of entities changes no bit.
        predicted = np.asarray(np.matmul(rows[:, None, :], self._transition)[:, 0, :])
        if extra is not None:
            self._advance(predicted, extra)
        new = np.isnan(rows[:, 0])
        if new.any():
            predicted[new] = self._start
        return predicted

    def _advance(self, belief: FloatArray, extra: IntArray) -> None:
        """Move beliefs, shape (E, K), ``extra`` transitions on, shape (E,), in place."""
        needed = int(np.bitwise_or.reduce(extra))
        for bit in range(needed.bit_length()):
            if needed >> bit & 1:
                far = np.flatnonzero(extra >> bit & 1)
                belief[far] = np.matmul(belief[far][:, None, :], self._powers[bit])[:, 0, :]

    def _forward(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, rounds: "_Rounds"
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the states after, shape (E, K), log-likelihoods, (N,), and beliefs, (N, K)."""
        # Densities relative to the largest of their record, so that they cannot all underflow.
        log_density = self._gaussians.log_density(x)
        largest = log_density.max(axis=1)
        impossible = np.isneginf(largest)
        log_density[impossible] = 0.0
        largest[impossible] = 0.0
        log_density -= largest[:, None]
        if rounds.order is not None:
            log_density = log_density[rounds.order]
        density = np.exp(log_density)

        mass = np.ones(len(x))
        log_mass_of: list[tuple[IntArray, FloatArray]] = []
        beliefs = np.empty_like(density)
        extra = self._extra_steps(gap_s)
        if extra is not None and rounds.order is not None:
            extra = extra[rounds.order]
        has_extra = [False] * len(rounds.sizes)
        if extra is not None:
            has_extra = np.logical_or.reduceat(extra > 0, starts_of(np.array(rounds.sizes))).tolist()
        entities = rows if rounds.entities is None else rows[rounds.entities]
        predicted = self._predict(entities, None if extra is None else extra[: len(rows)])
        start, previous = 0, rows
        for n, is_far in zip(rounds.sizes, has_extra, strict=True):
            end = start + n
            if start > 0:
                predicted = np.matmul(previous[:n, None, :], self._transition)[:, 0, :]
                if is_far and extra is not None:
                    self._advance(predicted, extra[start:end])
            joint = predicted * density[start:end]
            belief, total = beliefs[start:end], mass[start:end]
            np.add.reduce(joint, axis=1, out=total)
            if total.min() < _TINY:
                lost = np.flatnonzero(total < _TINY)
                joint[lost], log_mass = _joint_by_logarithms(predicted[lost], log_density[start:end][lost])
                total[lost] = 1.0
                log_mass_of.append((start + lost, log_mass))
            np.divide(joint, total[:, None], out=belief)
            start, previous = end, belief

        log_mass = np.log(mass)
        for index, values in log_mass_of:
            log_mass[index] = values
        if rounds.order is not None:
            by_round, log_mass = log_mass, np.empty_like(log_mass)
            log_mass[rounds.order] = by_round
            by_round, beliefs = beliefs, np.empty_like(beliefs)
            beliefs[rounds.order] = by_round
        log_likelihood = log_mass + largest
        log_likelihood[impossible] = -np.inf
        log_likelihood[np.isnan(x).all(axis=1)] = np.nan
        return beliefs[rounds.last], log_likelihood, beliefs


def steps_of(gap_s: FloatArray, interval_s: float) -> IntArray:
    """Return how many transitions lie before each record: at least one, and a million at most.

    Args:
        gap_s: Seconds since each entity's previous record, shape (N,); NaN for its first.
        interval_s: Seconds of one transition.

    Returns:
        Shape (N,).
    """
    steps = np.fmin(np.rint(gap_s / interval_s), 2.0**_MOST_DOUBLINGS)
    return np.fmax(steps, 1.0).astype(np.int64)


def _powers(transition: FloatArray) -> list[FloatArray]:
    """Return the transition over 1, 2, 4, 8, ... steps, up to where more steps change nothing.

    A chain that goes round in circles never gets there; it is followed for a million steps.
    """
    powers = [transition]
    while len(powers) <= _MOST_DOUBLINGS:
        longer = powers[-1] @ powers[-1]
        # Rounding errors double with the steps, and would wear probability off.
        longer /= longer.sum(axis=1, keepdims=True)
        if np.abs(longer - powers[-1]).max() < _SAME_PROBABILITY:
            break
        powers.append(longer)
    return powers


def _joint_by_logarithms(predicted: FloatArray, log_density: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the beliefs after, shape (n, K), and log masses, (n,), where products of floats underflow.

    A record that no reachable state can emit has log mass ``-inf`` and leaves the predicted belief.
    """
    with np.errstate(divide="ignore"):
        log_joint = np.log(predicted) + log_density
    log_mass = log_sum_exp(log_joint)
    unreachable = np.isneginf(log_mass)
    belief = np.exp(log_joint - np.where(unreachable, 0.0, log_mass)[:, None])
    belief[unreachable] = predicted[unreachable]
    return belief, log_mass


@dataclass(frozen=True, slots=True)
class _Rounds:
    """Records reordered into rounds: every entity's first record, every entity's second, ...

    Entities with the most records come first, so those still active are always the leading ones.
    """

    sizes: list[int]
    """Records per round, falling."""
    last: NDArray[np.int64]
    """Shape (E,), index of each entity's last record, in the original order."""
    order: NDArray[np.int64] | None = None
    """Shape (N,), original index of each record in round order; None where the orders are the same."""
    entities: NDArray[np.int64] | None = None
    """Shape (E,), entities by falling number of records; None where the order is the original one."""


def _one_round(n: int) -> _Rounds:
    return _Rounds(sizes=[n] if n else [], last=np.arange(n))


def _rounds(lengths: IntArray) -> _Rounds:
    starts = starts_of(lengths)
    last = starts + lengths - 1
    if len(lengths) <= 1:
        return _Rounds(sizes=[1] * int(lengths.sum()), last=last)
    entities = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(entities)
    rank[entities] = np.arange(len(entities))
    round_of = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    order = np.argsort(round_of * len(lengths) + np.repeat(rank, lengths), kind="stable")
    return _Rounds(sizes=np.bincount(round_of).tolist(), last=last, order=order, entities=entities)
