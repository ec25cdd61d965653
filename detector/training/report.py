"""The report of a model: what it is worth, measured on the rows of its own training."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import kstest

from detector.alerting.budget import Threshold, smallest_rate
from detector.alerting.rules import AlertRules
from detector.batch import Batch, FloatArray, IntArray
from detector.bundles.report import (
    CalibrationCheck,
    CalibrationPoint,
    CommitteeReport,
    Curve,
    FeatureRange,
    ModelReport,
)
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import initial_state
from detector.pipeline.run import run
from detector.scoring.density import Density
from detector.scoring.generate import generate_standardised
from detector.scoring.member import Member
from detector.scoring.scoring_model import ScoringModel
from detector.training.calibrate import Calibrated
from detector.training.generated_quality import generated_quality, in_deviations
from detector.training.training_rows import TrainingRows

# Spread over held-out entities and time.
_SEQUENCES, _ROWS_OF_A_SEQUENCE = 20, 100
P_VALUES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_FEWEST_JUDGED = 50
_TIMED_ROWS = 1_000
_TIMED_ROUNDS = 5
_LONGEST_TIMED_S = 1.0


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
    member: Member,
    calibrated: Calibrated,
    to_fit: TrainingRows,
    rows: TrainingRows,
    model: IntArray,
    curves: Curves,
    seed: int,
) -> ModelReport:
    """Measure a trained model.

    Args:
        member: What was trained.
        calibrated: Of its held-out rows.
        to_fit: The rows that were fitted, in the units of the data.
        rows: All rows, N, transformed, those that calibrated among them.
        model: Each entity's model, shape (E,).
        curves: What the fit watched.
        seed: Of the generated rows.
    """
    density, known = member.density, rows.to_fit()
    kinds_of_rows = (
        _standardised(density, rows, model)[calibrated.reference],
        _standardised(density, known, model),
        _generated(density, calibrated, rows, model, np.random.default_rng(seed)),
    )
    held_out, fitted, generated = (of_kind[~np.isnan(of_kind).any(axis=1)] for of_kind in kinds_of_rows)
    rate = smallest_rate(calibrated.held_out)
    return ModelReport(
        calibration=calibration_check(calibrated.checked.p_value[calibrated.checked.newer]),
        generated=generated_quality(*in_deviations(held_out, fitted, generated, density.scaling.discrete)),
        training=curves.all(),
        features=feature_ranges(rows.feature_names, to_fit.values),
        cost_us=_cost_us(member, rows, model),
        smallest_budget_s=1.0 / rate,
    )


def committee_report(
    model: ScoringModel, checked_p_value: FloatArray, records: Batch, interval_s: float
) -> CommitteeReport:
    """Measure what the members are worth together.

    Args:
        model: What was trained.
        checked_p_value: Of held-out rows that calibrated neither the members nor the committee.
        records: To be scored, at least one.
        interval_s: Usual time between two records of an entity.
    """
    return CommitteeReport(
        calibration=calibration_check(checked_p_value), cost_us=_cost_of_all_us(model, records, interval_s)
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


def _standardised(density: Density, rows: TrainingRows, model: IntArray) -> FloatArray:
    return density.scaling.standardise(rows.values, model[rows.entity])


def _generated(
    density: Density, calibrated: Calibrated, rows: TrainingRows, model: IntArray, rng: np.random.Generator
) -> FloatArray:
    """Return standardised records as ``detector generate`` writes them, of held-out entities and times."""
    held_out = np.flatnonzero(calibrated.reference)
    first = held_out[np.linspace(0, held_out.size - 1, _SEQUENCES).astype(np.int64)]
    z = generate_standardised(
        density,
        calibrated.examples,
        model[rows.entity[first]],
        _ROWS_OF_A_SEQUENCE,
        rng,
        rows.time[first],
        rows.interval_s,
    )
    return z.reshape(-1, z.shape[2])


def _cost_us(member: Member, rows: TrainingRows, model: IntArray) -> float:
    """Return the microseconds that the member takes per record, the median of a few rounds.

    Every round has other records, as far as there are enough: patterns of missing features that come again
    are known already, others are not.
    """
    density = member.density
    n = min(len(rows.values), _TIMED_ROWS)
    # What calibration has met must not count as known.
    unaware = replace(member, calibration=replace(member.calibration))
    seconds: list[float] = []
    for start in np.linspace(0, len(rows.values) - n, _TIMED_ROUNDS).astype(np.int64).tolist():
        part = slice(start, start + n)
        lengths, of_row = runs_of(rows.of_run[part]), model[rows.entity[part]]
        of_entity = of_row[starts_of(lengths)]
        z = density.scaling.standardise(rows.values[part], of_row)
        states = density.predictor.initial_state(len(lengths)), density.family.initial_state(len(lengths))
        memory = unaware.initial_average(of_entity), unaware.initial_sketch(len(lengths))
        time_s, gap_s = rows.time[part], rows.gap_s[part]
        started_s = time.perf_counter()
        seen = density.conditionals(*states, z, time_s, gap_s, lengths, of_entity)
        scored = ~np.isnan(seen.surprise)
        unaware.judge(*memory, seen, of_row, np.isnan(z), scored, time_s, lengths)
        seconds.append(time.perf_counter() - started_s)
        if sum(seconds) > _LONGEST_TIMED_S:
            break
    return float(np.median(seconds)) / n * 1e6


def _cost_of_all_us(model: ScoringModel, records: Batch, interval_s: float) -> float:
    """Return the microseconds that all takes which is done to score a record, the median of a few rounds."""
    unaware = tuple(replace(own, calibration=replace(own.calibration)) for own in model.members)
    nothing_fires = Threshold(np.finfo(np.float64).tiny, 1.0, 1.0, 1.0)
    watcher = Detector(
        "", "champion", "", replace(model, members=unaware), AlertRules(), nothing_fires, None, 1, interval_s
    )
    n = min(len(records), _TIMED_ROWS)
    seconds: list[float] = []
    for start in np.linspace(0, len(records) - n, _TIMED_ROUNDS).astype(np.int64).tolist():
        part = records.take(np.arange(start, start + n))
        names, of_row = np.unique(part.entity, return_inverse=True)
        order = np.lexsort((part.time, of_row))
        state = initial_state(watcher, names.tolist())
        started_s = time.perf_counter()
        run(watcher, state, part, order, runs_of(of_row[order]), decides=False)
        seconds.append(time.perf_counter() - started_s)
        if sum(seconds) > _LONGEST_TIMED_S:
            break
    return float(np.median(seconds)) / n * 1e6
