"""An input: who reads its records, who watches its entities, and what it takes to forget one everywhere."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from detector.batch import Batch, IntArray, Source
from detector.stream.arrivals import Arrivals
from detector.stream.codec_json import JsonCodec
from detector.stream.entity_table import EntityTable
from detector.stream.expiry import Expiry
from detector.stream.observer import Observer
from detector.stream.presence import Presence
from detector.stream.watch import Watch

FORGET_AFTER_S = 7 * 86_400.0
"""Of an entity that sends no more, unless the input says otherwise."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Input:
    """One kind of record: where it comes from, how it is read, who watches it."""

    name: str
    topics: tuple[str, ...]
    codec: JsonCodec
    watches: list[Watch]
    presence: Presence | None = None
    """None where nobody is missed."""
    expiry: Expiry = field(default_factory=partial(Expiry, FORGET_AFTER_S))
    table: EntityTable = field(default_factory=EntityTable)
    arrivals: Sequence[Arrivals] = ()
    """Of the detectors that may get another version while they work."""

    def take_arrivals(self) -> None:
        """Score with the versions that arrived, from the next batch on."""
        for source in self.arrivals:
            new = source.arrived()
            if new is None:
                continue
            for i, watch in enumerate(self.watches):
                if watch.name == new.name:
                    new.inherit(watch)
                    self.watches[i] = new
                    break
            else:
                self.watches.append(new)

    def gone(self, observer: Observer, batch: Batch, slots: IntArray, now_s: float) -> IntArray:
        """Begin anew with entities that come back after long; return, now and then, who does not."""
        nobody = np.zeros(0, dtype=np.int64)
        if len(batch) == 0:
            return nobody
        back = self.expiry.returning(batch, slots)
        if back.size:
            self._forget_state(observer, back, self.table.names(back))
        if not self.expiry.seen(batch, slots, now_s):
            return nobody
        return np.setdiff1d(self.expiry.gone(*self.table.held()), slots)

    def drop_gone(self, observer: Observer, gone: IntArray) -> None:
        """Free the memory of entities that are gone for good."""
        if self.presence is not None:
            self.presence.expired(gone)
        self._drop(observer, *self.table.drop(gone))
        _log.info("input %s: %d entities sent nothing for long and are forgotten", self.name, gone.size)

    def forget(self, observer: Observer, source: Source) -> None:
        """Drop the state of a partition's entities."""
        self._drop(observer, *self.table.forget(source))
        self.expiry.forget_source(source)
        if self.presence is not None:
            self.presence.forget_source(source)

    def forget_everything(self, observer: Observer) -> None:
        """Drop the state of all entities."""
        self._drop(observer, *self.table.forget_all())
        self.expiry.forget_sources()
        if self.presence is not None:
            self.presence.forget_everything()

    def _drop(self, observer: Observer, slots: IntArray, entities: list[str]) -> None:
        if slots.size == 0:
            return
        for arrivals in self.arrivals:
            arrivals.forget(slots)
        if self.presence is not None:
            self.presence.forget(slots)
        self.expiry.forget(slots)
        self._forget_state(observer, slots, entities)

    def _forget_state(self, observer: Observer, slots: IntArray, entities: list[str]) -> None:
        for watch in self.watches:
            watch.forget(slots, entities)
            observer.forgotten(watch.name, slots, entities)
