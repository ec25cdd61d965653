"""Which features the entities of an input still send: an event when one vanishes, for one entity or many."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.alerting.absence import stopped_together
from detector.alerting.absence_event import (
    KEEP_ALIVE_S,
    MANY_ENTITIES,
    AbsenceEvent,
    absence_id,
    kept_alive,
    listed,
    resolved,
)
from detector.alerting.event import shared_labels
from detector.alerting.vanished import SUSPECTED_AT, after_records, vanished
from detector.batch import Batch, BoolArray, FloatArray, IntArray, Source
from detector.models.sequences import runs_of, starts_of
from detector.stream.maintenance import ExcusedUntil

T = TypeVar("T", bound=np.generic)

_PRESENT, _VANISHED, _WITH_OTHERS = 0, 1, 2
_USUAL = 0.5
"""Share of its records from which on an entity counts as one that sends the feature."""


class FeaturePresence:
    """Arrays over entity slots and features. Slots are those of ``stream.presence``, which owns this."""

    def __init__(self, input_name: str, severity: str, excused_until: ExcusedUntil | None = None) -> None:
        """Set what events say, and when no feature is missed."""
        self._input = input_name
        self._severity = severity
        self._excused_until = excused_until
        self._share: FloatArray = np.zeros((0, 0))
        self._run: IntArray = np.zeros((0, 0), dtype=np.int64)
        self._state: NDArray[np.int8] = np.zeros((0, 0), dtype=np.int8)
        self._since_s: FloatArray = np.zeros((0, 0))
        """Time of the first record without the feature."""
        self._since_offset: IntArray = np.zeros((0, 0), dtype=np.int64)
        self.told: dict[tuple[int, int], AbsenceEvent] = {}
        """The newest event of what is gone, by slot and feature; slot -1 stands for many."""

    def saw(
        self,
        batch: Batch,
        came_s: FloatArray,
        order: IntArray,
        lengths: IntArray,
        slots: IntArray,
        missed: BoolArray,
        entities: Sequence[str],
        labels: Sequence[dict[str, str]],
    ) -> list[AbsenceEvent]:
        """Take note of what records have; return what happened. Inside a window nothing is learnt or told.

        Args:
            batch: N records.
            came_s: When each came, shape (N,): its time, or the stream's where that is later.
            order: Rows entity after entity, each entity's as they came, shape (N,).
            lengths: Records of each entity, shape (E,).
            slots: Of the entities, shape (E,).
            missed: By slot, whether anybody wants to know.
            entities: Their names, by slot.
            labels: Their labels, by slot.
        """
        self._grow_to(len(missed), batch.values.shape[1])
        present = ~np.isnan(batch.values[order])
        before = self._state[slots]
        after = after_records(self._share[slots], self._run[slots], present, lengths)
        if not after.run.any() and not before.any():
            self._share[slots], self._run[slots] = after.share, after.run
            return []
        inside = self._inside(batch, order, lengths, slots, entities)
        if inside is not None:
            whose = np.repeat(slots, lengths)
            # What lacks something is counted anew after the window.
            self._run[whose[inside]] = 0
            order, whose, present = order[~inside], whose[~inside], present[~inside]
            if not order.size:
                return []
            lengths = runs_of(whose)
            slots = whose[starts_of(lengths)]
            before = self._state[slots]
            after = after_records(self._share[slots], self._run[slots], present, lengths)
        self._share[slots], self._run[slots] = after.share, after.run
        entity, feature = np.nonzero(after.began >= 0)
        rows = order[after.began[entity, feature]]
        self._since_s[slots[entity], feature] = batch.time[rows]
        self._since_offset[slots[entity], feature] = batch.offset[rows]

        events: list[AbsenceEvent] = []
        last = order[starts_of(lengths) + lengths - 1]
        # Its run was no longer than these records, so it was among them.
        back = (before != _PRESENT) & (after.run < lengths[:, None])
        for e, j in np.argwhere(back).tolist():
            events += self._is_back(int(slots[e]), j, float(came_s[last[e]]))
        gone = (
            vanished(self._share[slots], self._run[slots])
            & (self._state[slots] == _PRESENT)
            & missed[slots][:, None]
        )
        now_s = float(batch.time.max())
        for j in np.flatnonzero(gone.any(axis=0)).tolist():
            who = np.flatnonzero(gone[:, j])
            of = {int(slots[e]): batch.sources[int(batch.source[last[e]])] for e in who.tolist()}
            events += self._is_gone(of, j, batch.feature_names[j], now_s, missed, entities, labels)
        return events

    def keep_alive(self, now_s: float) -> list[AbsenceEvent]:
        """Return what is to be told again of that which is still gone."""
        due = {key: event for key, event in self.told.items() if now_s >= event.time + KEEP_ALIVE_S}
        again = {key: kept_alive(event, now_s) for key, event in due.items()}
        self.told |= again
        return list(again.values())

    def moved(self, before: int, slot: int) -> None:
        """Go on with an entity under another slot: what it lacks, it lacks on whatever partition it sends."""
        size, d = self._share.shape
        if before >= size:
            return
        self._grow_to(slot + 1, d)
        for of in (self._share, self._run, self._state, self._since_s, self._since_offset):
            of[slot] = of[before]
        self._share[before], self._run[before], self._state[before] = 0.0, 0, _PRESENT
        self.told = {(slot if of == before else of, j): event for (of, j), event in self.told.items()}

    def forget(self, slots: IntArray) -> None:
        """Drop entities whose slots may be given to others; nothing is told of them."""
        slots = slots[slots < len(self._share)]
        if not slots.size:
            return
        gone = set(slots.tolist())
        self.told = {key: event for key, event in self.told.items() if key[0] not in gone}
        self._share[slots], self._run[slots], self._state[slots] = 0.0, 0, _PRESENT
        for key in [key for key in self.told if key[0] == -1]:
            if not (self._state[:, key[1]] == _WITH_OTHERS).any():
                del self.told[key]

    def _inside(
        self, batch: Batch, order: IntArray, lengths: IntArray, slots: IntArray, entities: Sequence[str]
    ) -> BoolArray | None:
        """Return which records, in ``order``, are inside a window, shape (N,); None where none is."""
        if self._excused_until is None:
            return None
        names = [entities[slot] for slot in slots.tolist()]
        whose = np.repeat(np.arange(len(names)), lengths)
        inside: BoolArray = self._excused_until(names, batch.time[order], whose) > -np.inf
        return inside if inside.any() else None

    def _is_gone(
        self,
        source_of: dict[int, Source],
        j: int,
        feature: str,
        now_s: float,
        missed: BoolArray,
        entities: Sequence[str],
        labels: Sequence[dict[str, str]],
    ) -> list[AbsenceEvent]:
        """Return that a feature is gone from entities: one event for many of them."""
        usual = missed & (self._share[:, j] >= _USUAL) & (self._state[:, j] == _PRESENT)
        slots = np.array(list(source_of), dtype=np.int64)
        overdue = np.zeros(len(missed), dtype=bool)
        overdue[slots] = True
        suspected = usual & vanished(self._share[:, j], self._run[:, j], SUSPECTED_AT)
        alive = int(usual.sum())
        key = (-1, j)
        if key in self.told:
            # They lost it with the others, and noticed later.
            joining = self._since_s[slots, j] <= self.told[key].time
            self._state[slots[joining], j] = _WITH_OTHERS
            slots = slots[~joining]
        elif stopped_together(overdue, suspected, alive):
            many = np.flatnonzero(suspected)
            self._state[many, j] = _WITH_OTHERS
            first = int(slots[np.argmin(self._since_offset[slots, j])])
            names = [entities[slot] for slot in many.tolist()]
            shared, source = shared_labels(labels[slot] for slot in many.tolist()), source_of[first]
            event = self._event(first, j, feature, now_s, MANY_ENTITIES, names, alive, shared, source)
            self.told[key] = event
            return [event]
        events = []
        for slot in slots.tolist():
            self._state[slot, j] = _VANISHED
            name = entities[slot]
            event = self._event(slot, j, feature, now_s, name, [name], alive, labels[slot], source_of[slot])
            self.told[slot, j] = event
            events.append(event)
        return events

    def _is_back(self, slot: int, j: int, time_s: float) -> list[AbsenceEvent]:
        """Return that an entity has a feature again, if that is news."""
        before = int(self._state[slot, j])
        if before == _PRESENT:
            return []
        self._state[slot, j] = _PRESENT
        if before == _VANISHED:
            return [resolved(self.told.pop((slot, j)), time_s, "returned")]
        with_others = np.flatnonzero(self._state[:, j] == _WITH_OTHERS)
        many = self.told[-1, j]
        if 2 * with_others.size > many.absent:
            return []
        # Who lacks it still is missed for itself, from now on.
        self._state[with_others, j], self._run[with_others, j] = _PRESENT, 0
        del self.told[-1, j]
        return [resolved(many, time_s, "returned")]

    def _event(
        self,
        slot: int,
        j: int,
        feature: str,
        time_s: float,
        entity: str,
        names: list[str],
        alive: int,
        labels: dict[str, str],
        source: Source,
    ) -> AbsenceEvent:
        offset = int(self._since_offset[slot, j])
        return AbsenceEvent(
            kind="vanished_feature",
            alert_id=absence_id("vanished_feature", self._input, entity, source, offset, feature),
            transition="firing",
            input=self._input,
            entity=entity,
            entities=listed(names),
            absent=len(names),
            alive=alive,
            features=(feature,),
            severity=self._severity,
            time=time_s,
            told=0,
            start=float(self._since_s[slot, j]),
            end=None,
            usual_interval_s=None,
            labels=labels,
            resolved_because=None,
            source=source,
            offset=offset,
        )

    def _grow_to(self, n: int, d: int) -> None:
        size = len(self._share)
        if n <= size:
            return

        def grown(x: NDArray[T]) -> NDArray[T]:
            return np.concatenate([x.reshape(size, d), np.zeros((n - size, d), x.dtype)])

        self._share, self._run = grown(self._share), grown(self._run)
        self._state = grown(self._state)
        self._since_s, self._since_offset = grown(self._since_s), grown(self._since_offset)
