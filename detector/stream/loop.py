"""The loop: records from Kafka through decoding and scoring to topics and metrics, at least once.

What happens to a poll, and what a crash after each of the steps costs:

1. poll        whatever is there, without waiting to fill a batch. Nothing is lost: offsets are not committed.
               Before it, versions that arrived take over.
2. follow      partitions that went: their state is forgotten. Partitions that came: they start afresh, but
               for alerts that are open, which the alerts topic tells; where it cannot be read, they do so
               again once it can.
3. decode      bad records aside. Decoding remembers nothing.
4. place       every entity has its slot in the state arrays; those that are gone for good lose theirs. Who
               sends how often is forgotten with a crash: nobody is missed before it is learnt again.
5. process     score, decide, learn. The state in memory is ahead of the committed offsets from here on, so it
               is dropped after any failure; a crash drops it anyway. Scores then say ``warming_up``;
               open alerts go on as in step 2.
6. write       scores, alerts and dead letters are queued. A crash loses the queue; the records come again.
7. flush       the broker holds every output; of what its topic refuses for its size, less. A crash from
               here on repeats them; ids of alerts are the same.
8. commit      the next offsets, at most every 0.2 s. A crash from here on repeats nothing.
9. observe     metrics, once per batch. A crash loses counts, never records.

With a client that allows it, and where records wait, steps 7 to 9 of a poll come between steps 5 and 6 of
the next: the brokers acknowledge while this process works. Otherwise, and at the end, they come at once.

When Kafka fails at any step, everything is dropped and opened anew, and work resumes from the committed
offsets: one way out of every failure is easier to trust than a way for each.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from detector.alerting.absence_event import LASTS_S, AbsenceEvent
from detector.batch import Source
from detector.stream.answered import Answered, Outputs
from detector.stream.input import Input
from detector.stream.observer import Observer
from detector.stream.port import (
    BrokerUnavailableError,
    Column,
    Consumer,
    DeliveryError,
    FetchError,
    KafkaClientError,
    OffsetOutOfRangeError,
    Producer,
    RawRecords,
    UnreadableBatchError,
)
from detector.stream.recall import Recalled
from detector.stream.routing import select, split
from detector.stream.session import Session
from detector.stream.watchdog import Watchdog

MAX_POLL_RECORDS = 10_000
FIRST_POLL_RECORDS, LONGEST_TURN_S = 500, 5.0
"""Records may cost much, where many alert or each lacks other values: a turn that took longer is followed by
smaller ones. So are the first: what once took too long for the watchdog must not do so at every restart."""
POLL_TIMEOUT_S = 0.2
"""Bounds how long a request to stop waits while there is nothing to read."""
DELIVERY_TIMEOUT_S = 60.0
"""For the brokers to acknowledge a batch, before the clients are opened anew."""
DELIVERY_TIMEOUT_WHEN_STOPPING_S = 4.0
MISSED_AFTER_S = 3.0
"""A flush that waited so long is told of: the brokers may be gone, for longer than a delivery may take. Or a
topic was deleted: kafka-python waits for it to come back."""
LAG_INTERVAL_S = 1.0
COMMIT_INTERVAL_S = 0.2
"""Between two commits while records wait: each costs a round trip, and a crash repeats what came since."""
REJOIN_TIMEOUT_S = 60.0
"""Partitions held before an outage, where none is assigned so long after it, are somebody else's."""
RECALL_AGAIN_S, LONGEST_RECALL_AGAIN_S = 2.0, 30.0
"""After the alerts topic could not be read back: at first, and after doubling again and again."""
CONTROL_TIMEOUT_S = 10.0
"""For windows of maintenance to be known before the first record is scored."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A poll whose outputs were sent and may not be acknowledged yet."""

    answered: list[Answered]
    absences: list[AbsenceEvent]
    next_offsets: dict[Source, int]
    started_s: float


class Loop:
    """Reads, scores and writes until told to stop. One thread runs it; ``stop`` may come from any."""

    def __init__(
        self,
        inputs: Sequence[Input],
        outputs: Outputs,
        open_consumer: Callable[[], Consumer],
        open_producer: Callable[[], Producer],
        observer: Observer,
        watchdog: Watchdog,
        *,
        max_poll_records: int = MAX_POLL_RECORDS,
        commit_interval_s: float = COMMIT_INTERVAL_S,
        overlap: bool = False,
        windows_known: Callable[[], bool] | None = None,
        recall: Callable[[Collection[Source], Callable[[], object]], Recalled] | None = None,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args:
        inputs: Each topic belongs to exactly one of them.
        outputs: Where answers go.
        open_consumer: Connects a new consumer.
        open_producer: Connects a new producer.
        observer: Told of everything that was committed.
        watchdog: Fed at every step.
        max_poll_records: Most records of a turn: memory and latency against speed.
        commit_interval_s: Between two commits while records wait.
        overlap: Whether to process a poll before the one before is acknowledged and committed. Not with
            kafka-python: a commit after a second poll may meet a rebalance that it does not recover from.
        windows_known: Whether the windows of maintenance that were announced so far are known.
        recall: Returns what the alerts topic tells of the entities of partitions; the other argument is to
            be called now and then meanwhile.
        wall_clock: Seconds since 1970; bounds event times and gives delays.
        clock: Monotonic seconds.
        sleep: Waits so many of them.
        """
        self._inputs = list(inputs)
        self._input_of = {topic: input for input in inputs for topic in input.topics}
        self._outputs = outputs
        self._observer = observer
        self._max_poll_records = max_poll_records
        self._poll_records = min(max_poll_records, FIRST_POLL_RECORDS)
        self._commit_interval_s = commit_interval_s
        self._overlap = overlap
        self._windows_known = windows_known
        self._read_back = recall
        self._held: frozenset[Source] = frozenset()
        """Partitions whose alerts and absences are shown; during an outage those of before."""
        self._recalled: set[Source] = set()
        """Partitions of which it is known what was told."""
        self._untold: set[Source] = set()
        """Partitions whose records are scored although that could not be read back."""
        self._recall_due_s = 0.0
        self._recall_again_s = RECALL_AGAIN_S
        self._wall_clock = wall_clock
        self._clock = clock
        self._sleep = sleep
        self._session = Session(
            self._input_of,
            open_consumer,
            open_producer,
            observer,
            watchdog,
            writes=outputs.topics,
            consequence=", with entity state starting afresh",
            clock=clock,
            sleep=sleep,
        )
        self._connected_s = 0.0
        self._turned_s = 0.0
        self._lag_due_s = 0.0
        self._commit_due_s = 0.0
        self._sent: _Sent | None = None
        self._unflushed: list[Column] = []
        """What was sent since the last flush."""
        self._uncommitted: dict[Source, int] = {}
        """Next offsets whose outputs are acknowledged."""
        self._unfinished: set[Source] = set()
        """Sources of records that were answered, the answers not yet committed: also where that failed, until
        it succeeds. A broker that only lets itself be read does not work."""
        self._unreadable: dict[Source, range] = {}
        """Batches that the last poll passed over."""
        self._processed: dict[Source, int] = {}
        """Next offset that the state of a source's entities has not seen."""

    def stop(self) -> None:
        """Ask the loop to finish its turn, leave the group and return; safe in a signal handler."""
        self._session.stop()

    def run(self) -> None:
        """Turn until ``stop``, over all outages of the broker.

        Raises:
            ClientSettingsError: The settings can never work.
            ClientFailedError: The client is beyond repair; a new process may work.
        """
        self._session.run(self)

    def connected(self) -> None:
        """Both clients are open; see ``Work``."""
        self._connected_s = self._clock()
        self._await_windows()

    def _await_windows(self) -> None:
        """Wait until it is known what is in maintenance, but not for ever."""
        if self._windows_known is None:
            return
        until_s = self._clock() + CONTROL_TIMEOUT_S
        while not self._windows_known() and not self._session.stopping:
            if self._clock() >= until_s:
                _log.error(
                    "the control topic was not read within %.0f s; scoring begins with the windows of "
                    "maintenance that are known",
                    CONTROL_TIMEOUT_S,
                )
                return
            self._session.alive()
            self._sleep(0.05)

    def turn(self, consumer: Consumer, producer: Producer) -> None:
        """Take one poll as far as its writing, and the one before to its end.

        Raises:
            KafkaClientError: Kafka failed. State is ahead of the committed offsets: forget it, start again.
        """
        self._session.alive()
        for input in self._inputs:
            input.take_arrivals()
        # 1. Poll.
        raw = self._poll(consumer)
        self._turned_s = self._clock()
        # 2. Follow the assignment.
        self._follow_assignment(consumer, producer)
        self._recall(consumer, producer)
        self._pass_over(consumer, producer)
        raw = self._not_processed(raw)
        if raw is None or len(raw) == 0:
            self._settle(consumer, producer, commit_now=True)
            absences = [] if raw is None else self._absences()
            if absences:
                self._send(producer, self._outputs.of_absences(absences))
                self._sent = _Sent([], absences, {}, self._clock())
                self._settle(consumer, producer, commit_now=True)
            self._observe_lag(consumer)
            return
        # From here, so that waiting for records is not counted as work.
        started_s, now_s = self._clock(), self._wall_clock()
        answered = []
        next_offsets = _next_offsets(raw)
        for input, records in split(raw, self._input_of):
            # 3. Decode.
            batch, rejected = input.codec.decode(records, now_s)
            # 4. Place.
            slots = input.table.place(batch)
            if input.presence is not None and len(batch):
                input.presence.saw(batch, slots, now_s, started_s)
            gone = input.gone(self._observer, batch, slots, now_s)
            if gone.size:
                # Settled while slots still belong to the entities that were answered.
                self._settle(consumer, producer, commit_now=True)
                input.drop_gone(self._observer, gone)
            for arrivals in input.arrivals:
                arrivals.seen(slots)
            # 5. Process.
            answers = []
            for watch in input.watches if len(batch) else ():
                self._session.alive()
                answers.append(watch.process(batch, slots))
            incidents = [incident for watch in input.watches for incident in watch.take_incidents()]
            answered.append(Answered(input, records, rejected, batch, slots, answers, incidents))
            self._session.alive()
        self._pace(len(raw), self._clock() - started_s)
        self._processed.update(next_offsets)
        absences = self._absences()
        # 7 to 9, of the poll before.
        self._settle(consumer, producer)
        # 6. Write.
        self._unfinished |= next_offsets.keys()
        for part in answered:
            for column in self._outputs.of(part):
                self._send(producer, column)
        if absences:
            self._send(producer, self._outputs.of_absences(absences))
        self._sent = _Sent(answered, absences, next_offsets, started_s)
        if not self._overlap:
            self._settle(consumer, producer, commit_now=True)
        self._observe_lag(consumer)

    def _pace(self, records: int, seconds: float) -> None:
        """Have the next polls return as many records as are processed in good time."""
        if seconds > LONGEST_TURN_S:
            self._poll_records = max(1, int(records * LONGEST_TURN_S / seconds))
        elif seconds < LONGEST_TURN_S / 4 and records >= self._poll_records / 2:
            self._poll_records = min(self._max_poll_records, 2 * self._poll_records)

    def finish(self, consumer: Consumer, producer: Producer) -> None:
        """Settle the last turn; see ``Work``."""
        self._settle(consumer, producer, commit_now=True)

    def _settle(self, consumer: Consumer, producer: Producer, *, commit_now: bool = False) -> None:
        """Bring what was sent to its end, if anything was: acknowledged, committed, counted.

        Args:
            consumer: Commits.
            producer: Has sent.
            commit_now: Whether to commit even if the last commit was a moment ago.
        """
        sent, self._sent = self._sent, None
        if sent is not None:
            # 7. Flush.
            self._flush(producer)
            self._uncommitted.update(sent.next_offsets)
        # 8. Commit.
        if self._uncommitted and (commit_now or self._clock() >= self._commit_due_s):
            consumer.commit(self._uncommitted)
            self._unfinished -= self._uncommitted.keys()
            self._uncommitted = {}
            self._session.committed()
            self._commit_due_s = self._clock() + self._commit_interval_s
        # 9. Observe.
        if (sent is not None or commit_now) and not self._cannot_write(consumer):
            self._session.works(idle=sent is None)
        if sent is not None:
            for part in sent.answered:
                part.report(self._observer, self._wall_clock())
                seconds = self._clock() - sent.started_s
                self._observer.batch_done(part.input.name, len(part.records), seconds)
            for event in sent.absences:
                self._observer.absence(event)
            self._observe_absent()

    def _cannot_write(self, consumer: Consumer) -> bool:
        """Return whether answers of records that are still ours could not be written and committed."""
        if not self._unfinished:
            return False
        held = consumer.assigned()
        if self._unfinished & held or (not held and self._clock() - self._connected_s < REJOIN_TIMEOUT_S):
            return True
        self._unfinished = set()
        return False

    def _poll(self, consumer: Consumer) -> RawRecords | None:
        """Return the next records, None where the broker answered with a loss or something unreadable."""
        try:
            return consumer.poll(self._poll_records, 0.0 if self._sent else POLL_TIMEOUT_S)
        except OffsetOutOfRangeError as error:
            _log.error("records were lost before they were read: %s", error)
            for source, records in error.lost.items():
                self._observer.lost(self._input_of[source.topic].name, records)
            # Of a topic that was made anew, offsets count from the beginning.
            self._processed.clear()
        except FetchError as error:
            _log.error("%s", error)
            # The same batch is tried again: not as fast as the processor can.
            self._session.wait(1.0)
        except UnreadableBatchError as error:
            _log.error("%s", error)
            self._unreadable = error.passed
        return None

    def _pass_over(self, consumer: Consumer, producer: Producer) -> None:
        """Tell of batches that cannot be read, and have the group go on behind them."""
        held = consumer.assigned()
        passed = {source: batch for source, batch in self._unreadable.items() if source in held}
        self._unreadable = {}
        if not passed:
            return
        self._settle(consumer, producer, commit_now=True)
        for source, batch in passed.items():
            letter = self._outputs.of_unreadable(self._input_of[source.topic].name, source, batch)
            self._send(producer, letter)
        self._flush(producer)
        next_offsets = {source: batch.stop for source, batch in passed.items()}
        consumer.commit(next_offsets)
        self._processed.update(next_offsets)
        for source, batch in passed.items():
            self._observer.lost(self._input_of[source.topic].name, len(batch))

    def _not_processed(self, raw: RawRecords | None) -> RawRecords | None:
        """Leave out what came again although its outputs were sent: a rebalance that changes nothing for us
        begins at the committed offsets, and our state is ahead of them."""
        if raw is None or len(raw) == 0:
            return raw
        ahead = np.array([self._processed.get(source, 0) for source in raw.sources])[raw.source]
        again = raw.offset < ahead
        return select(raw, ~again) if again.any() else raw

    def _follow_assignment(self, consumer: Consumer, producer: Producer) -> None:
        revoked, assigned = consumer.take_revoked(), consumer.take_assigned()
        if (revoked or assigned) and self._sent is not None:
            # Settled while slots still belong to the entities that were answered.
            self._disown(revoked)
            self._settle(consumer, producer, commit_now=True)
        # What is assigned may have been read by somebody else since we last had it.
        self._unfinished -= set(revoked)
        for source in dict.fromkeys(revoked + assigned):
            self._processed.pop(source, None)
            self._recalled.discard(source)
            self._input_of[source.topic].forget(self._observer, source)
        if revoked or assigned:
            self._show_only(consumer.assigned(), revoked)
            self._untold = (self._untold & consumer.assigned()).difference(revoked, assigned)
            if not self._untold:
                self._observer.not_recalled(0)
        if revoked:
            _log.info("partitions given to others: %s", _listed(revoked))
        if assigned:
            self._session.joined()
            _log.info("partitions assigned: %s", _listed(assigned))
        if revoked or assigned:
            self._observer.assigned(len(consumer.assigned()))

    def _recall(self, consumer: Consumer, producer: Producer) -> None:
        """Go on with the alerts that are open on partitions whose state starts afresh.

        Where the alerts topic cannot be read, records are scored all the same, and it is tried again. What
        was decided by then is on that topic as well, so their state starts afresh once more.
        """
        if self._read_back is None:
            return
        came = consumer.assigned() - self._recalled
        if not came or (came <= self._untold and self._clock() < self._recall_due_s):
            return
        late = came & self._untold
        if late:
            self._settle(consumer, producer, commit_now=True)
        try:
            recalled = self._read_back(came, self._session.alive)
        except KafkaClientError as error:
            self._not_recalled(came, error)
            return
        self._recalled |= came
        self._untold, self._recall_again_s = set(), RECALL_AGAIN_S
        self._observer.not_recalled(0)
        if recalled.any:
            for source in late:
                self._input_of[source.topic].forget(self._observer, source)
        for input in self._inputs:
            for watch in input.watches:
                watch.recall(came, recalled.alerts, recalled.incidents)
                self._observer.still_firing(watch.name, came, recalled.firing(watch.name))
            if input.presence is not None:
                input.presence.recall(came, recalled.absences)
        self._observe_absent()
        if recalled.open:
            _log.info("%d alerts are open on %s, and go on", recalled.open, _listed(sorted(came)))

    def _not_recalled(self, came: frozenset[Source], error: KafkaClientError) -> None:
        if not self._untold:
            _log.warning(
                "what alerts are open on %s is not known, so they may be raised anew; trying again: %s",
                _listed(sorted(came)),
                error,
            )
        self._untold = set(came)
        self._observer.not_recalled(len(came), str(error))
        self._recall_due_s = self._clock() + self._recall_again_s
        self._recall_again_s = min(2 * self._recall_again_s, LONGEST_RECALL_AGAIN_S)

    def _show_only(self, held: frozenset[Source], revoked: Collection[Source] = ()) -> None:
        """Leave what is open on partitions that went to their new owner to show."""
        gone, self._held = (self._held | set(revoked)) - held, held
        if not gone:
            return
        for watch in (watch for input in self._inputs for watch in input.watches):
            self._observer.still_firing(watch.name, gone, [])
        self._observe_absent()

    def _observe_absent(self) -> None:
        for input in self._inputs:
            if input.presence is not None:
                self._observer.absent(input.name, input.presence.absent(), input.presence.firing())

    def _disown(self, revoked: Sequence[Source]) -> None:
        """Leave the offsets of partitions that went to their new owner to commit."""
        self._uncommitted = {s: o for s, o in self._uncommitted.items() if s not in revoked}
        if self._sent is not None:
            kept = {s: o for s, o in self._sent.next_offsets.items() if s not in revoked}
            self._sent = replace(self._sent, next_offsets=kept)

    def _absences(self) -> list[AbsenceEvent]:
        """Return who is missed since now, and who no longer."""
        events: list[AbsenceEvent] = []
        for input in self._inputs:
            if input.presence is not None:
                input.presence.check()
                input.presence.check_silence(self._clock())
                events += input.presence.take_events()
        return events

    def _send(self, producer: Producer, column: Column) -> None:
        self._unflushed.append(column)
        producer.send(*column)

    def _flush(self, producer: Producer) -> None:
        """Return when the brokers hold everything that they take.

        Raises:
            DeliveryError: Something was refused, not for its size, or not acknowledged in time.
            TopicMissingError: A topic exists no more.
        """
        sent, self._unflushed = self._unflushed, []
        try:
            self._await_flush(producer)
        except DeliveryError as error:
            if not error.too_large:
                raise
            became: Counter[tuple[str, str]] = Counter()
            for column in sent:
                if column.topic in error.too_large:
                    self._send_smaller(producer, column, became)
            for (topic, fate), records in became.items():
                _log.error(
                    "topic %s refuses %d records for their size, which %s; raise its max.message.bytes",
                    topic,
                    records,
                    fate,
                )

    def _send_smaller(self, producer: Producer, column: Column, became: Counter[tuple[str, str]]) -> None:
        """Send again what a topic refused for its size: in ever smaller parts, since it may have been that of
        a batch, and a single record with less in it, or not at all. Count what became of these."""
        try:
            producer.send(*column)
            self._await_flush(producer)
            return
        except DeliveryError as error:
            if not error.too_large:
                raise
        n = len(column.values)
        if n > 1:
            self._send_smaller(producer, column.part(slice(n // 2)), became)
            self._send_smaller(producer, column.part(slice(n // 2, n)), became)
            return
        smaller = self._outputs.smaller(column)
        if smaller is None:
            became[column.topic, "are lost"] += 1
            self._observer.refused(column.topic)
            return
        if smaller.topic == column.topic:
            became[column.topic, "have less in them"] += 1
        else:
            became[column.topic, "are dead letters"] += 1
            self._observer.refused(column.topic)
        self._send_smaller(producer, smaller, became)

    def _await_flush(self, producer: Producer) -> None:
        """Flush in short pieces, so that a request to stop is heard; raises as ``_flush`` does."""
        started_s = self._clock()
        while True:
            try:
                producer.flush(1.0)
                return
            except DeliveryError as error:
                self._session.alive()
                limit_s = DELIVERY_TIMEOUT_WHEN_STOPPING_S if self._session.stopping else DELIVERY_TIMEOUT_S
                waited_s = self._clock() - started_s
                if error.refused or waited_s > limit_s:
                    raise
                if waited_s > MISSED_AFTER_S:
                    self._session.late(error)
                    with suppress(BrokerUnavailableError):
                        self._session.find_outputs(producer)

    def _observe_lag(self, consumer: Consumer) -> None:
        # It may ask the client for every partition, which is too dear for every turn.
        now = self._clock()
        if now >= self._lag_due_s:
            self._lag_due_s = now + LAG_INTERVAL_S
            if now - self._connected_s > REJOIN_TIMEOUT_S:
                self._show_only(consumer.assigned())
            lag = consumer.lag()
            self._observer.lag(lag)
            for input in self._inputs:
                if input.presence is not None:
                    input.presence.lags(lag, now)

    def forget(self) -> None:
        """Drop what is ahead of the committed offsets, the state of all entities with it; see ``Work``."""
        self._sent = None
        self._unflushed = []
        self._uncommitted = {}
        self._unreadable = {}
        self._processed = {}
        self._recalled = set()
        self._recall_due_s = 0.0
        self._observer.interrupted()
        for input in self._inputs:
            input.forget_everything(self._observer)
        if self._clock() - self._turned_s > LASTS_S:
            self._observe_absent()
        self._observer.lag({})


def _next_offsets(raw: RawRecords) -> dict[Source, int]:
    """Return, per source of a poll, the offset after its last record."""
    highest = np.full(len(raw.sources), -1, dtype=np.int64)
    np.maximum.at(highest, raw.source, raw.offset)
    return {
        source: offset + 1
        for source, offset in zip(raw.sources, highest.tolist(), strict=True)
        if offset >= 0
    }


def _listed(sources: Sequence[Source]) -> str:
    return ", ".join(f"{source.topic}[{source.partition}]" for source in sources)
