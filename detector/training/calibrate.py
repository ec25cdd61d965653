"""Calibrate a density on rows held out in time: p-values, stored examples, and the evidence for a budget."""

from typing import NamedTuple

import numpy as np

from detector.alerting.budget import HeldOut
from detector.batch import BoolArray, FloatArray, IntArray
from detector.bundles.youth import enough_rows
from detector.models.sequences import runs_of, starts_of
from detector.scoring.calibration import Calibration
from detector.scoring.density import Conditionals, Density, Example, SurpriseOfPattern
from detector.scoring.drift import drift
from detector.scoring.member import confirmed
from detector.scoring.moments import Moments
from detector.scoring.sketch import Sketch
from detector.scoring.tail import Tail
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.scoring.typicality import Choice, LowerSide, is_on

# Rows kept to calibrate patterns of missing features, and held-out p-values kept to count episodes.
_EXAMPLES = 1000
_LARGEST_HELD_OUT = 500_000
# Of faster records hardly one in four counts: an entity would learn for days, most of all from its incidents.
_FASTEST_TEACHING_S = 15.0
# A pause longer than this many usual intervals is not time in which an alarm could have been raised.
_LONGEST_GAP = 10.0


class Calibrated(NamedTuple):
    """What held-out rows teach."""

    calibration: Calibration
    examples: Example
    held_out: HeldOut
    """The evidence for a budget."""
    conditionals: Conditionals
    """Of all N rows."""
    reference: BoolArray
    """Shape (N,), the rows that calibrated: nearly always those with every feature."""
    usable: BoolArray
    """Shape (N,), the held-out rows that can be scored."""
    p_value: FloatArray
    """Shape (N,), of the usable rows; NaN elsewhere."""
    checked_p_value: FloatArray
    """p-values of the newer half of each run's reference rows when the older half calibrates, shape (M,)."""
    confirmation: Calibration | None
    """Of the faster average, where there is one."""


def calibrate(
    density: Density,
    z: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    model: IntArray,
    held_out: BoolArray,
    interval_s: float,
    min_features: int,
    entity: IntArray | None = None,
    typicality: Choice = "auto",
    time_scale: TimeScale = BY_ITSELF,
    learn: bool = True,
) -> Calibrated:
    """Score everything in order and learn from the held-out rows how improbable normal traffic gets.

    Args:
        density: Fitted on the rows that are not held out.
        z: Standardised records, entity after entity, each in time order, shape (N, D).
        time: Shape (N,), seconds since 1970 UTC.
        lengths: Records of each entity, shape (E,).
        model: Each entity's model, shape (E,).
        held_out: Shape (N,), the newest rows of every entity.
        interval_s: Usual time between two records of an entity.
        min_features: Rows with fewer present features are not scored.
        entity: Of each run, shape (E,), where an entity's records are not one run; None: one run each.
        typicality: Whether rows that are too likely get small p-values as well.
        time_scale: Over how many records what is averaged.
        learn: Whether averages are calibrated on while they are scored, where held-out rows are few.

    Raises:
        ValueError: No held-out row can be scored.
    """
    e = len(lengths)
    starts = starts_of(lengths)
    gap_s = np.diff(time, prepend=np.nan)
    gap_s[starts] = np.nan
    predictor_rows, family_rows = density.predictor.initial_state(e), density.family.initial_state(e)
    conditionals = density.conditionals(predictor_rows, family_rows, z, time, gap_s, lengths, model)

    of_row = np.repeat(model, lengths)
    missing = np.isnan(z)
    position = np.arange(len(z)) - np.repeat(starts, lengths)
    usable = (
        held_out
        & (position >= density.warmup_records)
        & ((~missing).sum(axis=1) >= min_features)
        & ~np.isnan(conditionals.surprise)
    )
    if not usable.any():
        raise ValueError(
            f"none of the {int(held_out.sum())} held-out records can be scored (warm-up takes "
            f"{density.warmup_records} records of an entity, {min_features} features must be present); "
            "train with more, or more complete, records"
        )
    complete = usable & ~missing.any(axis=1) & ~conditionals.past_missing.any(axis=1)
    # Where hardly a row is complete the incomplete ones must do; their own patterns are calibrated apart.
    reference = complete if complete.sum() >= 20 else usable

    examples = _examples(density, z, time, gap_s, lengths, model, np.flatnonzero(reference))
    n_models = len(density.scaling.location)
    of_pattern = SurpriseOfPattern(density, examples)
    two_sided = is_on(typicality, density.family.evidence) and not time_scale.of_deviation
    averaged, absent, past_absent = conditionals.surprise, missing, conditionals.past_missing
    scored = (position >= density.warmup_records) & ~np.isnan(conditionals.surprise)
    if time_scale.of_deviation:
        if density.n_continuous == 0:
            raise ValueError(
                "no feature is continuous, so there is no deviation to average; average surprise"
            )
        at_first = np.zeros((e, density.n_continuous))
        averaged = drift(at_first, density.deviation(conditionals), time_scale.weight, scored, lengths)[1]
    elif time_scale.is_average:
        by_itself = _fit(
            conditionals.surprise[reference], of_row[reference], n_models, of_pattern, two_sided=False
        )
        averaged = np.zeros(len(z))
        averaged[scored] = by_itself.as_if_complete(
            conditionals.surprise[scored], of_row[scored], missing[scored], past_absent[scored]
        )
        usual = np.repeat(by_itself.moments.location[model][:, None], len(time_scale.weights), axis=1)
        averages = time_scale.average(usual, averaged, scored, lengths)[1]
        averaged = averages[:, 0]
    if time_scale.is_average:
        absent, past_absent = np.zeros_like(missing), np.zeros_like(past_absent)
    surprise, model_of_row = averaged[reference], of_row[reference]
    calibration = _fit(surprise, model_of_row, n_models, of_pattern, two_sided)
    entities = np.unique(model_of_row).size
    young = surprise.size < enough_rows(entities) * entities
    teaches = interval_s >= _FASTEST_TEACHING_S
    if learn and young and teaches and time_scale.is_average and not two_sided:
        if z.shape[1] == 1:
            calibration.moments = Moments.of_few(averaged[scored], n_models)
        calibration.sketch = Sketch.fit(calibration.moments.normalise(surprise, model_of_row))

    confirmation = None
    if time_scale.confirming is not None:
        confirmation = _fit(averages[reference, 1], model_of_row, n_models, of_pattern, two_sided=False)

    checked = np.empty(0)
    if complete[reference].all():
        older = _older_half(np.repeat(np.arange(e), lengths)[reference])
        halves = surprise[older], model_of_row[older]
        none_missing = absent[reference][~older], past_absent[reference][~older]
        if older.any():
            by_older = _fit(*halves, n_models, of_pattern, two_sided)
            checked = by_older.p_value(surprise[~older], model_of_row[~older], *none_missing).p_value

    p_value = np.full(len(z), np.nan)
    p_value[usable], _ = calibration.p_value(
        averaged[usable], of_row[usable], absent[usable], past_absent[usable]
    )
    if confirmation is not None:
        by_faster, _ = confirmation.p_value(
            averages[usable, 1], of_row[usable], absent[usable], past_absent[usable]
        )
        p_value[usable] = confirmed(p_value[usable], by_faster)
    of_run = np.arange(e) if entity is None else entity
    evidence = held_out_evidence(
        p_value[usable], time[usable], np.repeat(of_run, lengths)[usable], gap_s[usable], interval_s
    )
    return Calibrated(
        calibration, examples, evidence, conditionals, reference, usable, p_value, checked, confirmation
    )


def _fit(
    surprise: FloatArray,
    model: IntArray,
    n_models: int,
    surprise_of_pattern: SurpriseOfPattern,
    two_sided: bool,
) -> Calibration:
    moments = Moments.fit(surprise, model, n_models)
    upper = Tail.fit(moments.normalise(surprise, model))
    lower = LowerSide.fit(surprise, model, n_models) if two_sided else None
    return Calibration(moments, upper, surprise_of_pattern, lower)


def _older_half(run: IntArray) -> BoolArray:
    """Return which rows are in the first half of their run, shape (N,); ``run`` is rising."""
    lengths = runs_of(run)
    position = np.arange(len(run)) - np.repeat(starts_of(lengths), lengths)
    return np.asarray(2 * position < np.repeat(lengths, lengths))


def _examples(
    density: Density,
    z: FloatArray,
    time: FloatArray,
    gap_s: FloatArray,
    lengths: IntArray,
    model: IntArray,
    rows: IntArray,
) -> Example:
    """Replay the entities up to evenly spaced rows and keep the state before each."""
    chosen = rows[np.unique(np.linspace(0, rows.size - 1, min(_EXAMPLES, rows.size)).astype(np.int64))]
    entity = np.repeat(np.arange(len(lengths)), lengths)[chosen]
    starts = starts_of(lengths)
    predictor_rows, family_rows = [], []
    reached = -1
    for row, e in zip(chosen.tolist(), entity.tolist(), strict=True):
        if reached < starts[e]:
            reached = int(starts[e])
            before = density.predictor.initial_state(1), density.family.initial_state(1)
        if row > reached:
            part = slice(reached, row)
            step = density.conditionals(
                *before, z[part], time[part], gap_s[part], np.array([row - reached]), model[e : e + 1]
            )
            before, reached = (step.predictor_rows, step.family_rows), row
        predictor_rows.append(before[0])
        family_rows.append(before[1])
    return Example(
        z[chosen],
        np.vstack(predictor_rows),
        np.vstack(family_rows),
        time[chosen],
        gap_s[chosen],
        model[entity],
    )


def held_out_evidence(
    p_value: FloatArray, time: FloatArray, entity: IntArray, gap_s: FloatArray, interval_s: float
) -> HeldOut:
    """Return the evidence for a budget.

    Args:
        p_value: Of held-out rows, entity after entity, each in time order, shape (M,).
        time: Of each row, shape (M,), seconds.
        entity: Of each row, shape (M,), rising.
        gap_s: Seconds since the record before, shape (M,); NaN where none is known.
        interval_s: Usual time between two records of an entity.
    """
    watched_s = np.minimum(np.nan_to_num(gap_s, nan=interval_s), _LONGEST_GAP * interval_s)
    lengths = runs_of(entity)
    span_s = np.add.reduceat(watched_s, starts_of(lengths))
    kept = np.ones(len(lengths), dtype=bool)
    if p_value.size > _LARGEST_HELD_OUT:
        # Whole entities, evenly picked, so that time stays contiguous.
        share = max(1, round(len(lengths) * _LARGEST_HELD_OUT / p_value.size))
        kept[:] = False
        kept[np.unique(np.linspace(0, len(lengths) - 1, share).astype(np.int64))] = True
    rows = np.repeat(kept, lengths)
    return HeldOut(p_value[rows], lengths[kept], span_s[kept], time[rows])
