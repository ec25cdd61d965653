"""Who still sends on one input: arrays over entity slots, and an event when somebody stops or comes back.

Silence is measured on the clock of the entity's partition (``StreamClock``). Partitions that have been read
to their end for some seconds take the newest clock of all, so an entity that is alone on its partition is
missed too. The wall clock counts only where nothing arrives at all although everything was read: then the
input as a whole is silent, which is one event.

What is known of entities is lost with a restart or a rebalance, so neither raises anything. What was told as
absent stays so until it returns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from detector.alerting.absence import (
    SUSPECTED_AT,
    AbsenceRules,
    initial_gaps,
    patience_s,
    stopped_together,
    taught,
)
from detector.alerting.absence_event import (
    KEEP_ALIVE_S,
    MANY_ENTITIES,
    AbsenceEvent,
    ResolvedBecause,
    kept_alive,
    resolved,
)
from detector.alerting.event import shared_labels
from detector.batch import Batch, FloatArray, IntArray, Source
from detector.models.sequences import lagged, runs_of, starts_of
from detector.stream.feature_presence import FeaturePresence
from detector.stream.maintenance import ExcusedUntil
from detector.stream.partition_clocks import CAUGHT_UP_S, PartitionClocks
from detector.stream.presence_rows import ABSENT, FIRST_INCIDENT, PRESENT, Rows, Stopped, median
from detector.stream.recalled_absences import RecalledAbsences

CHECK_S = 1.0
"""Of a stream's clock, between two looks at all entities, or longer where all have much more patience."""
_CHECKS = 16
_WHICH = "incident"
"""Label of a further absence of many: its number."""
"""Within the shortest patience of all."""


@dataclass(slots=True)
class _Incident:
    """Many entities that stopped together."""

    told: AbsenceEvent
    """The newest event of it."""
    raised_s: float
    silent: bool
    """Whether nothing arrived at all."""


class Presence:
    """The entities of one input, on the partitions held. One thread uses it."""

    def __init__(
        self,
        input_name: str,
        rules: AbsenceRules,
        patterns: Sequence[str] = ("*",),
        excused_until: ExcusedUntil | None = None,
        forget_after_s: float = np.inf,
    ) -> None:
        """Args:
        input_name: In events.
        rules: What is too long a silence.
        patterns: Shell patterns of the entities that are missed when they stop.
        excused_until: Until when it is no wonder that something does not come, -inf where it is.
        forget_after_s: After so long a silence an entity is gone for good.
        """
        self._input = input_name
        self._rules = rules
        self._patterns = tuple(patterns)
        self._excused_until = excused_until
        self._clocks = PartitionClocks()
        self._arrived_s = np.inf
        """When records came last, by a monotonic clock."""
        self._listened_s = np.inf
        self._checked_s: FloatArray = np.zeros(0)
        self._check_every_s = CHECK_S
        self._longest_hole_s = np.inf
        self._incidents: dict[int, _Incident] = {}
        """Those that go on, by number, as they came."""
        self._features = (
            FeaturePresence(input_name, rules.severity, excused_until) if rules.features else None
        )
        self._recalled = RecalledAbsences(forget_after_s)
        self._returning: set[int] = set()
        """Slots of entities that send although they were told to be absent."""
        self._absent: dict[int, AbsenceEvent] = {}
        """What was told last of single entities, by slot."""
        self._events: list[AbsenceEvent] = []
        self._slot_of: dict[str, int] = {}
        """Of an entity on several partitions, the slot that it was found at last."""
        self._entity: list[str] = []
        self._labels: list[dict[str, str]] = []
        self._first_patience_s = float(patience_s(initial_gaps(1), rules)[0])
        self._rows = Rows.empty(0, self._first_patience_s)

    def saw(self, batch: Batch, slots: IntArray, now_s: float, monotonic_s: float) -> None:
        """Take note of who sent, and of who is back.

        Args:
            batch: N >= 1 records.
            slots: Of their entities, shape (N,).
            now_s: Wall clock: no record moves a stream's clock beyond it.
            monotonic_s: When they came.
        """
        waited_s = monotonic_s - self._arrived_s
        self._arrived_s = monotonic_s
        order = np.argsort(slots, kind="stable")
        lengths = runs_of(slots[order])
        starts = starts_of(lengths)
        first, last = order[starts], order[starts + lengths - 1]
        touched = slots[first]
        self._meet(batch, first, touched)
        silent = self._silent()
        stood_until_s = -np.inf
        if silent is not None:
            stood_until_s = self._clocks.now_s().max() + waited_s
            self._clocks.resume()
        time = np.minimum(batch.time, now_s)
        shown, resumed = self._clocks.advance(batch, slots, time, self._longest_hole_s)
        # Records that are resent, or were held back, have times of before they came.
        came_s = np.maximum(np.maximum(time, shown), stood_until_s)

        rows = self._rows
        at, resumed = shown[order], resumed[order]
        before = lagged(at, rows.heard_s[touched], starts)
        gap_s = at - np.where((before < resumed) & (at >= resumed), resumed, before)
        telling = np.isfinite(before) & (gap_s > 0)
        if telling.any():
            entity = np.repeat(np.arange(len(lengths)), lengths)[telling]
            own = runs_of(entity)
            learning = touched[entity[starts_of(own)]]
            # An absence is no habit: it teaches no more than the longest silence that is none.
            longest = np.repeat(rows.patience_s[learning], own)
            known = taught(rows.gaps[learning], np.minimum(gap_s[telling], longest), own)
            rows.gaps[learning] = known
            rows.patience_s[learning] = patience_s(known, self._rules)
        rows.heard_s[touched] = at[starts + lengths - 1]
        rows.time_s[touched] = batch.time[last]
        rows.offset[touched] = batch.offset[last]
        left = touched[rows.left[touched]]
        if left.size:
            self._moved_back(left)
        if self._returning:
            records = np.flatnonzero(np.isin(slots, list(self._returning)))
            self._events += self._recalled.saw(batch, records, came_s)
            self._returning = {s for s in self._returning if self._recalled.concerns(self._entity[s])}
        back = rows.state[touched] != PRESENT
        if back.any():
            self._returned(touched[back], came_s[first[back]])
        if silent in self._incidents:
            self._incident_over(silent, float(came_s.min()), "returned")
        if self._features is not None:
            self._events += self._features.saw(
                batch, came_s, order, lengths, touched, rows.missed, self._entity, self._labels
            )

    def lags(self, lag: Mapping[Source, int], monotonic_s: float) -> None:
        """Take the records that wait on each partition: those where none do share one clock."""
        self._clocks.lags(lag, monotonic_s, self._longest_hole_s)

    def check(self) -> None:
        """Look for entities that are silent for too long, if time passed on the stream's clock."""
        clocks = self._clocks.now_s()
        if (
            clocks.size == self._checked_s.size
            and not (clocks >= self._checked_s + self._check_every_s).any()
        ):
            return
        self._checked_s = clocks
        self._judge(clocks, silent=False)
        self._keep_alive(clocks)

    def check_silence(self, monotonic_s: float) -> None:
        """Look, where nothing was there to be read, whether the input as a whole is silent."""
        if monotonic_s - self._listened_s > CAUGHT_UP_S:
            # Nobody listened: this process stood still.
            self._arrived_s = monotonic_s
        self._listened_s = monotonic_s
        if not monotonic_s - self._arrived_s >= self._rules.silence_after_s:
            return
        waited_s = monotonic_s - max(self._arrived_s, self._clocks.caught_up_since_s())
        if not waited_s >= self._rules.silence_after_s:
            return
        clocks = self._clocks.now_s() + waited_s
        if self._silent() is None:
            self._judge(clocks, silent=True)
        self._keep_alive(clocks)

    def take_events(self) -> list[AbsenceEvent]:
        """Return, once, what happened since the last call, in order."""
        taken, self._events = self._events, []
        return taken

    def absent(self) -> int:
        """Return how many entities are absent, those of incidents among them."""
        members = sum(self._rows.members(number).size for number in self._incidents)
        return len(self._absent) + members + self._recalled.absent()

    def firing(self) -> list[AbsenceEvent]:
        """Return what is absent now, as it was told."""
        incidents = [incident.told for incident in self._incidents.values()]
        features = [] if self._features is None else self._features.told.values()
        return [*self._absent.values(), *incidents, *features, *self._recalled.told()]

    def recall(self, sources: Collection[Source], absences: Sequence[AbsenceEvent]) -> None:
        """Go on with what another process told of the entities of partitions that came.

        Args:
            sources: Those partitions; nothing of their entities is known here yet.
            absences: The newest event of each absence that goes on, of any input.
        """
        self._recalled.forget(sources)
        self._recalled.take(event for event in absences if event.input == self._input)

    def expired(self, slots: IntArray) -> None:
        """End quietly what was told of entities that are gone for good, and forget them."""
        rows = self._rows
        slots, clocks = slots[slots < rows.known.size], self._clocks.now_s()
        for slot in slots[rows.state[slots] == ABSENT].tolist():
            self._over(slot, float(clocks[rows.source[slot]]), "expired")
        for number in list(self._incidents):
            if np.isin(rows.members(number), slots).all():
                self._incident_over(number, float(clocks.max()), "expired")
        self.forget(slots)

    def forget(self, slots: IntArray) -> None:
        """Drop entities whose slots may be given to others; nothing is told of them."""
        rows = self._rows
        slots = slots[slots < rows.known.size]
        slots = slots[rows.known[slots]]
        for number in np.unique(rows.source[slots]).tolist():
            self._clocks.of[number].forget(slots[rows.source[slots] == number])
        if self._features is not None:
            self._features.forget(slots)
        for slot in slots.tolist():
            self._returning.discard(slot)
            if self._slot_of.get(self._entity[slot]) == slot:
                del self._slot_of[self._entity[slot]]
        rows.known[slots] = rows.missed[slots] = rows.left[slots] = False
        for slot in slots[rows.state[slots] == ABSENT].tolist():
            del self._absent[slot]
        rows.state[slots] = PRESENT
        rows.heard_s[slots] = -np.inf
        rows.gaps[slots] = 0.0
        rows.patience_s[slots] = self._first_patience_s
        self._incidents = {n: incident for n, incident in self._incidents.items() if rows.members(n).size}

    def forget_source(self, source: Source) -> None:
        """Start again with a partition whose entities are forgotten: somebody else may have read it."""
        self._recalled.forget([source])
        self._clocks.forget(source)
        if source in self._clocks.sources:
            self._checked_s = np.zeros(0)

    def forget_everything(self) -> None:
        """Start again with all partitions, whose entities are forgotten."""
        for source in self._clocks.sources:
            self.forget_source(source)
        self._recalled = self._recalled.emptied()
        self._events = []

    def _meet(self, batch: Batch, first: IntArray, touched: IntArray) -> None:
        """Take in entities that are new, by the first record of each."""
        size = self._rows.known.size
        if int(touched[-1]) >= size:
            more = max(int(touched[-1]) + 1, 2 * size, 1024) - size
            self._rows = self._rows.followed_by(Rows.empty(more, self._first_patience_s))
            self._entity += [""] * more
            self._labels += [{}] * more
        rows = self._rows
        numbers = [self._clocks.number(source) for source in batch.sources]
        new = ~rows.known[touched]
        for row, slot in zip(first[new].tolist(), touched[new].tolist(), strict=True):
            entity, number = batch.entity[row], numbers[int(batch.source[row])]
            self._entity[slot] = entity
            self._moved_to(slot, float(batch.time[row]))
            self._labels[slot] = {
                name: value for name, column in batch.labels.items() if (value := column[row]) is not None
            }
            if self._recalled.concerns(entity):
                self._returning.add(slot)
            rows.known[slot] = True
            rows.source[slot] = number
            self._clocks.of[number].entities += 1

    def _moved_to(self, slot: int, time_s: float) -> None:
        """Miss an entity where it sends now, and no longer where it was."""
        rows, entity = self._rows, self._entity[slot]
        before = self._slot_of.get(entity)
        self._slot_of[entity] = slot
        rows.left[slot] = False
        rows.missed[slot] = any(fnmatchcase(entity, pattern) for pattern in self._patterns)
        if before is None:
            return
        rows.missed[before], rows.left[before] = False, True
        if self._features is not None:
            self._features.moved(before, slot)
        # Its silence was measured on the clock there.
        time_s = max(time_s, self._clocks.of[rows.source[before]].now_s)
        # If it comes back, the time that it was away is no gap between two of its records.
        rows.heard_s[before] = -np.inf
        state = int(rows.state[before])
        if state == ABSENT:
            self._over(before, time_s, "returned")
        rows.state[before] = PRESENT
        if state in self._incidents:
            self._settle(time_s)

    def _moved_back(self, slots: IntArray) -> None:
        """Take note of entities of which records came where they had left: the newest says where they are."""
        rows = self._rows
        for slot in slots.tolist():
            now = self._slot_of.get(self._entity[slot])
            if now is None or rows.time_s[slot] > rows.time_s[now]:
                self._moved_to(slot, float(rows.time_s[slot]))
            else:
                rows.heard_s[slot] = -np.inf

    def _judge(self, clocks: FloatArray, *, silent: bool) -> None:
        rows = self._rows
        alive = rows.alive()
        if alive.size == 0:
            return
        source = rows.source[alive]
        resumed = self._clocks.resumed_s()
        since = np.maximum(rows.heard_s[alive], resumed[source])
        silence_s = clocks[source] - since
        patience = rows.patience_s[alive]
        known = patience[np.isfinite(patience)]
        self._check_every_s = max(CHECK_S, float(known.min()) / _CHECKS) if known.size else CHECK_S
        self._longest_hole_s = median(known, np.inf)
        overdue = silence_s > patience
        excused = rows.heard_s[alive] > clocks[source]
        if not (overdue.any() or excused.any()):
            return
        suspected = silence_s > SUSPECTED_AT * patience
        if self._excused_until is not None:
            quiet = np.flatnonzero(suspected | excused)
            names = [self._entity[slot] for slot in alive[quiet].tolist()]
            until_s = self._excused_until(names, clocks[source[quiet]])
            inside = until_s > -np.inf
            # Their silence begins to count when the window is over; some windows end before they should.
            rows.heard_s[alive[quiet[inside]]] = until_s[inside]
            ended = quiet[~inside & excused[quiet]]
            rows.heard_s[alive[ended]] = clocks[source[ended]]
            overdue[quiet[inside]] = suspected[quiet[inside]] = False
        if not overdue.any():
            return
        if silent:
            # Of single ones nothing can be said while the stream's clock stands still.
            if 2 * int(overdue.sum()) >= alive.size:
                self._raise_incident(alive, clocks, silent=True)
            return
        living = alive.size
        for number, incident in self._incidents.items():
            # Whoever was heard last before an incident was raised, stopped with the others.
            part = suspected & (since <= incident.raised_s)
            rows.state[alive[part & overdue]] = number
            living -= int(part.sum())
            overdue &= ~part
            suspected &= ~part
        if stopped_together(overdue, suspected, living):
            self._raise_incident(alive[suspected], clocks, silent=False)
            return
        for slot in alive[overdue].tolist():
            told = self._recalled.pop(self._entity[slot])
            self._absent[slot] = told or self._of_one(slot, float(clocks[rows.source[slot]]))
            rows.state[slot] = ABSENT
            if told is None:
                self._events.append(self._absent[slot])

    def _keep_alive(self, clocks: FloatArray) -> None:
        """Tell of every absence from time to time, so that none stays for ever when this process is gone."""
        for slot, event in self._absent.items():
            time_s = float(clocks[self._rows.source[slot]])
            if time_s >= event.time + KEEP_ALIVE_S:
                self._absent[slot] = kept_alive(event, time_s)
                self._events.append(self._absent[slot])
        if self._recalled.any():
            times = zip(self._clocks.sources, clocks.tolist(), strict=True)
            self._events += self._recalled.keep_alive(dict(times))
        if self._features is not None:
            self._events += self._features.keep_alive(float(clocks.max()))
        for incident in self._incidents.values():
            if clocks.max() >= incident.told.time + KEEP_ALIVE_S:
                incident.told = kept_alive(incident.told, float(clocks.max()))
                self._events.append(incident.told)

    def _silent(self) -> int | None:
        """Return the number of the incident that nothing at all arrives; None if that is not so."""
        return next((number for number, incident in self._incidents.items() if incident.silent), None)

    def _raise_incident(self, members: IntArray, clocks: FloatArray, *, silent: bool) -> None:
        rows = self._rows
        recalled = {told.labels.get(_WHICH, "1") for told in self._recalled.told() if told.absent > 1}
        number = FIRST_INCIDENT
        while number in self._incidents or str(number - 1) in recalled:
            number += 1
        labels = shared_labels(self._labels[slot] for slot in members.tolist())
        # With it receivers know a further one from the first, of which they were told.
        labels.pop(_WHICH, None)
        if number != FIRST_INCIDENT:
            labels[_WHICH] = str(number - 1)
        stopped = Stopped(
            self._input,
            self._rules.severity,
            MANY_ENTITIES,
            [self._entity[slot] for slot in members.tolist()],
            labels,
            alive=rows.alive().size,
        )
        time_s = float(clocks[rows.source[members]].max())
        event = stopped.event(rows, members, self._clocks.sources, time_s)
        rows.state[members] = number
        self._incidents[number] = _Incident(event, event.time, silent)
        self._events.append(event)

    def _returned(self, slots: IntArray, came_s: FloatArray) -> None:
        rows = self._rows
        for slot, time_s in zip(slots.tolist(), came_s.tolist(), strict=True):
            if rows.state[slot] == ABSENT:
                self._over(slot, time_s, "returned")
        rows.state[slots] = PRESENT
        self._settle(float(came_s.max()))

    def _settle(self, time_s: float) -> None:
        """End the incidents of which half of the members are back."""
        for number, incident in list(self._incidents.items()):
            if not incident.silent and 2 * self._rows.members(number).size <= incident.told.absent:
                self._incident_over(number, time_s, "returned")

    def _over(self, slot: int, time_s: float, because: ResolvedBecause) -> None:
        self._events.append(resolved(self._absent.pop(slot), time_s, because))
        self._rows.state[slot] = PRESENT

    def _incident_over(self, number: int, time_s: float, because: ResolvedBecause) -> None:
        """End an incident; those who are still away begin to be missed now."""
        self._events.append(resolved(self._incidents.pop(number).told, time_s, because))
        rows = self._rows
        members = rows.members(number)
        rows.state[members] = PRESENT
        clocks = self._clocks.now_s()[rows.source[members]]
        rows.heard_s[members] = np.maximum(rows.heard_s[members], clocks)

    def _of_one(self, slot: int, time_s: float) -> AbsenceEvent:
        """Return the event of an entity that is absent."""
        entity = self._entity[slot]
        stopped = Stopped(
            self._input,
            self._rules.severity,
            entity,
            [entity],
            self._labels[slot],
            alive=self._rows.alive().size,
        )
        return stopped.event(self._rows, np.array([slot]), self._clocks.sources, time_s)
