"""A list-backed broker for tests of the loop: records, outputs, committed offsets, failures on demand."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.batch import Batch, IntArray, Scores, Source
from detector.stream.port import (
    BrokerUnavailableError,
    Committed,
    DeliveryError,
    Header,
    KafkaClientError,
    RawRecords,
    TopicMissingError,
)
from detector.stream.reasons import Reason
from tests.stream.records import ListEnvelope


@dataclass
class Written:
    """A record that a broker acknowledged."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]


@dataclass
class FakeBroker:
    """What survives a crash: records, committed offsets, outputs. Failures are set by the test."""

    records: dict[Source, list[bytes | None]]
    committed: dict[Source, int] = field(default_factory=dict)
    notes: dict[Source, str] = field(default_factory=dict)
    """Committed with the offsets."""
    written: list[Written] = field(default_factory=list)
    fail_next: dict[str, list[KafkaClientError]] = field(default_factory=dict)
    """Call name to the errors that its next calls raise."""
    missing_topics: set[str] = field(default_factory=set)
    limits: dict[str, int] = field(default_factory=dict)
    """Most bytes of a value, by topic; as in batches, one that is larger has others refused with it."""
    away: bool = False
    opened: int = 0
    closed: int = 0
    log: list[str] = field(default_factory=list)
    """Calls that matter, in order."""

    def call(self, name: str) -> None:
        self.log.append(name)
        if self.away:
            raise BrokerUnavailableError("no broker answers; start one")
        if self.fail_next.get(name):
            raise self.fail_next[name].pop(0)

    def topic(self, name: str) -> list[Written]:
        return [record for record in self.written if record.topic == name]

    def consumer(self) -> "FakeConsumer":
        self.call("open consumer")
        self.opened += 1
        return FakeConsumer(self)

    def producer(self) -> "FakeProducer":
        self.call("open producer")
        self.opened += 1
        return FakeProducer(self)


class FakeConsumer:
    """Reads the sources it is given, from the committed offsets on."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._position: dict[Source, int] = {}
        self._assigned: list[Source] = []
        self._revoked: list[Source] = []
        self.on_poll: Callable[[FakeConsumer], None] = lambda consumer: None

    def subscribe(self, topics: Sequence[str]) -> None:
        self._broker.call("subscribe")
        self.assign([source for source in self._broker.records if source.topic in topics])

    def assign(self, sources: Sequence[Source]) -> None:
        self._revoked += [source for source in self._position if source not in sources]
        self._assigned += [source for source in sources if source not in self._position]
        self._position = {
            source: self._position.get(source, self._broker.committed.get(source, 0)) for source in sources
        }

    def poll(self, max_records: int, timeout_s: float) -> RawRecords:
        self._broker.call("poll")
        self.on_poll(self)
        sources = tuple(self._position)
        source: list[int] = []
        offset: list[int] = []
        values: list[bytes | None] = []
        for i, (of, position) in enumerate(self._position.items()):
            taken = self._broker.records[of][position : position + max_records - len(values)]
            source += [i] * len(taken)
            offset += range(position, position + len(taken))
            values += taken
            self._position[of] = position + len(taken)
        n = len(values)
        return RawRecords(
            sources,
            np.array(source, dtype=np.int64),
            np.array(offset, dtype=np.int64),
            values,
            ListEnvelope([b"key"] * n, [[("trace", b"1")]] * n),
        )

    def take_revoked(self) -> list[Source]:
        taken, self._revoked = self._revoked, []
        return taken

    def take_assigned(self) -> list[Source]:
        taken, self._assigned = self._assigned, []
        return taken

    def assigned(self) -> frozenset[Source]:
        return frozenset(self._position)

    def commit(self, next_offsets: Mapping[Source, int], notes: Mapping[Source, str] | None = None) -> None:
        self._broker.call("commit")
        self._broker.committed.update(next_offsets)
        self._broker.notes.update({source: (notes or {}).get(source, "") for source in next_offsets})

    def committed(self, sources: Collection[Source]) -> dict[Source, Committed]:
        return {
            source: Committed(offset, self._broker.notes.get(source, ""))
            for source, offset in self._broker.committed.items()
            if source in sources
        }

    def seek(self, positions: Mapping[Source, int]) -> None:
        self._position.update(positions)

    def seek_to_committed(self) -> None:
        self._broker.call("seek")
        self._position = {source: self._broker.committed.get(source, 0) for source in self._position}

    def lag(self) -> dict[Source, int]:
        return {
            source: len(self._broker.records[source]) - position
            for source, position in self._position.items()
        }

    def close(self) -> None:
        self._broker.closed += 1


class FakeProducer:
    """Queues what is sent; the broker has it once flushed."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._queue: list[Written] = []

    def find(self, topic: str) -> None:
        if topic in self._broker.missing_topics:
            raise TopicMissingError(f"topic {topic!r} does not exist; create it")

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header]] | None = None,
    ) -> None:
        self._broker.call("send")
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            self._queue.append(Written(topic, key, value, list(headers[i]) if headers else []))

    def flush(self, timeout_s: float) -> None:
        try:
            self._broker.call("flush")
        except BrokerUnavailableError as error:
            raise DeliveryError("unacknowledged", refused=0, pending=len(self._queue)) from error
        sent, self._queue = self._queue, []
        limits = self._broker.limits
        too_large = {w.topic for w in sent if len(w.value or b"") > limits.get(w.topic, 10**6)}
        self._broker.written += [w for w in sent if w.topic not in too_large]
        refused = sum(w.topic in too_large for w in sent)
        if refused:
            raise DeliveryError("too large", refused=refused, pending=0, too_large=too_large)

    def close(self) -> None:
        self._broker.closed += 1


class RecordingObserver:
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.records = 0
        self.lost_records = 0
        self.statuses: list[str] = []
        self.reasons: dict[Reason, int] = {}
        self.missing_values: dict[str, int] = {}
        self.events: list[AlertEvent] = []
        self.incidents: list[tuple[str, str]] = []
        self.absences: list[AbsenceEvent] = []
        self.absent_entities = 0
        self.gone: list[str] = []
        self.told: dict[tuple[Source, str], float] = {}
        self.untold: list[int] = []
        self.refused_by: list[str] = []
        self.on_two_sources = 0
        self.partitions = 0
        self.reachable: list[bool] = []
        self.problem = ""
        self.behind: Mapping[Source, int] = {}
        self.beats = 0
        self.batches: list[tuple[str, int]] = []

    def polled(self, input: str, records: int) -> None:
        self.records += records

    def lost(self, input: str, records: int) -> None:
        self.lost_records += records

    def rejected(self, input: str, reason: Reason, records: int) -> None:
        self.reasons[reason] = self.reasons.get(reason, 0) + records

    def refused(self, topic: str) -> None:
        self.refused_by.append(topic)

    def missing(self, input: str, missing_per_feature: Mapping[str, int]) -> None:
        for name, count in missing_per_feature.items():
            self.missing_values[name] = self.missing_values.get(name, 0) + count

    def scored(
        self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent], now_s: float
    ) -> None:
        self.statuses += [str(status) for status in scores.status.tolist()]
        self.events += events

    def still_firing(
        self, detector: str, sources: Collection[Source], alerts: Sequence[tuple[AlertEvent, float]]
    ) -> None:
        others = {key: left_s for key, left_s in self.told.items() if key[0] not in sources}
        self.told = {**others, **{(event.source, event.entity): left_s for event, left_s in alerts}}

    def not_recalled(self, partitions: int, problem: str = "") -> None:
        self.untold.append(partitions)

    def interrupted(self) -> None:
        """Nothing is added up."""

    def incident(self, detector: str, transition: str) -> None:
        self.incidents.append((detector, transition))

    def steered(self, detector: str, entities: int) -> None:
        self.steered_entities = entities

    def absence(self, event: AbsenceEvent) -> None:
        self.absences.append(event)

    def absent(self, input: str, entities: int, firing: Sequence[AbsenceEvent]) -> None:
        self.absent_entities = entities

    def forgotten(self, detector: str, slots: IntArray, entities: Sequence[str]) -> None:
        self.gone += entities

    def batch_done(self, input: str, records: int, seconds: float) -> None:
        self.batches.append((input, records))

    def lag(self, lag: Mapping[Source, int]) -> None:
        self.behind = lag

    def entity_on_two_sources(self, input: str, entities: int) -> None:
        self.on_two_sources += entities

    def assigned(self, partitions: int) -> None:
        self.partitions = partitions

    def broker(self, reachable: bool, problem: str = "") -> None:
        self.reachable.append(reachable)
        self.problem = problem

    def heartbeat(self, monotonic_s: float) -> None:
        self.beats += 1


class FakeClock:
    """Monotonic seconds that pass only in ``sleep`` and, a little, with every look."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
