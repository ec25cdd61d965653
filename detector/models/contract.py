"""The contract every family and every predictor satisfies: arrays in, nats out."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, FloatArray, IntArray

Evidence = Literal["exact", "lower_bound", "unnormalised", "surrogate"]
TypicalityChoice = Literal["auto", "on", "off"]
"""Whether rows that are too likely are improbable as well; auto: under densities that are not exact."""
Averaged = Literal["surprise", "deviation", "frequency"]
"""Over several records: how improbable they are, or how far from what was expected, and to which side, or how
often discrete values come."""
Arrays = dict[str, NDArray[np.float64]]

_USUAL_NATS = 0.5 * float(np.log(2.0 * np.pi * np.e))
"""Entropy of a Gaussian with standard deviation 1."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why rows are improbable: N rows, D features, in the units of the ``x`` explained."""

    nats: FloatArray
    """Shape (N, D), -log p(x_j | the other features, the past), large is surprising; NaN where x is."""
    expected: FloatArray
    """Shape (N, D), conditional mean of each feature given the others and the past; of a categorical one
    the most probable index."""
    std: FloatArray
    """Shape (N, D), conditional standard deviation; NaN where the values have none, as categories."""

    def excess(self) -> FloatArray:
        """Return how much more surprising every feature is than usual, nats, shape (N, D), in no unit.

        A number is usually as surprising as a Gaussian of the same spread is on average, a category not at
        all. NaN where the value is missing.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            usual = np.where(np.isnan(self.std), 0.0, np.log(self.std) + _USUAL_NATS)
            return np.asarray(self.nats - usual)


@dataclass(frozen=True, slots=True)
class LeftRegime:
    """The regime in which an entity was before its present one."""

    index: int
    for_s: float
    """How long it had been there, seconds."""
    transition_probability: float
    """Of going from there to the present one, in the time that lay between."""


@dataclass(frozen=True, slots=True)
class Regime:
    """The most probable discrete cause of a record."""

    kind: Literal["component", "state", "class"]
    index: int
    """Counted from 0."""
    probability: float
    """Of that cause, given the record and its entity's past."""
    for_s: float | None = None
    """How long it has been the entity's most probable one, seconds, 0 at its first record; None where a
    family remembers nothing."""
    left: LeftRegime | None = None
    """The one before; None where none is remembered."""


def most_probable(kind: Literal["component", "class"], posterior: FloatArray) -> Regime:
    """Return the regime of one record of a family that remembers nothing; ``posterior`` has shape (1, K)."""
    index = int(posterior[0].argmax())
    return Regime(kind, index, float(posterior[0, index]))


class Family(Protocol):
    """A fitted density of the next record of an entity, given that entity's past.

    N rows, D features, nats throughout. Higher log-likelihood means more normal, always.
    What a family remembers of an entity is one row of ``state_size`` floats, handed in
    and handed back; a stateless family's rows have width 0. Every method is pure: the same
    bits for the same row, whatever else is in the call and however many rows it has.
    """

    name: ClassVar[str]
    evidence: ClassVar[Evidence]

    @property
    def n_features(self) -> int: ...

    @property
    def state_size(self) -> int: ...

    @property
    def latent_size(self) -> int:
        """L, how many numbers ``latent`` gives."""
        ...

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must have been seen before its score means what it should."""
        ...

    def initial_state(self, n: int) -> FloatArray:
        """Return state rows of entities never seen, shape (n, state_size)."""
        ...

    def step(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score one record of each of N entities.

        Args:
            rows: State before the records, shape (N, state_size).
            x: Records, shape (N, D); NaN is missing and is marginalised.
            gap_s: Seconds since each entity's previous record, shape (N,); NaN for its first.

        Returns:
            State after the records, shape (N, state_size), and log p(x_n | past), shape (N,):
            ``-inf`` outside the support, NaN only for a row without any feature.
        """
        ...

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Score whole runs of records, entity after entity: the path along time.

        Bit for bit what repeated ``step`` would give.

        Args:
            rows: State before, one row per entity, shape (E, state_size).
            x: Records, shape (N, D): the first entity's in time order, then the second's, ...
            gap_s: Shape (N,).
            lengths: Records of each entity, shape (E,), each >= 1, summing to N.

        Returns:
            State after, shape (E, state_size), and the log-likelihood, shape (N,).
        """
        ...

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Say which features are improbable and what they should have been; ``rows`` as in ``step``."""
        ...

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return what the family believes to be behind each record; arguments as in ``step``.

        For a family with one discrete cause (component, state or class) that is its posterior
        distribution; for one with several or continuous causes, their posterior means. Where a record
        says nothing of its cause, because it is empty or impossible, it is what was believed before it.

        Returns:
            Shape (N, L), finite for every record.
        """
        ...

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Regime | None:
        """Return the most probable discrete cause of one record, None where a family has none.

        Args:
            rows: State before, shape (1, state_size).
            x: Shape (1, D).
            gap_s: Shape (1,).
        """
        ...

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw one sequence of n records, shape (n, D); independent rows for a stateless family."""
        ...

    def arrays(self) -> Arrays:
        """Return everything that scoring needs, ready for safetensors."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Rebuild from ``arrays()``, exactly.

        Raises:
            ValueError: An array is absent, has a wrong shape, or holds a value that is not finite.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says of N records of E entities."""

    rows: FloatArray
    """State after, shape (E, state_size)."""
    expected: FloatArray
    """Shape (N, D), standardised; never NaN."""
    past_missing: BoolArray
    """Shape (N, P), which of the P past values that it leans on the prediction had to do without."""
    spread: FloatArray | None = None
    """Shape (N, D), positive, how far from there in proportion to the usual; None: as far as ever."""


class Predictor(Protocol):
    """Where the next record is expected, from its entity's past alone.

    Works on standardised features, so 0 is the training mean. A missing past value counts as
    0, or as an older one; the shift is then an approximation, calibrated as such per pattern of
    missing features.
    A predictor leans on P past values: none, one per feature, or one per feature and lag.
    """

    name: ClassVar[str]
    each_by_itself: ClassVar[bool]
    """Whether a feature's own past values alone, of those that may be missing, tell what is expected of it.

    These are one per feature and lag then, those of the newest record first, and ``spread`` is without them.
    """

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must have been seen before one can be expected."""
        ...

    @property
    def state_size(self) -> int: ...

    def initial_state(self, n: int) -> FloatArray:
        """Return state rows of entities never seen, shape (n, state_size)."""
        ...

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        """Predict every record of E entities, entity after entity.

        Args:
            rows: State before, one row per entity, shape (E, state_size).
            x: Standardised records as in ``Family.scan``, shape (N, D); NaN is missing.
            time: Event times, seconds since 1970 UTC, shape (N,).
            lengths: Records of each entity, shape (E,).
            model: Which entity's coefficients to use, shape (E,), index into the stacked arrays;
                the last one is the pooled model of entities not seen in training.
        """
        ...

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        """Return ``rows`` as if the past values ``hidden``, shape (P,) or (E, P), had been missing."""
        ...

    def arrays(self) -> Arrays:
        """Return everything that scoring needs, ready for safetensors."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        """Rebuild from ``arrays()``, exactly.

        Raises:
            ValueError: An array is absent, has a wrong shape, or holds a value that is not finite.
        """
        ...
