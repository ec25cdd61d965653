"""The columns that flow through everything: records in, scores out, no object per record."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Source(NamedTuple):
    """Where records came from, in one order: a Kafka partition, or a file as partition 0."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Batch:
    """N decoded records of one input: one poll, or one file. D features.

    Rows of one source are in offset order. Entities and sources may be mixed.
    """

    input: str
    feature_names: tuple[str, ...]
    sources: tuple[Source, ...]
    source: IntArray
    """Shape (N,), index into ``sources``."""
    offset: IntArray
    """Shape (N,), the offset read (a file's row number, from 0)."""
    entity: list[str]
    """Length N."""
    time: FloatArray
    """Shape (N,), event time, seconds since 1970 UTC."""
    values: FloatArray
    """Shape (N, D), columns in ``feature_names`` order; NaN is missing, never infinite. A categorical
    feature holds the number that stands for each text, from ``detector.models.vocabulary.category_code``."""
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    """Label name to N values, carried to alerts; None where the record has none."""
    category_texts: Mapping[float, str] = field(default_factory=dict)
    """The text behind every number of categorical features here, and perhaps behind others."""

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, rows: IntArray | BoolArray) -> "Batch":
        """Return some records: by number, shape (M,), or those that are marked, shape (N,), in order."""
        numbers = np.arange(len(self))[rows].tolist()
        return replace(
            self,
            source=self.source[rows],
            offset=self.offset[rows],
            entity=[self.entity[i] for i in numbers],
            time=self.time[rows],
            values=self.values[rows],
            labels={name: [texts[i] for i in numbers] for name, texts in self.labels.items()},
        )


class Status(IntEnum):
    """Why a record has a score or not. The score is empty exactly when it is not SCORED."""

    SCORED = 0
    WARMING_UP = 1
    """The entity's past is too short, or was lost with a restart or a rebalance."""
    TOO_FEW_FEATURES = 2
    LATE = 3
    """Older than the entity's newest record; it changes no state."""
    DUPLICATE = 4
    """The entity's newest record once more, with the same time and values; it changes no state."""

    @property
    def text(self) -> str:
        """The name used in score records, files and metric labels."""
        return self.name.lower()


class OperatorRule(IntEnum):
    """Which of the operator's rules decided over a record, whatever its score; the later ones come first."""

    NONE = 0
    DEVIATION = 1
    """Suspicious for a deviation that does not matter: no alert."""
    STUCK = 2
    """A value that has stayed the same for so long that it is an alert by itself."""
    OUT_OF_RANGE = 3
    """A value that is an alert by itself."""
    MUTED = 4
    """Suspicious, stuck or out of range, but its entity is muted."""
    MAINTENANCE = 5
    """Inside a window of maintenance: no alert, and nothing is learnt from it."""
    DEPLOY = 6
    """The same, inside a deploy's."""

    @property
    def text(self) -> str:
        """The name used in score records and metric labels."""
        return self.name.lower()


RAISING = [OperatorRule.STUCK, OperatorRule.OUT_OF_RANGE]
"""Rules by which a record is suspicious, whatever its score."""
_SILENCING = [OperatorRule.DEVIATION, OperatorRule.MUTED, OperatorRule.MAINTENANCE, OperatorRule.DEPLOY]


@dataclass(frozen=True, slots=True)
class Scores:
    """What one detector says of a batch: N rows in the batch's order. NaN unless SCORED."""

    detector: str
    role: str
    version: str
    status: NDArray[np.int8]
    """Shape (N,), values of ``Status``."""
    log_likelihood: FloatArray
    """Shape (N,), nats, higher is more normal; -inf outside the model's support."""
    p_value: FloatArray
    """Shape (N,), in (0, 1], small is anomalous."""
    anomaly_score: FloatArray
    """Shape (N,), 1.0 is the threshold, high is anomalous."""
    exceeds_threshold: BoolArray
    """Shape (N,), anomaly_score >= 1."""
    alert: BoolArray
    """Shape (N,), belongs to what fires; not the calm for which an alert that came back stays open."""
    rule: NDArray[np.int8] | None = None
    """Shape (N,), values of ``OperatorRule``; None where none decided over any record."""

    @property
    def judged(self) -> FloatArray:
        """Anomaly scores that alerts go by, shape (N,): a rule may make them 0, or at least 1."""
        if self.rule is None:
            return self.anomaly_score
        raised = np.where(
            np.isin(self.rule, RAISING), np.maximum(self.anomaly_score, 1.0), self.anomaly_score
        )
        silenced = np.isin(self.rule, _SILENCING) & ~np.isnan(self.anomaly_score)
        return np.where(silenced, 0.0, raised)
