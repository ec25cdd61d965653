"""What a family is fitted on: residuals in runs, and what is known of them besides."""

from dataclasses import dataclass
from typing import Self

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.discrete_columns import DiscreteColumns
from detector.models.sequences import runs_of
from detector.training.training_rows import TrainingRows


@dataclass(frozen=True, slots=True)
class Fitting:
    """N residuals in R runs, entity after entity."""

    x: FloatArray
    """Shape (N, D); of discrete features the values themselves."""
    entity: IntArray
    """Shape (N,), rising."""
    run: IntArray
    """Shape (N,), rising."""
    gap_s: FloatArray
    """Seconds since the record before, shape (N,); NaN where a run begins."""
    interval_s: float
    discrete: DiscreteColumns | None
    regime: IntArray | None
    """Shape (N,), -1 where it is unknown."""
    anomalous: BoolArray | None
    """Shape (N,), labelled so, or expected from such records; None where none is."""

    @classmethod
    def of(
        cls,
        rows: TrainingRows,
        residual: FloatArray,
        warmup_records: int,
        interval_s: float,
        discrete: DiscreteColumns | None,
    ) -> Self:
        """Take the rows that a predictor expected from as many records as it leans on."""
        taken = rows.position >= warmup_records
        return cls(
            residual[taken],
            rows.entity[taken],
            rows.of_run[taken],
            rows.gap_s[taken],
            interval_s,
            discrete,
            None if rows.regime is None else rows.regime[taken],
            rows.anomalous_or_after(warmup_records)[taken] if rows.anomalous.any() else None,
        )

    @property
    def lengths(self) -> IntArray:
        """Return how many residuals each run has, shape (R,)."""
        return runs_of(self.run)

    def part(self, rows: slice | BoolArray) -> "Fitting":
        """Return some whole runs, or beginnings of runs."""
        return Fitting(
            self.x[rows],
            self.entity[rows],
            self.run[rows],
            self.gap_s[rows],
            self.interval_s,
            self.discrete,
            None if self.regime is None else self.regime[rows],
            None if self.anomalous is None else self.anomalous[rows],
        )
