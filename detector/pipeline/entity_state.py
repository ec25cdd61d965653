"""What a detector remembers of its entities, between one batch and the next."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.alerting.aftermath import AftermathRows, initial_aftermath
from detector.alerting.alert_state import StateRows, initial_alert_state
from detector.alerting.echo import no_echo
from detector.alerting.restless import RestlessRows, never_restless
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
    """What incidents leave behind, and ..."""
    restless: RestlessRows
    """... how surprising entities are between them."""
    explained: NDArray[np.object_]
    """``Explained`` of the entities that were told of last, None of the others, shape (E,)."""
    steering: SteeringRows
    counters: FloatArray
    """The last value of every counter and its time, shape (E, transforms.state_size)."""
    override: IntArray
    """Which override holds, as ``EntityRules`` counts them, shape (E,); 0 without such rules."""
    matters: FloatArray
    """Which part of surprise matters of late, shape (E, feature_rules.state_size)."""
    stuck: FloatArray
    """What stays the same, as ``StuckRules`` has it, shape (E, 6, S), or (E, 0) where everything may."""
    echo: FloatArray
    """How loud the entity was of late, as ``with_echo`` has it, shape (E,)."""
    led_up: NDArray[np.object_]
    """The newest records where they are loud but fire nothing: tuples of ``Loud``, or None, shape (E,)."""


_FIELDS = tuple(each.name for each in fields(EntityState))


def initial_state(detector: Detector, entities: list[str]) -> EntityState:
    """Return the state of entities never seen, E rows."""
    members, densities = detector.model.members, detector.model.densities
    known = {name: index for index, name in enumerate(detector.model.entities)}
    n = len(entities)
    model = np.array([known.get(entity, len(known)) for entity in entities], dtype=np.int64)
    return EntityState(
        time=np.full(n, -np.inf),
        gap_s=np.full(n, np.nan),
        silence_s=np.zeros(n),
        values=np.full((n, detector.model.n_features), np.nan),
        records=np.zeros(n, dtype=np.int64),
        model=model,
        predictor=tuple(density.predictor.initial_state(n) for density in densities),
        family=tuple(density.family.initial_state(n) for density in densities),
        average=tuple(member.initial_average(model) for member in members),
        sketch=tuple(member.initial_sketch(n) for member in members),
        alert=initial_alert_state(n),
        aftermath=initial_aftermath(n),
        restless=never_restless(n),
        explained=np.full(n, None),
        steering=(
            np.zeros(n, STEERING_STATE) if detector.steering is None else detector.steering.initial_state(n)
        ),
        counters=detector.model.transforms.initial_state(n),
        override=(
            np.zeros(n, dtype=np.int64)
            if detector.entity_rules is None
            else detector.entity_rules.index_of(entities)
        ),
        matters=(
            np.empty((n, 0)) if detector.feature_rules is None else detector.feature_rules.initial_state(n)
        ),
        stuck=np.empty((n, 0)) if detector.stuck_rules is None else detector.stuck_rules.initial_state(n),
        echo=no_echo(n),
        led_up=np.full(n, None),
    )


def take(state: EntityState, rows: IntArray) -> EntityState:
    """Gather rows of a state."""
    taken: list[Any] = []
    for name in _FIELDS:
        own = getattr(state, name)
        several = type(own) is tuple
        taken.append(tuple(each.take(rows, 0) for each in own) if several else own.take(rows, 0))
    return EntityState(*taken)


def put(state: EntityState, rows: IntArray, new: EntityState) -> EntityState:
    """Scatter rows into a state, in place, and return it."""
    for name in _FIELDS:
        own, of_new = getattr(state, name), getattr(new, name)
        if type(own) is tuple:
            for each, of_each in zip(own, of_new, strict=True):
                each[rows] = of_each
        elif own.dtype.names is not None:
            # Structures by index would be assigned field by field, put() moves them whole.
            np.put(own, rows, of_new)
        else:
            own[rows] = of_new
    return state
