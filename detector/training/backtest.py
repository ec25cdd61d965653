"""A file through the daemon's own pipeline, without Kafka: one answer per row."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.alerting.event import AlertEvent
from detector.batch import Batch, BoolArray, FloatArray, IntArray, Scores, Status
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import initial_state, take
from detector.pipeline.maintenance import merged
from detector.pipeline.run import no_scores, run


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a detector says of a file."""

    scores: Scores
    """One row per row of the file, in its order."""
    events: list[AlertEvent]
    """Entity after entity, each in time order."""
    scored_s: float
    """Event time from an entity's first scored row to its last, summed over entities, seconds."""


def warmup_rows(batch: Batch, records: int) -> BoolArray:
    """Mark the first ``records`` rows of every entity, shape (N,)."""
    order, lengths, _ = _by_entity(batch)
    position = np.empty(len(batch), dtype=np.int64)
    position[order] = np.arange(len(batch)) - np.repeat(starts_of(lengths), lengths)
    return position < records


def backtest(detector: Detector, batch: Batch, warmup: BoolArray | None = None) -> Backtest:
    """Score every row of a file in order, with the past its entity has in the file.

    Args:
        detector: Model, rules and threshold.
        batch: N rows with the model's features as columns.
        warmup: Rows that trained the model, shape (N,), the first of their entities: they are the past
            of the rows after them, say ``warming_up`` and belong to no alert.
    """
    order, lengths, names = _by_entity(batch)
    state = initial_state(detector, names)
    scores = no_scores(detector, len(batch), Status.WARMING_UP)
    if warmup is not None and warmup.any():
        past = warmup[order]
        starts = starts_of(lengths)
        # Every entity's first row is in its past, so no run is empty here.
        fresh = state
        state = run(detector, state, batch, order[past], _counted(past, starts)).state
        # What trained the model says nothing of how loud traffic is to it.
        state = replace(state, alert=fresh.alert, aftermath=fresh.aftermath, restless=fresh.restless)
        state = replace(state, steering=fresh.steering, echo=fresh.echo)
        left = _counted(~past, starts)
        order, lengths, state = order[~past], left[left > 0], take(state, np.flatnonzero(left > 0))
    if order.size == 0:
        return Backtest(scores, [], 0.0)
    outcome = run(detector, state, batch, order, lengths)
    scores = merged(scores, outcome.scores, order)
    return Backtest(scores, outcome.events, _scored_s(batch.time[order], scores.status[order], lengths))


def latent_columns(detector: Detector, batch: Batch, scores: Scores) -> FloatArray:
    """Return what the first member's family believes to be behind every scored row, (N, L); NaN elsewhere.

    Args:
        detector: What gave the scores.
        batch: N rows with the model's features as columns.
        scores: Of these rows, from ``backtest``.
    """
    density = detector.model.density
    latent = np.full((len(batch), density.family.latent_size), np.nan)
    order, lengths, names = _by_entity(batch)
    if order.size == 0:
        return latent
    # A late row changes nothing, here as in the pipeline; an entity's first row is never late.
    in_order = np.split(batch.time[order], starts_of(lengths)[1:])
    kept = batch.time[order] >= np.concatenate([np.maximum.accumulate(time) for time in in_order])
    order, lengths = order[kept], _counted(kept, starts_of(lengths))
    starts, state, time = starts_of(lengths), initial_state(detector, names), batch.time[order]
    transforms = detector.model.transforms
    values, _ = transforms.rates(state.counters, batch.values[order], time, lengths)
    gap_s = np.diff(time, prepend=np.nan)
    gap_s[starts] = np.nan
    z = density.scaling.standardise(transforms.scaled(values), np.repeat(state.model, lengths))
    residual = density.conditionals(
        state.predictor[0], state.family[0], z, time, gap_s, lengths, state.model
    ).residual
    rows = state.family[0]
    for t in range(int(lengths.max())):
        here = lengths > t
        at = starts[here] + t
        model, one_each = state.model[here], np.ones(len(at), dtype=np.int64)
        latent[order[at]] = density.latent(rows[here], residual[at], gap_s[at], model)
        rows[here], _ = density.scan_family(rows[here], residual[at], gap_s[at], one_each, model)
    latent[scores.status != Status.SCORED] = np.nan
    return latent


def _by_entity(batch: Batch) -> tuple[IntArray, IntArray, list[str]]:
    """Return the rows entity after entity, the rows of each, and the entities' names."""
    names, entity = np.unique(np.array(batch.entity, dtype=object), return_inverse=True)
    order = np.argsort(entity, kind="stable")
    return order, runs_of(entity[order].astype(np.int64)), [str(name) for name in names]


def _counted(marked: BoolArray, starts: IntArray) -> IntArray:
    """Return how many rows of each run are marked, shape (E,)."""
    return np.add.reduceat(marked.astype(np.int64), starts)


def _scored_s(time: FloatArray, status: NDArray[np.int8], lengths: IntArray) -> float:
    """Return the event time from each entity's first scored row to its last, summed."""
    scored = status == Status.SCORED
    entity = np.repeat(np.arange(len(lengths)), lengths)[scored]
    if entity.size == 0:
        return 0.0
    runs = runs_of(entity)
    first = starts_of(runs)
    return float((time[scored][first + runs - 1] - time[scored][first]).sum())
