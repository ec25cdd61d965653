"""The report of a model: what it is worth, measured on the rows of its own training."""

import time
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import kstest

from detector.alerting.budget import smallest_rate
from detector.batch import FloatArray, IntArray
from detector.bundles.report import CalibrationCheck, CalibrationPoint, Curve, FeatureRange, ModelReport
from detector.models.sequences import runs_of
from detector.scoring.density import Density
from detector.training.calibrate import Calibrated
from detector.training.generated_quality import generated_quality
from detector.training.training_rows import TrainingRows

_GENERATED_ROWS = 2_000
P_VALUES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_FEWEST_JUDGED = 50
_TIMED_ROWS = 1_000
_TIMED_ROUNDS = 5


@dataclass(slots=True)
class Curves:
    """Collects what fits watch, curve by curve, each with what it measures and against what."""

    _points: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)

    def record(self, measure: str, against: str, x: float, value: float) -> None:
        """Add a point; one that is not finite is left out."""
        if np.isfinite(value):
            self._points.setdefault((measure, against), []).append((float(x), float(value)))

    def all(self) -> tuple[Curve, ...]:
        """Return the curves, points in the order in which they came."""
        return tuple(
            Curve(measure=measure, against=against, points=tuple(points))
            for (measure, against), points in self._points.items()
        )


def model_report(
    density: Density,
    calibrated: Calibrated,
    fitted: FloatArray,
    to_fit: TrainingRows,
    rows: TrainingRows,
    model: IntArray,
    curves: Curves,
    seed: int,
) -> ModelReport:
    """Measure a trained model.

    Args:
        density: What was trained.
        calibrated: Of its held-out rows.
        fitted: Standardised residuals that the family was fitted to, shape (N', D).
        to_fit: The rows they come from.
        rows: All rows, N, those that calibrated among them.
        model: Each entity's model, shape (E,).
        curves: What the fit watched.
        seed: Of the generated rows.
    """
    continuous = density.scaling.continuous
    columns = slice(None) if continuous is None else continuous
    drawn = _drawn(density, model[to_fit.entity], np.random.default_rng(seed))
    kinds_of_rows = (calibrated.conditionals.residual[calibrated.reference], fitted, drawn)
    held_out, known, generated = (_complete(rows_of_kind[:, columns]) for rows_of_kind in kinds_of_rows)
    rate = smallest_rate(calibrated.held_out)
    return ModelReport(
        calibration=calibration_check(calibrated.checked_p_value),
        generated=generated_quality(held_out, known, generated),
        training=curves.all(),
        features=feature_ranges(rows.feature_names, to_fit.values),
        cost_us=_cost_us(density, rows, model),
        smallest_budget_s=1.0 / rate,
    )


def calibration_check(p_value: FloatArray) -> CalibrationCheck | None:
    """Compare p-values of held-out rows that did not calibrate with what p-values promise.

    Args:
        p_value: Shape (M,).

    Returns:
        None with fewer than 50 rows.
    """
    if p_value.size < _FEWEST_JUDGED:
        return None
    return CalibrationCheck(
        rows=p_value.size,
        points=tuple(
            CalibrationPoint(p_value=level, observed=float((p_value <= level).mean())) for level in P_VALUES
        ),
        largest_deviation=float(kstest(p_value, "uniform").statistic),
    )


def feature_ranges(names: tuple[str, ...], values: FloatArray) -> tuple[FeatureRange, ...]:
    """Describe every feature that has a value in ``values``, shape (N, D), NaN missing."""
    ranges = []
    for name, column in zip(names, values.T, strict=True):
        present = column[~np.isnan(column)]
        if present.size:
            marks = np.quantile(present, [0.0, 0.01, 0.5, 0.99, 1.0], method="nearest")
            minimum, low, median, high, maximum = (float(mark) for mark in marks)
            ranges.append(
                FeatureRange(
                    name=name,
                    missing=1.0 - present.size / column.size,
                    minimum=minimum,
                    low=low,
                    median=median,
                    high=high,
                    maximum=maximum,
                )
            )
    return tuple(ranges)


def _drawn(density: Density, model: IntArray, rng: np.random.Generator) -> FloatArray:
    """Draw residuals from the family, or from those of entities, in proportion to rows of models (N,)."""
    if density.entity_families is None:
        return density.family.sample(_GENERATED_ROWS, rng)
    each = np.bincount(rng.choice(model, _GENERATED_ROWS))
    return np.vstack([density.family_of(m).sample(int(each[m]), rng) for m in np.flatnonzero(each).tolist()])


def _complete(rows: FloatArray) -> FloatArray:
    return rows[~np.isnan(rows).any(axis=1)]


def _cost_us(density: Density, rows: TrainingRows, model: IntArray) -> float:
    """Return the microseconds that the model takes per record, the median of a few rounds."""
    part = slice(0, _TIMED_ROWS)
    of_run = rows.of_run[part]
    lengths = runs_of(of_run)
    of_row = model[rows.entity[part]]
    z = density.scaling.standardise(rows.values[part], of_row)
    states = density.predictor.initial_state(len(lengths)), density.family.initial_state(len(lengths))
    of_entity = model[rows.run_entity][: len(lengths)]
    seconds = []
    for _ in range(_TIMED_ROUNDS):
        started_s = time.perf_counter()
        density.conditionals(*states, z, rows.time[part], rows.gap_s[part], lengths, of_entity)
        seconds.append(time.perf_counter() - started_s)
    return float(np.median(seconds)) / len(z) * 1e6
