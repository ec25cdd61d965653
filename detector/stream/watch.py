"""One detector at work: its state arrays over entity slots, gathered for a batch and scattered after it."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from detector.alerting.event import AlertEvent
from detector.alerting.incidents import IncidentEvent, IncidentState, forget, group
from detector.batch import Batch, BoolArray, IntArray, Scores
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, initial_state, put, take
from detector.pipeline.maintenance import run_around
from detector.pipeline.run import run
from detector.stream.maintenance import Maintenance


class Watch:
    """Scores the batches of one input, in order, and remembers every entity by its slot."""

    def __init__(
        self,
        detector: Detector,
        input_name: str,
        feature_columns: IntArray,
        maintenance: Maintenance | None = None,
    ) -> None:
        """Args:
        detector: The trained detector.
        input_name: The input whose batches it reads.
        feature_columns: Which columns of the input's batches are its features, in the model's order.
        maintenance: Windows in which nothing fires and nothing is learnt.
        """
        self.detector = detector
        self.input = input_name
        self._columns = feature_columns
        self._maintenance = maintenance
        self._state: EntityState = initial_state(detector, [])
        self._known: BoolArray = np.zeros(0, dtype=bool)
        self._grouping = IncidentState()
        self._incidents: list[IncidentEvent] = []
        self._inherited: BoolArray = np.zeros(0, dtype=bool)
        """Entities of which no more is known than their episode under another version."""

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def version(self) -> str:
        return self.detector.version

    def process(self, batch: Batch, slots: IntArray) -> tuple[Scores, list[AlertEvent]]:
        """Score a batch and move the state of its entities on.

        Args:
            batch: N records with the input's columns.
            slots: Slot of each record's entity, shape (N,); stable while the entity is known.
        """
        if len(batch) == 0:
            raise ValueError(f"detector {self.name!r}: an empty batch has no scores; skip it")
        order = np.argsort(slots, kind="stable")
        lengths = runs_of(slots[order])
        first = order[starts_of(lengths)]
        touched = slots[first]
        self._grow(int(touched[-1]) + 1)
        new = ~self._known[touched]
        if new.any():
            names = [batch.entity[i] for i in first[new]]
            put(self._state, touched[new], self._beginning(names, touched[new]))
            self._known[touched] = True
        own = batch
        if not np.array_equal(self._columns, np.arange(len(batch.feature_names))):
            values = batch.values[:, self._columns]
            own = replace(batch, feature_names=self.detector.model.feature_names, values=values)
        state, kind = take(self._state, touched), None
        if self._maintenance is not None:
            kind = self._maintenance.inside(self.name, batch, order, lengths)
        outcome = (
            run(self.detector, state, own, order, lengths)
            if kind is None
            else run_around(self.detector, state, own, order, lengths, kind)
        )
        put(self._state, touched, outcome.state)
        return outcome.scores, self._grouped(outcome.events, float(batch.time.max()))

    def take_incidents(self) -> list[IncidentEvent]:
        """Return, once, what happened to incidents since the last call."""
        taken, self._incidents = self._incidents, []
        return taken

    def forget(self, slots: IntArray, entities: Collection[str]) -> None:
        """Drop the state of entities whose partitions went elsewhere; their slots may be given to others."""
        held = slots[slots < self._known.size]
        self._known[held] = False
        self._inherited[held] = False
        self._grouping = forget(self._grouping, entities)

    def inherit(self, before: "Watch") -> None:
        """Go on with the episodes and incidents of another version's entities, whose slots are the same.

        All else begins anew, so the next record of each is scored by the past that this version has seen.
        """
        size = before._known.size
        self._grow(size)
        self._state.alert[:size] = before._state.alert
        self._state.explained[:size] = before._state.explained
        self._inherited[:size] = before._known | before._inherited
        self._grouping = before._grouping

    def firing(self) -> IntArray:
        """Return the slots of the entities inside a firing episode."""
        return np.flatnonzero((self._known | self._inherited) & self._state.alert["firing"])

    def steered(self) -> int:
        """Return how many entities have a threshold of their own, above the detector's."""
        steering = self.detector.steering
        return 0 if steering is None else int((self._known & steering.steered(self._state.steering)).sum())

    def _grouped(self, events: list[AlertEvent], now: float) -> list[AlertEvent]:
        """Return the events, those of members of an incident saying so."""
        rules = self.detector.rules.incident
        if rules is None or not (events or self._grouping.waits):
            return events
        # Entities notice the same cause at their own next records.
        rules = replace(rules, within_s=max(rules.within_s, 2 * self.detector.interval_s))
        live, rate = int(np.count_nonzero(self._known)), self.detector.threshold.budget_rate
        grouped = group(self._grouping, events, rules, live, rate, now)
        self._grouping = grouped.state
        self._incidents += grouped.events
        of = grouped.incident_of
        return [replace(event, incident_id=of.get(event.alert_id)) for event in events] if of else events

    def _beginning(self, names: list[str], slots: IntArray) -> EntityState:
        """Return the state of entities at their first record, with the episodes that were inherited."""
        state = initial_state(self.detector, names)
        inherited = np.flatnonzero(self._inherited[slots])
        state.alert[inherited] = self._state.alert[slots[inherited]]
        state.explained[inherited] = self._state.explained[slots[inherited]]
        self._inherited[slots] = False
        return state

    def _grow(self, capacity: int) -> None:
        size = self._known.size
        if capacity <= size:
            return
        # Doubling keeps the cost of a new entity constant on average.
        target = max(capacity, 2 * size, 1024)
        grown = initial_state(self.detector, [""] * target)
        put(grown, np.arange(size), self._state)
        self._state = grown
        self._known = np.concatenate([self._known, np.zeros(target - size, dtype=bool)])
        self._inherited = np.concatenate([self._inherited, np.zeros(target - size, dtype=bool)])
