"""The rows of a batch, laid out entity after entity, and what the committee says of them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.stuck import Stayed
from detector.batch import Batch, BoolArray, FloatArray, IntArray, Status
from detector.models.sequences import lagged, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState
from detector.pipeline.silence import Heard, heard
from detector.scoring.density import Conditionals


class Rows(NamedTuple):
    """Rows of a batch, entity after entity, without those that are late or duplicates."""

    order: IntArray
    lengths: IntArray
    gap_s: FloatArray
    """Seconds since the entity's record before; NaN for its first ever."""
    values: FloatArray
    """As alerts show them, counters as rates, shape (n, D)."""
    scaled: FloatArray
    """As densities take them, with logarithms, shape (n, D)."""
    counters: FloatArray
    """State after."""
    heard: Heard
    stayed: Stayed | None
    """None where every value may stay the same."""


def rows_of(detector: Detector, before: EntityState, batch: Batch, kept: IntArray, lengths: IntArray) -> Rows:
    """Lay out rows of a batch.

    Args:
        detector: Knows which features are counters.
        before: State of the E entities that have rows.
        batch: N records.
        kept: Shape (n,), the rows, entity after entity.
        lengths: Rows of each entity, shape (E,), each >= 1.
    """
    previous = lagged(batch.time[kept], before.time, starts_of(lengths))
    gap_s = np.where(np.isfinite(previous), batch.time[kept] - previous, np.nan)
    transforms = detector.model.transforms
    decoded = batch.values.take(kept, axis=0)
    values, counters = transforms.rates(before.counters, decoded, batch.time[kept], lengths)
    usual = heard(
        batch.time[kept],
        gap_s,
        before.gap_s,
        before.silence_s,
        detector.interval_s,
        detector.rules.keep_alive_s,
        lengths,
    )
    stayed, rules = None, detector.stuck_rules
    if rules is not None:
        stayed = rules.follow(before.stuck, decoded, batch.time[kept], lengths, detector.interval_s)
        # Totals below 0 count as missing, and so do those of which there is no rate.
        shown = ~np.isnan(values.take(rules.columns, axis=1))
        stayed = stayed._replace(stuck=stayed.stuck & shown)
    return Rows(kept, lengths, gap_s, values, transforms.scaled(values), counters, usual, stayed)


class Said(NamedTuple):
    """What the committee says of N rows of a batch, and why."""

    conditionals: tuple[Conditionals, ...]
    """Of each member."""
    p_value: FloatArray
    """Shape (N,); this and what follows mean nothing of rows that are not scored."""
    member: IntArray
    """Shape (N,), who was heard."""
    too_likely: BoolArray
    """Shape (N,), whether that member found the row too likely."""
    of_late: FloatArray | None
    """Shape (N,), the smallest p-value of averages that forget soon; None where no member has a slow one that
    others confirm."""
    drifts: tuple[FloatArray | None, ...]
    """Of each member, as in what it heard."""


def score(
    detector: Detector, before: EntityState, batch: Batch, rows: Rows
) -> tuple[EntityState, NDArray[np.int8], Said]:
    """Return the state after the rows, the status of each, shape (N,), and what is said of them.

    Of the state, what comes of alerts is still that of before.
    """
    model = detector.model
    starts = starts_of(rows.lengths)
    of_row = np.repeat(before.model, rows.lengths)
    time = batch.time[rows.order]
    standardised = [density.scaling.standardise(rows.scaled, of_row) for density in model.densities]
    missing = [np.isnan(z) for z in standardised]
    n = len(time)
    position = np.arange(n) - np.repeat(starts, rows.lengths)
    seen_before = position + np.repeat(before.records, rows.lengths)
    status = np.full(n, Status.SCORED, dtype=np.int8)
    status[seen_before < model.warmup_records] = Status.WARMING_UP
    for absent in missing:
        if absent.any():
            # Without a record before it there are no rates, which is no fault of the record.
            due = seen_before >= model.transforms.warmup_records
            status[((~absent).sum(axis=1) < detector.min_features) & due] = Status.TOO_FEW_FEATURES
    scored = status == Status.SCORED

    conditionals = [
        density.conditionals(
            before.predictor[i],
            before.family[i],
            standardised[i],
            time,
            rows.gap_s,
            rows.lengths,
            before.model,
            rows.gap_s / rows.heard.usual_s,
        )
        for i, density in enumerate(model.densities)
    ]
    averages, sketches, found = [], [], []
    for k, member in enumerate(model.members):
        average, sketch, said_of = member.judge(
            before.average[k],
            before.sketch[k],
            conditionals[model.density_of[k]],
            of_row,
            missing[model.density_of[k]],
            scored,
            time,
            rows.lengths,
        )
        sketches.append(sketch)
        averages.append(average)
        found.append(said_of)
    judged = model.committee.judge(np.column_stack([own.p_value for own in found]))
    too_likely = np.column_stack([own.too_likely for own in found])
    of_member = tuple(conditionals[i] for i in model.density_of)
    of_late = None
    if any(member.confirmation is not None for member in model.members):
        of_late = model.committee.heard(np.column_stack([own.of_late for own in found])).min(axis=1)
    said = Said(
        of_member,
        judged.p_value,
        judged.member,
        too_likely[np.arange(n), judged.member],
        of_late,
        tuple(own.drift for own in found),
    )
    after = replace(
        before,
        time=time[starts + rows.lengths - 1],
        values=batch.values.take(rows.order[starts + rows.lengths - 1], axis=0),
        gap_s=rows.heard.gap_s,
        silence_s=rows.heard.silence_s,
        records=before.records + rows.lengths,
        predictor=tuple(own.predictor_rows for own in conditionals),
        family=tuple(own.family_rows for own in conditionals),
        average=tuple(averages),
        sketch=tuple(sketches),
        counters=rows.counters,
        stuck=before.stuck if rows.stayed is None else rows.stayed.state,
    )
    return after, status, said
