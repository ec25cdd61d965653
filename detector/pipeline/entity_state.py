"""What a detector remembers of its entities, between one batch and the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.alerting.aftermath import AftermathRows, initial_aftermath
from detector.alerting.alert_state import StateRows, initial_alert_state
from detector.alerting.echo import no_echo
from detector.alerting.steering import STEERING_STATE, SteeringRows
from detector.batch import FloatArray, IntArray
from detector.pipeline.detector import Detector


@dataclass(frozen=True, slots=True)
class EntityState:
    """What a detector remembers of E entities: a struct of arrays, gathered and scattered by the shell."""

    time: FloatArray
    """Of the newest record, shape (E,), -inf before the first."""
    gap_s: FloatArray
    """Between the two newest records, seconds, shape (E,), NaN before the second, and ..."""
    silence_s: FloatArray
    """... how much of all gaps was silence, shape (E,): see ``silence.py``."""
    values: FloatArray
    """Of the newest record, shape (E, D)."""
    records: IntArray
    """Seen so far, shape (E,)."""
    model: IntArray
    """Which of the stacked models scores the entity, shape (E,)."""
    predictor: tuple[FloatArray, ...]
    """Of each density of the model, shape (E, predictor.state_size)."""
    family: tuple[FloatArray, ...]
    """Of each density of the model, shape (E, family.state_size)."""
    average: tuple[FloatArray, ...]
    """On the time scales of each member, of surprise or of deviations, shape (E, A)."""
    sketch: tuple[FloatArray, ...]
    """What each member has counted of surprise, one row per entity."""
    alert: StateRows
    aftermath: AftermathRows
    """What incidents leave behind."""
    explained: NDArray[np.object_]
    """``Explained`` of the entities that were told of last, None of the others, shape (E,)."""
    steering: SteeringRows
    counters: FloatArray
    """The last value of every counter and its time, shape (E, transforms.state_size)."""
    override: IntArray
    """Which override holds, as ``EntityRules`` counts them, shape (E,); 0 without such rules."""
    matters: FloatArray
    """Which part of surprise matters of late, shape (E, feature_rules.state_size)."""
    echo: FloatArray
    """How loud the entity was of late, as ``with_echo`` has it, shape (E,)."""
    led_up: NDArray[np.object_]
    """The newest records where they are loud but fire nothing: tuples of ``Loud``, or None, shape (E,)."""


def initial_state(detector: Detector, entities: list[str]) -> EntityState:
    """Return the state of entities never seen, E rows."""
    members, densities = detector.model.members, detector.model.densities
    known = {name: index for index, name in enumerate(detector.model.entities)}
    n = len(entities)
    model = np.array([known.get(entity, len(known)) for entity in entities], dtype=np.int64)
    return EntityState(
        np.full(n, -np.inf),
        np.full(n, np.nan),
        np.zeros(n),
        np.full((n, detector.model.n_features), np.nan),
        np.zeros(n, dtype=np.int64),
        model,
        tuple(density.predictor.initial_state(n) for density in densities),
        tuple(density.family.initial_state(n) for density in densities),
        tuple(member.initial_average(model) for member in members),
        tuple(member.initial_sketch(n) for member in members),
        initial_alert_state(n),
        initial_aftermath(n),
        np.full(n, None),
        np.zeros(n, STEERING_STATE) if detector.steering is None else detector.steering.initial_state(n),
        detector.model.transforms.initial_state(n),
        (
            np.zeros(n, dtype=np.int64)
            if detector.entity_rules is None
            else detector.entity_rules.index_of(entities)
        ),
        np.empty((n, 0)) if detector.feature_rules is None else detector.feature_rules.initial_state(n),
        no_echo(n),
        np.full(n, None),
    )


def take(state: EntityState, rows: IntArray) -> EntityState:
    """Gather rows of a state."""
    return EntityState(
        state.time.take(rows),
        state.gap_s.take(rows),
        state.silence_s.take(rows),
        state.values.take(rows, axis=0),
        state.records.take(rows),
        state.model.take(rows),
        tuple(own.take(rows, axis=0) for own in state.predictor),
        tuple(own.take(rows, axis=0) for own in state.family),
        tuple(own.take(rows, axis=0) for own in state.average),
        tuple(own.take(rows, axis=0) for own in state.sketch),
        state.alert.take(rows),
        state.aftermath.take(rows),
        state.explained.take(rows),
        state.steering.take(rows),
        state.counters.take(rows, axis=0),
        state.override.take(rows),
        state.matters.take(rows, axis=0),
        state.echo.take(rows),
        state.led_up.take(rows),
    )


def put(state: EntityState, rows: IntArray, new: EntityState) -> EntityState:
    """Scatter rows into a state, in place, and return it."""
    state.time[rows] = new.time
    state.gap_s[rows] = new.gap_s
    state.silence_s[rows] = new.silence_s
    state.values[rows] = new.values
    state.records[rows] = new.records
    state.model[rows] = new.model
    several = zip(
        state.predictor + state.family + state.average + state.sketch,
        new.predictor + new.family + new.average + new.sketch,
        strict=True,
    )
    for own, of_new in several:
        own[rows] = of_new
    # Structures by index would be assigned field by field, put() moves them whole.
    np.put(state.alert, rows, new.alert)
    np.put(state.steering, rows, new.steering)
    state.aftermath[rows] = new.aftermath
    state.explained[rows] = new.explained
    state.counters[rows] = new.counters
    state.override[rows] = new.override
    state.matters[rows] = new.matters
    state.echo[rows] = new.echo
    state.led_up[rows] = new.led_up
    return state
