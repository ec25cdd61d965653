"""Absences that another process told of: nothing is known here of these entities but that they are away."""

from collections.abc import Collection, Iterable, Mapping

from detector.alerting.absence_event import (
    KEEP_ALIVE_S,
    MANY_ENTITIES,
    AbsenceEvent,
    kept_alive,
    resolved,
)
from detector.batch import Batch, FloatArray, IntArray, Source


class RecalledAbsences:
    """The absences of one input that were open before this process read its partitions."""

    def __init__(self, forget_after_s: float) -> None:
        """Set the silence after which an entity is gone for good, seconds."""
        self._forget_after_s = forget_after_s
        self._of_one: dict[str, AbsenceEvent] = {}
        """By entity, what was told last."""
        self._of_many: dict[str, AbsenceEvent] = {}
        """By alert; who stopped together is known as far as the event names them."""
        self._back: dict[str, set[str]] = {}
        """By alert of many, who sends again."""

    def emptied(self) -> "RecalledAbsences":
        """Return one like this without any absence."""
        return RecalledAbsences(self._forget_after_s)

    def any(self) -> bool:
        return bool(self._of_one or self._of_many)

    def take(self, events: Iterable[AbsenceEvent]) -> None:
        """Go on with these; each is the newest event of its absence."""
        for event in events:
            if event.entity == MANY_ENTITIES:
                self._of_many[event.alert_id], self._back[event.alert_id] = event, set()
            else:
                self._of_one[event.entity] = event

    def pop(self, entity: str) -> AbsenceEvent | None:
        """Return what was told of an entity, which somebody else follows from now on; None if nothing was."""
        return self._of_one.pop(entity, None)

    def concerns(self, entity: str) -> bool:
        """Say whether an entity is away, as far as it was told."""
        return entity in self._of_one or any(entity in many.entities for many in self._of_many.values())

    def saw(self, batch: Batch, records: IntArray, came_s: FloatArray) -> list[AbsenceEvent]:
        """Return the ends of those that some records of a batch end.

        Args:
            batch: N records.
            records: Rows of the entities that ``concerns`` knows.
            came_s: When each record came, shape (N,): its time, or the stream's where that is later.
        """
        events: list[AbsenceEvent] = []
        for row in records.tolist():
            entity, time, end = batch.entity[row], float(batch.time[row]), float(came_s[row])
            told = self._of_one.get(entity)
            # After a crash records from before it come again.
            if told is not None and time > told.start:
                events.append(resolved(self._of_one.pop(entity), end, "returned"))
            for alert_id, many in list(self._of_many.items()):
                if entity in many.entities and time > many.start:
                    self._back[alert_id].add(entity)
                    if 2 * len(self._back[alert_id]) >= len(many.entities):
                        events.append(resolved(self._of_many.pop(alert_id), end, "returned"))
        return events

    def keep_alive(self, clocks: Mapping[Source, float]) -> list[AbsenceEvent]:
        """Return what is told of those that go on, by what the clocks of partitions show, and their ends.

        An absence of many is not kept alive: its members may be read elsewhere by now, so that nobody
        would end it.
        """
        events: list[AbsenceEvent] = []
        for entity, told in list(self._of_one.items()):
            time_s = clocks.get(told.source, -float("inf"))
            if time_s > told.start + self._forget_after_s:
                events.append(resolved(self._of_one.pop(entity), time_s, "expired"))
            elif time_s >= told.time + KEEP_ALIVE_S:
                self._of_one[entity] = kept_alive(told, time_s)
                events.append(self._of_one[entity])
        for alert_id, many in list(self._of_many.items()):
            if many.expires_at is not None and max(clocks.values(), default=0.0) >= many.expires_at:
                del self._of_many[alert_id]
        return events

    def told(self) -> list[AbsenceEvent]:
        """Return what goes on, as it was told."""
        return [*self._of_one.values(), *self._of_many.values()]

    def absent(self) -> int:
        """Return how many entities are away."""
        many = sum(max(event.absent - len(self._back[id]), 0) for id, event in self._of_many.items())
        return len(self._of_one) + many

    def forget(self, sources: Collection[Source]) -> None:
        """Leave what began on these partitions to somebody else."""
        self._of_one = {name: told for name, told in self._of_one.items() if told.source not in sources}
        self._of_many = {id: told for id, told in self._of_many.items() if told.source not in sources}
