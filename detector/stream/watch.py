"""One detector at work: its state arrays over entity slots, gathered for a batch and scattered after it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from detector.alerting.aftermath import inherited_levels, of_released
from detector.alerting.event import AlertEvent
from detector.alerting.incident_event import IncidentEvent
from detector.alerting.incidents import IncidentState, forget, group, restore
from detector.alerting.reopened import ToldAlert, explained_before, reopened_state
from detector.alerting.restless import counted_anew
from detector.alerting.steering import SteeringRows
from detector.batch import Batch, BoolArray, IntArray, Scores, Source
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, initial_state, put, take
from detector.pipeline.maintenance import run_around
from detector.pipeline.repeated import run_repeated
from detector.pipeline.run import Outcome, run
from detector.stream.maintenance import Maintenance

_INHERITED = ("time", "values", "silence_s", "stuck", "alert", "explained", "aftermath", "restless")
"""What of an entity's state does not depend on the version that scores it."""
_DOUBLED_BELOW = 100_000
"""Entities from which on there is room for half as many more, not twice: a copy is a pause, and a peak."""


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
        self._forget_everything()
        self._grouping = IncidentState()
        self._incidents: list[IncidentEvent] = []
        self._told: dict[tuple[Source, str], ToldAlert] = {}
        """Of entities not seen yet, what another process told of them."""
        self._decided: dict[int, ToldAlert] = {}
        """Of slots whose records may come again, the same."""

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
            if self._told:
                self._take_over(batch, first[new], touched[new])
        own = batch
        if not np.array_equal(self._columns, np.arange(len(batch.feature_names))):
            values = batch.values[:, self._columns]
            own = replace(batch, feature_names=self.detector.model.feature_names, values=values)
        state = take(self._state, touched)
        decided = self._decided_before(batch, slots) if self._decided else None
        if decided is None:
            outcome = self._run(state, own, order, lengths)
        else:
            outcome = run_repeated(self.detector, state, own, order, lengths, decided, self._run)
        put(self._state, touched, outcome.state)
        self._n_steered += self._steered_of(outcome.state.steering) - self._steered_of(state.steering)
        return outcome.scores, self._grouped(outcome.events, float(batch.time.max()))

    def take_incidents(self) -> list[IncidentEvent]:
        """Return, once, what happened to incidents since the last call."""
        taken, self._incidents = self._incidents, []
        return taken

    def recall(
        self, sources: Collection[Source], alerts: Sequence[ToldAlert], incidents: Sequence[IncidentEvent]
    ) -> None:
        """Go on with what another process told of the entities of partitions that came.

        Args:
            sources: Those partitions; nothing of their entities is known here yet.
            alerts: The newest of each entity, of any detector.
            incidents: Those that go on and began on these partitions, of any detector.
        """
        own = [told for told in alerts if told.newest.detector == self.name]
        self._told = {key: told for key, told in self._told.items() if key[0] not in sources}
        self._told |= {(told.newest.source, told.newest.entity): told for told in own}
        of_own = [incident for incident in incidents if incident.detector == self.name]
        self._grouping = restore(self._grouping, of_own, [told for told in own if told.is_open])

    def forget(self, slots: IntArray, entities: Collection[str]) -> None:
        """Drop the state of entities whose partitions went elsewhere; their slots may be given to others."""
        held = slots[slots < self._known.size]
        self._n_steered -= self._steered_of(self._state.steering.take(held[self._known[held]]))
        self._known[held] = False
        self._inherited[held] = False
        if not (self._known.any() or self._inherited.any()):
            self._forget_everything()
        for slot in self._decided.keys() & set(slots.tolist()):
            del self._decided[slot]
        self._grouping = forget(self._grouping, entities)

    def inherit(self, before: "Watch") -> None:
        """Go on with the episodes and incidents of another version's entities, whose slots are the same.

        What was late or came before is so still, a level that has become normal is, and what stays the same
        does. All else begins anew, so the next record of each is scored by the past that this version has
        seen.
        """
        size = before._known.size
        self._grow(size)
        theirs = before.detector.member_names
        self.detector = self.detector.with_names(theirs)
        now = np.array([self.detector.member_names.index(name) for name in theirs])
        theirs_now = replace(
            before._state,
            aftermath=inherited_levels(before._state.aftermath),
            restless=counted_anew(before._state.restless),
        )
        for name in _INHERITED:
            getattr(self._state, name)[:size] = getattr(theirs_now, name)
        self._state.alert["peak_member"][:size] = now[before._state.alert["peak_member"]]
        self._inherited[:size] = before._known | before._inherited
        self._grouping = before._grouping
        self._told, self._decided = before._told, before._decided

    def firing(self) -> IntArray:
        """Return the slots of the entities inside a firing episode."""
        return np.flatnonzero((self._known | self._inherited) & self._state.alert["firing"])

    def steered(self) -> int:
        """Return how many entities have a threshold of their own, above or below the detector's."""
        return self._n_steered

    def _steered_of(self, rows: SteeringRows) -> int:
        steering = self.detector.steering
        return 0 if steering is None else int(np.count_nonzero(steering.steered(rows)))

    def _run(self, state: EntityState, batch: Batch, order: IntArray, lengths: IntArray) -> Outcome:
        """Do what ``pipeline.run`` does, with regard to windows of maintenance."""
        kind = None
        if self._maintenance is not None:
            kind = self._maintenance.inside(self.name, batch, order, lengths)
        if kind is None:
            return run(self.detector, state, batch, order, lengths)
        return run_around(self.detector, state, batch, order, lengths, kind)

    def _take_over(self, batch: Batch, rows: IntArray, slots: IntArray) -> None:
        """Go on from what was told of entities that are seen for the first time, by a row of each."""
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            told = self._told.pop((batch.sources[int(batch.source[row])], batch.entity[row]), None)
            if told is None:
                continue
            self._decided[slot] = told
            if not told.bears_on(float(batch.time[row]), self.detector.rules):
                continue
            self.detector = self.detector.with_names([told.newest.member])
            np.put(self._state.alert, [slot], reopened_state(told, self.detector.member_names))
            self._state.explained[slot] = explained_before(told)
            rules = self.detector.stuck_rules
            if rules is not None and told.is_open:
                names = self.detector.model.feature_names
                self._state.stuck[[slot]] = rules.told_before(names, explained_before(told))
            if told.newest.resolved_because == "new_normal":
                self._state.aftermath[slot] = of_released(told.newest.start, told.newest.time)

    def _decided_before(self, batch: Batch, slots: IntArray) -> BoolArray | None:
        """Return which records led to what another process told, shape (N,); None: none did."""
        decided = np.zeros(len(batch), dtype=bool)
        for slot in self._decided.keys() & set(slots.tolist()):
            newest, own = self._decided[slot].newest, slots == slot
            # By time as well: of a topic that was made anew, offsets count from the beginning.
            before = (batch.offset <= newest.last_offset) & (batch.time <= newest.time)
            decided |= own & before
            if not before[own].all():
                del self._decided[slot]
        return decided if decided.any() else None

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
        for name in _INHERITED:
            getattr(state, name)[inherited] = getattr(self._state, name)[slots[inherited]]
        self._inherited[slots] = False
        return state

    def _forget_everything(self) -> None:
        """Begin without any entity, and without the memory that they took."""
        self._state: EntityState = initial_state(self.detector, [])
        self._known: BoolArray = np.zeros(0, dtype=bool)
        self._inherited: BoolArray = np.zeros(0, dtype=bool)
        """Entities of which no more is known than their episode under another version."""
        self._n_steered = 0

    def _grow(self, capacity: int) -> None:
        size = self._known.size
        if capacity <= size:
            return
        # In proportion, which keeps the cost of a new entity constant on average.
        target = max(capacity, 2 * size if size < _DOUBLED_BELOW else size + size // 2, 1024)
        grown = initial_state(self.detector, [""] * target)
        put(grown, np.arange(size), self._state)
        self._state = grown
        self._known = np.concatenate([self._known, np.zeros(target - size, dtype=bool)])
        self._inherited = np.concatenate([self._inherited, np.zeros(target - size, dtype=bool)])
