"""Calibrate a density on rows held out in time: p-values, stored examples, and the evidence for a budget."""

from typing import NamedTuple

import numpy as np

from detector.alerting.budget import HeldOut
from detector.batch import BoolArray, FloatArray, IntArray
from detector.bundles.youth import enough_rows
from detector.models.sequences import runs_of, starts_of
from detector.scoring.calibration import Calibration
from detector.scoring.density import Conditionals, Density
from detector.scoring.drift import drift
from detector.scoring.examples import Example, SurpriseOfPattern
from detector.scoring.frequencies import Frequencies
from detector.scoring.member import confirmed
from detector.scoring.moments import Moments
from detector.scoring.sketch import Sketch
from detector.scoring.tail import Tail
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.scoring.typicality import Choice, LowerSide, is_on

# Rows kept to calibrate patterns of missing features, and held-out p-values kept to count episodes.
_EXAMPLES = 1000
_LARGEST_HELD_OUT = 500_000
_ROWS_AT_ONCE = 10_000
# With fewer complete rows, those that lack features say how rare large surprise is, too; and so many of these
# at most, since many may have a pattern of their own.
_ENOUGH_COMPLETE, _MOST_INCOMPLETE = 200, 4000
# Of faster records hardly one in four counts: an entity would learn for days, most of all from its incidents.
_FASTEST_TEACHING_S = 15.0
# A pause longer than this many usual intervals is not time in which an alarm could have been raised.
_LONGEST_GAP = 10.0


class Checked(NamedTuple):
    """What a calibration on the older half of each run's reference rows says of all of them."""

    p_value: FloatArray
    """Shape (N,); NaN of other rows."""
    heard: FloatArray
    """The same as a committee hears it, confirmed by the faster average where there is one."""
    newer: BoolArray
    """Shape (N,), the reference rows that took no part in it."""


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
    checked: Checked
    confirmation: Calibration | None
    """Of the faster average, where there is one."""


def calibrate(
    density: Density,
    z: FloatArray,
    time: FloatArray,
    *,
    lengths: IntArray,
    model: IntArray,
    held_out: BoolArray,
    interval_s: float,
    min_features: int,
    entity: IntArray | None = None,
    typicality: Choice = "auto",
    time_scale: TimeScale = BY_ITSELF,
    learn: bool = True,
    frequencies: Frequencies | None = None,
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
        frequencies: Of discrete values, where it is these that are averaged.

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
    # Entities may differ in which features they have, so incomplete rows count as well, as if complete.
    known = complete | _evenly(usable & ~complete, _MOST_INCOMPLETE)

    examples = _examples(density, z, time, gap_s, lengths, model, usable)
    n_models = len(density.scaling.location)
    of_pattern = SurpriseOfPattern(density, examples)
    two_sided = is_on(typicality, density.family.evidence) and not time_scale.adds_up
    surprise, past_missing = conditionals.surprise, conditionals.past_missing
    scored = (position >= density.warmup_records) & ~np.isnan(surprise)
    by_itself = _fit(surprise[known], of_row[known], n_models, of_pattern, two_sided=False)

    def as_if_complete(rows: BoolArray) -> FloatArray:
        result = np.zeros(len(z))
        result[rows] = by_itself.as_if_complete(
            surprise[rows], of_row[rows], missing[rows], past_missing[rows]
        )
        return result

    if frequencies is not None:
        judged = _of_frequencies(
            frequencies, conditionals.residual, model, time_scale.weight, scored, lengths
        )
    elif time_scale.adds_up:
        if density.n_continuous == 0:
            raise ValueError(
                "no feature is continuous, so there is no deviation to average; average surprise or frequency"
            )
        at_first = np.zeros((e, density.n_continuous))
        judged = drift(at_first, density.deviation(conditionals), time_scale.weight, scored, lengths).surprise
    elif time_scale.is_average:
        usual = np.repeat(by_itself.moments.location[model][:, None], len(time_scale.weights), axis=1)
        averages = time_scale.average(usual, as_if_complete(scored), scored, lengths)[1]
        judged = averages[:, 0]
    else:
        judged = surprise
    if time_scale.is_average:
        comparable, known, reference = judged, usable, usable
        absent, past_absent = np.zeros_like(missing), np.zeros_like(past_missing)
    else:
        comparable = np.where(complete, surprise, as_if_complete(known & ~complete))
        reference = complete if complete.sum() >= _ENOUGH_COMPLETE else known
        absent, past_absent = missing, past_missing
    moments = Moments.fit(comparable[known], of_row[known], n_models)
    of_reference, model_of_row = comparable[reference], of_row[reference]
    calibration = _fit(of_reference, model_of_row, n_models, of_pattern, two_sided, moments)
    entities = np.unique(model_of_row).size
    young = of_reference.size < enough_rows(entities, z.shape[1]) * entities
    teaches = interval_s >= _FASTEST_TEACHING_S
    if learn and young and teaches and time_scale.is_average and not two_sided:
        if z.shape[1] == 1:
            calibration.moments = Moments.of_few(judged[scored], n_models)
        calibration.sketch = Sketch.fit(calibration.moments.normalise(of_reference, model_of_row))

    confirmation = None
    if time_scale.confirming is not None:
        confirmation = _fit(averages[reference, 1], model_of_row, n_models, of_pattern, two_sided=False)

    older = _older_half(np.repeat(np.arange(e), lengths)[reference])
    newer = np.zeros(len(z), dtype=bool)
    newer[np.flatnonzero(reference)[~older]] = True
    none_missing = np.zeros_like(missing[reference]), np.zeros_like(past_missing[reference])

    def by_older(judged: FloatArray, two_sided: bool) -> FloatArray:
        fitted = _fit(judged[older], model_of_row[older], n_models, of_pattern, two_sided)
        result = np.full(len(z), np.nan)
        result[reference] = fitted.p_value(judged, model_of_row, *none_missing).p_value
        return result

    checked = heard = by_older(of_reference, two_sided)
    if confirmation is not None:
        heard = confirmed(checked, by_older(averages[reference, 1], two_sided=False))

    p_value = np.full(len(z), np.nan)
    p_value[usable], _ = calibration.p_value(
        judged[usable], of_row[usable], absent[usable], past_absent[usable]
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
        calibration,
        examples,
        evidence,
        conditionals,
        reference,
        usable,
        p_value,
        Checked(checked, heard, newer),
        confirmation,
    )


def _of_frequencies(
    frequencies: Frequencies,
    residual: FloatArray,
    model: IntArray,
    weight: float,
    counted: BoolArray,
    lengths: IntArray,
) -> FloatArray:
    """Return the surprise of averages, shape (N,); run by run in pieces, for a record has many columns."""
    surprise = np.empty(len(residual))
    for start, length, of_run in zip(starts_of(lengths).tolist(), lengths.tolist(), model, strict=True):
        average = frequencies.usual[of_run][None]
        for at in range(start, start + length, _ROWS_AT_ONCE):
            part = slice(at, min(at + _ROWS_AT_ONCE, start + length))
            n = part.stop - at
            found = frequencies.scan(
                average, residual[part], np.full(n, of_run), weight, counted[part], np.array([n])
            )
            average, surprise[part] = found.after, found.surprise
    return surprise


def _fit(
    surprise: FloatArray,
    model: IntArray,
    n_models: int,
    surprise_of_pattern: SurpriseOfPattern,
    two_sided: bool,
    moments: Moments | None = None,
) -> Calibration:
    if moments is None:
        moments = Moments.fit(surprise, model, n_models)
    upper = Tail.fit(moments.normalise(surprise, model))
    lower = LowerSide.fit(surprise, model, n_models) if two_sided else None
    return Calibration(moments, upper, surprise_of_pattern, lower)


def _evenly(rows: BoolArray, most: int) -> BoolArray:
    """Return which of some rows to take, shape (N,): all, or ``most`` that are evenly spaced."""
    of_rows = np.flatnonzero(rows)
    places = np.linspace(0, of_rows.size - 1, min(most, of_rows.size)).astype(np.int64)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[of_rows[places]] = True
    return chosen


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
    rows: BoolArray,
) -> Example:
    """Replay the entities up to evenly spaced rows and keep the state before each."""
    chosen = np.flatnonzero(_evenly(rows, _EXAMPLES))
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
