"""Which slot of the state arrays belongs to an entity of a partition; new ones get the next free slot."""

from itertools import repeat

import numpy as np

from detector.batch import Batch, IntArray, Source


class EntityTable:
    """Slots of one input's entities, keyed by (source, entity). Slots are small integers from 0.

    An entity found on a second source has a slot, and so a state, for each: the order between two
    partitions is not defined, so one state would depend on chance.
    """

    def __init__(self) -> None:
        # By name alone, because an entity normally lives on one source: one look-up of a string.
        self._slot_of: dict[str, int] = {}
        self._elsewhere: dict[tuple[int, str], int] = {}
        self._source_ids: dict[Source, int] = {}
        self._entity: list[str] = []
        self._source: IntArray = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []
        self._on_two_sources: set[str] = set()
        self._newly_on_two_sources = 0

    def __len__(self) -> int:
        """Return how many slots are in use."""
        return len(self._entity) - len(self._free)

    def place(self, batch: Batch) -> IntArray:
        """Return the slot of each record's entity, shape (N,)."""
        ids = [self._source_ids.setdefault(source, len(self._source_ids)) for source in batch.sources]
        source = np.array(ids, dtype=np.int64)[batch.source]
        slots = np.fromiter(map(self._slot_of.get, batch.entity, repeat(-1)), np.int64, len(batch))
        # Slot -1 reads the last entry, which is harmless: such a record is looked at anyway.
        known = (slots >= 0) & (self._source[slots] == source) if self._source.size else slots >= 0
        for i in np.flatnonzero(~known).tolist():
            slots[i] = self._slot(int(source[i]), batch.entity[i])
        return slots

    def forget(self, source: Source) -> tuple[IntArray, list[str]]:
        """Free the slots of a source that went elsewhere; return them, shape (E,), and their entities."""
        slots, sources = self.held()
        return self.drop(slots[sources == self._source_ids.get(source, -1)])

    def held(self) -> tuple[IntArray, IntArray]:
        """Return the slots in use, and the number of the source of each, shape (E,)."""
        in_use = np.ones(len(self._entity), dtype=bool)
        in_use[self._free] = False
        slots = np.flatnonzero(in_use)
        return slots, self._source[slots]

    def drop(self, slots: IntArray) -> tuple[IntArray, list[str]]:
        """Free slots in use; return them and their entities."""
        entities = self.names(slots)
        for slot, number, entity in zip(slots.tolist(), self._source[slots].tolist(), entities, strict=True):
            if self._slot_of.get(entity) == slot:
                del self._slot_of[entity]
            self._elsewhere.pop((number, entity), None)
            self._on_two_sources.discard(entity)
        self._free.extend(slots[::-1].tolist())
        if len(self) == 0:
            # The next entities begin at 0 again, so that nobody keeps room for those of before.
            self._entity, self._free = [], []
            self._source = np.zeros(0, dtype=np.int64)
        return slots, entities

    def forget_all(self) -> tuple[IntArray, list[str]]:
        """Free every slot; return them and their entities."""
        forgotten = [self.forget(source) for source in list(self._source_ids)]
        slots = np.concatenate([np.zeros(0, dtype=np.int64), *(slots for slots, _ in forgotten)])
        return slots, [entity for _, entities in forgotten for entity in entities]

    def names(self, slots: IntArray) -> list[str]:
        """Return the entities of slots in use."""
        return [self._entity[slot] for slot in slots.tolist()]

    def take_newly_on_two_sources(self) -> int:
        """Return, once, how many entities were first found on a second source since the last call."""
        taken, self._newly_on_two_sources = self._newly_on_two_sources, 0
        return taken

    def _slot(self, source: int, entity: str) -> int:
        """Return the slot of one entity that the look-up by name did not settle."""
        first = self._slot_of.get(entity)
        if first is not None and self._source[first] == source:
            return first
        slot = self._elsewhere.get((source, entity))
        if slot is None:
            slot = self._take(source, entity)
            if first is not None:
                self._elsewhere[source, entity] = slot
                if entity not in self._on_two_sources:
                    self._on_two_sources.add(entity)
                    self._newly_on_two_sources += 1
        if first is None:
            # Its first source went away: from now on it is found by name again.
            self._elsewhere.pop((source, entity), None)
            self._slot_of[entity] = slot
        return slot

    def _take(self, source: int, entity: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._entity[slot] = entity
        else:
            slot = len(self._entity)
            self._entity.append(entity)
            if slot == self._source.size:
                self._source = np.concatenate([self._source, np.zeros(max(1024, slot), dtype=np.int64)])
        self._source[slot] = source
        return slot
