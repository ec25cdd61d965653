"""The hidden Markov model: an entity moves between K regimes, each of which is one or more correlated bells.

What it remembers of an entity is its belief: the probability of each regime after the records so far. A
record is scored one step ahead, under the Gaussians weighted by where the entity probably is now; then
the belief is updated by Bayes' rule. Beside the belief it keeps how long the entity has been in its most
probable regime, which no score needs, but every alert tells.

References:
    Rabiner (1989), A tutorial on hidden Markov models, section III.A (the forward recursion, scaled).
"""

from typing import ClassVar, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take, take_count, take_distribution
from detector.models.contract import Arrays, Evidence, Explanation, LeftRegime, Regime
from detector.models.dwell import DWELL_SIZE, dwell_of, follow, initial_dwell
from detector.models.emissions import Emissions
from detector.models.log_space import log_sum_exp
from detector.models.rounds import Rounds, one_round, rounds
from detector.models.sequences import starts_of
from detector.models.transitions import Transitions

# Below this a product of probabilities may have lost terms to underflow, and logarithms take over.
_TINY = 1e-200


class Hmm:
    """A Markov chain of K states, each of which emits a Gaussian or a mixture of M, over D features.

    Time passes in steps of the usual interval. A record that comes g seconds after the last one is
    ``max(1, round(g / interval_s))`` steps later: the belief takes that many transitions, as if records
    without any feature lay between, so a long silence leaves it where the chain spends its time in the
    long run. Without an interval, or without a gap, it is one step.

    Args:
        start: Distribution of the state at an entity's first record, shape (K,).
        transition: Row i is the distribution of the state after state i, shape (K, K).
        means: Shape (K * M, D), the Gaussians of the first state first.
        covariances: Shape (K * M, D, D), or variances of shape (K * M, D) for diagonal covariances.
        warmup_records: Records after which a filter that began at ``start`` has forgotten that.
        interval_s: Seconds between two records of an entity that are one transition apart; None where
            every gap counts as one.
        weights: Of the Gaussians within each state, shape (K, M); None for one Gaussian per state.

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
        weights: FloatArray | None = None,
    ) -> None:
        self._start = start
        self._transitions = Transitions(transition, interval_s)
        self._emissions = Emissions(
            means, covariances, np.ones((len(start), 1)) if weights is None else weights
        )
        self._warmup_records = warmup_records

    @property
    def n_features(self) -> int:
        return self._emissions.n_features

    @property
    def n_states(self) -> int:
        return self._emissions.n_states

    @property
    def n_mixtures(self) -> int:
        """M, Gaussians per state."""
        return self._emissions.n_mixtures

    @property
    def state_size(self) -> int:
        return self.n_states + DWELL_SIZE

    @property
    def latent_size(self) -> int:
        return self.n_states

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must be seen before its scores are the long-running ones."""
        return self._warmup_records

    def initial_state(self, n: int) -> FloatArray:
        """Return rows whose belief is NaN, the mark of an entity that the start distribution awaits."""
        return np.hstack([np.full((n, self.n_states), np.nan), initial_dwell(n)])

    def step(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score one record of each entity; see the contract.

        A record under which every density is too small for a float gets ``-inf`` and teaches nothing:
        the belief is then the predicted one. So is that of a record without any feature.
        """
        return self._forward(rows, x, gap_s, one_round(len(x)))[:2]

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        return self._forward(rows, x, gap_s, rounds(lengths))[:2]

    def beliefs(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray) -> FloatArray:
        """Return the probability of each state after each record, shape (N, K); arguments as ``scan``."""
        return self._forward(rows, x, gap_s, rounds(lengths))[2]

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Return the exact conditional of each feature given the record's others and the entity's past."""
        predicted = self._predict(self._belief(rows), self._transitions.extra_steps(gap_s))
        with np.errstate(divide="ignore"):
            return self._emissions.explain(np.log(predicted), x)

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the posterior of each entity's state after its record, shape (N, K)."""
        return self._forward(rows, x, gap_s, one_round(len(x)))[2]

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Regime:
        """Return the most probable state after one record, for how long, and which one was left for it."""
        after, _, belief = self._forward(rows, x, gap_s, one_round(1))
        dwell = dwell_of(after[0, self.n_states :])
        left = None
        if dwell.left is not None:
            was = np.eye(self.n_states)[dwell.left : dwell.left + 1]
            now = self._transitions.after(was, np.array([dwell.steps - 1]))
            left = LeftRegime(dwell.left, dwell.left_for_s, float(now[0, dwell.state]))
        return Regime("state", dwell.state, float(belief[0, dwell.state]), dwell.for_s, left)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw one sequence of n records from its first record on, shape (n, D)."""
        cumulative = np.cumsum(np.vstack([self._transitions.matrix, self._start]), axis=1)
        cumulative[:, -1] = 1.0
        states = np.empty(n, dtype=np.int64)
        state = -1
        for t, uniform in enumerate(rng.random(n)):
            states[t] = state = int(np.searchsorted(cumulative[state], uniform, side="right"))
        return self._emissions.sample(states, rng)

    def arrays(self) -> Arrays:
        arrays = {
            "start": self._start,
            "transition": self._transitions.matrix,
            "means": self._emissions.gaussians.means,
            "covariances": self._emissions.gaussians.covariances,
            "warmup_records": np.array([float(self._warmup_records)]),
        }
        if self._transitions.interval_s is not None:
            arrays["interval_s"] = np.array([self._transitions.interval_s])
        if self.n_mixtures > 1:
            arrays["weights"] = self._emissions.weights
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        start = take_distribution(arrays, "start", (None,))
        n_states = len(start)
        transition = take_distribution(arrays, "transition", (n_states, n_states))
        weights = take_distribution(arrays, "weights", (n_states, None)) if "weights" in arrays else None
        n_gaussians = n_states if weights is None else weights.size
        means = take(arrays, "means", (n_gaussians, None))
        n_features = means.shape[1]
        is_diagonal = "covariances" in arrays and arrays["covariances"].ndim == 2
        shape = (n_gaussians, n_features) if is_diagonal else (n_gaussians, n_features, n_features)
        covariances = take(arrays, "covariances", shape)
        warmup_records = take_count(arrays, "warmup_records")
        # Bundles of before gaps counted have no interval.
        interval_s = float(take(arrays, "interval_s", (1,))[0]) if "interval_s" in arrays else None
        if interval_s is not None and interval_s <= 0:
            raise ValueError(
                f"array 'interval_s' is {interval_s}, expected more than 0; train the bundle again"
            )
        return cls(start, transition, means, covariances, warmup_records, interval_s, weights)

    def _predict(self, belief: FloatArray, extra: IntArray | None) -> FloatArray:
        """Return the belief before the next record, shape (E, K), ``extra`` steps late, shape (E,)."""
        predicted = self._transitions.after(belief, extra)
        new = np.isnan(belief[:, 0])
        if new.any():
            predicted[new] = self._start
        return predicted

    def _forward(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, layout: Rounds
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the rows after, shape (E, state_size), log-likelihoods, (N,), and beliefs, (N, K)."""
        # Densities relative to the largest of their record, so that they cannot all underflow.
        log_density = self._emissions.log_density(x)
        largest = log_density.max(axis=1)
        impossible = np.isneginf(largest)
        log_density[impossible] = 0.0
        largest[impossible] = 0.0
        log_density -= largest[:, None]
        if layout.order is not None:
            log_density = log_density[layout.order]
        density = np.exp(log_density)

        mass = np.ones(len(x))
        log_mass_of: list[tuple[IntArray, FloatArray]] = []
        beliefs = np.empty_like(density)
        extra = by_round = self._transitions.extra_steps(gap_s)
        if by_round is not None and layout.order is not None:
            by_round = by_round[layout.order]
        has_extra = [False] * len(layout.sizes)
        if by_round is not None:
            has_extra = np.logical_or.reduceat(by_round > 0, starts_of(np.array(layout.sizes))).tolist()
        previous = self._belief(rows if layout.entities is None else rows[layout.entities])
        predicted = self._predict(previous, None if by_round is None else by_round[: len(rows)])
        transition, start = self._transitions.matrix, 0
        for n, is_far in zip(layout.sizes, has_extra, strict=True):
            end = start + n
            if start > 0:
                predicted = np.matmul(previous[:n, None, :], transition)[:, 0, :]
                if is_far and by_round is not None:
                    self._transitions.advance(predicted, by_round[start:end])
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
        if layout.order is not None:
            log_mass = _reordered(log_mass, layout.order)
            beliefs = _reordered(beliefs, layout.order)
        log_likelihood = log_mass + largest
        log_likelihood[impossible] = -np.inf
        log_likelihood[np.isnan(x).all(axis=1)] = np.nan
        after = rows.copy()
        after[:, : self.n_states] = beliefs if len(rows) == len(x) else beliefs[layout.last]
        follow(after[:, self.n_states :], beliefs.argmax(axis=1), gap_s, extra, layout.starts, layout.lengths)
        return after, log_likelihood, beliefs

    def _belief(self, rows: FloatArray) -> FloatArray:
        return rows[:, : self.n_states]


def _reordered(by_round: FloatArray, order: IntArray) -> FloatArray:
    result = np.empty_like(by_round)
    result[order] = by_round
    return result


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
