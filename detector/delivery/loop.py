"""The deliverer's loop: from the alerts topic to every receiver, at least once, none waiting for another.

What happens in a turn, and what a crash after each of the steps costs:

1. poll        the events that are there. Nothing is lost: offsets are not committed.
2. follow      partitions that went: their episodes and letters are somebody else's. Partitions that came:
               what fires there is read back from the topic, so Alertmanagers hear of it without a pause; what
               is not committed is decided in its turn, as if for the first time.
3. collect     what the receivers' threads finished. Events that a receiver refused, or that failed for too
               long, go to the dead-letter topic, and the broker holds them before the next step.
4. commit      up to the first event that some receiver still lacks, noting how far was decided, so that a
               successor takes none of it for history. A crash from here on repeats nothing before the offset;
               later events are told again: an Alertmanager knows alerts by their labels, a webhook by the
               same webhook-id.
5. decide      whom each event is news for; the letters go to the receivers, whose threads send them.
6. expire      episodes that nothing was heard of.

When Kafka fails at any step, its clients are opened anew, and events come again from the committed offsets;
receivers keep their letters meanwhile and recognise those that come again.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue

from detector.batch import Source
from detector.delivery.alert import AlertRecord, UnreadableAlertError, decode_alert
from detector.delivery.dead_letters import DeadLetter, undelivered, unreadable
from detector.delivery.episodes import Episodes, Reading
from detector.delivery.mailbox import Ending, Finished, Letter
from detector.delivery.observer import DeliveryObserver
from detector.delivery.progress import Progress
from detector.delivery.receiver import Receiver
from detector.stream.port import (
    Consumer,
    FetchError,
    OffsetOutOfRangeError,
    Producer,
    RawRecords,
    UnreadableBatchError,
)
from detector.stream.session import Session
from detector.stream.watchdog import Watchdog

MAX_POLL_RECORDS = 500
POLL_TIMEOUT_S = 0.2
LOOK_INTERVAL_S = 1.0
"""Between two looks at lag and expiry."""
FLUSH_TIMEOUT_S = 15.0
"""For the brokers to acknowledge dead letters, before the clients are opened anew."""
REJOIN_TIMEOUT_S = 60.0
"""Partitions held before an outage and not assigned so long after it are somebody else's."""
STOP_TIMEOUT_S = 3.0
"""For requests in flight when asked to stop; what is not finished by then comes again."""

_log = logging.getLogger(__name__)


class DeliveryLoop:
    """Reads, decides and hands on until told to stop. One thread runs it; ``stop`` may come from any."""

    def __init__(
        self,
        alerts_topic: str,
        dead_letter_topic: str,
        open_consumer: Callable[[], Consumer],
        open_producer: Callable[[], Producer],
        read_back: Callable[[float], Iterator[RawRecords]],
        episodes: Episodes,
        receivers: Sequence[Receiver],
        finished: "SimpleQueue[Finished]",
        observer: DeliveryObserver,
        watchdog: Watchdog,
        *,
        read_back_s: float,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args:
        alerts_topic: Read.
        dead_letter_topic: Written.
        open_consumer: Connects a new consumer.
        open_producer: Connects a new producer.
        read_back: Reads the alerts topic from a time (seconds since 1970) to its end, all partitions.
        episodes: Decide.
        receivers: Started already; they put what they finish into ``finished``.
        finished: Read here.
        observer: Counts.
        watchdog: Fed at every step.
        read_back_s: How far to read back when a partition comes.
        wall_clock: Seconds since 1970.
        clock: Monotonic seconds.
        sleep: Waits so many of them.
        """
        self._alerts_topic = alerts_topic
        self._dead_letter_topic = dead_letter_topic
        self._read_back = read_back
        self._episodes = episodes
        self._receivers = list(receivers)
        self._finished = finished
        self._observer = observer
        self._read_back_s = read_back_s
        self._wall_clock = wall_clock
        self._clock = clock
        self._session = Session(
            [alerts_topic], open_consumer, open_producer, observer, watchdog, clock=clock, sleep=sleep
        )
        self._progress = Progress()
        self._held: set[Source] = set()
        self._unreadable: list[tuple[AlertRecord, DeadLetter]] = []
        self._decided: dict[Source, dict[int, list[Letter]]] = {}
        """By offset, of what is not committed yet: what is read again is the same news again."""
        self._seen_until: dict[Source, int] = {}
        """Events before that were decided, here or by whoever had the partition before."""
        self._held_up: dict[Source, int] = {}
        """At the last look, by the event at this offset."""
        self._noted: dict[Source, int] = {}
        """What is committed of ``_seen_until``."""
        self._look_due_s = 0.0
        self._opened_s = 0.0

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
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
        self._opened_s = self._clock()

    def forget(self) -> None:
        """Drop what is not committed; receivers recognise what they have had. See ``Work``."""
        self._progress.forget_everything()
        self._unreadable = []
        self._observer.lag({})

    def finish(self, consumer: Consumer, producer: Producer) -> None:
        """Stop the receivers and commit what they finished; see ``Work``."""
        self._stop_receivers()
        self._collect(producer)
        self._commit(consumer)

    def turn(self, consumer: Consumer, producer: Producer) -> None:
        """Take one poll to the receivers, and what they finished to the broker.

        Raises:
            KafkaClientError: Kafka failed; open the clients anew.
        """
        self._session.alive()
        # 1. Poll.
        raw = self._poll(consumer)
        # 2. Follow the assignment.
        self._follow_assignment(consumer)
        # 3. Collect.
        self._collect(producer)
        # 4. Commit.
        self._commit(consumer)
        # 5. Decide.
        if raw is not None:
            written_s = raw.timestamps_s().tolist() if len(raw) else []
            for i, record in _alert_records(raw):
                self._decide(record, written_s[i])
        # 6. Expire.
        if self._clock() >= self._look_due_s:
            self._look_due_s = self._clock() + LOOK_INTERVAL_S
            if self._clock() - self._opened_s > REJOIN_TIMEOUT_S:
                self._let_go(self._held - consumer.assigned())
            self._note(consumer)
            lag = consumer.lag()
            self._expire({source for source, records in lag.items() if records == 0})
            self._observer.lag(lag)
            self._observer.open_episodes(self._episodes.open_episodes())
        self._session.works(idle=raw is not None and len(raw) == 0)

    def _poll(self, consumer: Consumer) -> RawRecords | None:
        try:
            return consumer.poll(MAX_POLL_RECORDS, POLL_TIMEOUT_S)
        except OffsetOutOfRangeError as error:
            _log.error("alert events were lost before they were read: %s", error)
        except FetchError as error:
            _log.error("%s", error)
            self._session.wait(1.0)
        except UnreadableBatchError as error:
            _log.error("alert events were lost: %s", error)
        return None

    def _follow_assignment(self, consumer: Consumer) -> None:
        revoked, assigned = consumer.take_revoked(), consumer.take_assigned()
        if not revoked and not assigned:
            return
        held = consumer.assigned()
        # After an outage everything is assigned anew, and receivers keep what stays ours.
        self._let_go((self._held | set(revoked)) - held)
        self._forget(assigned)
        self._held = set(held)
        if assigned:
            self._session.joined()
            self._restore(consumer, set(assigned))
        self._observer.assigned(len(held))
        _log.info("%d partitions of %s are ours", len(held), self._alerts_topic)

    def _let_go(self, sources: Collection[Source]) -> None:
        """Leave partitions to their new owner, who repeats what fires there from now on."""
        for receiver in self._receivers:
            receiver.drop(sources)
        self._forget(sources)
        for source in sources:
            self._seen_until.pop(source, None)
        self._held -= set(sources)

    def _forget(self, sources: Collection[Source]) -> None:
        self._episodes.drop(sources)
        self._progress.forget(sources)
        for source in sources:
            self._decided.pop(source, None)
            self._noted.pop(source, None)

    def _restore(self, consumer: Consumer, sources: set[Source]) -> None:
        """Find out what fires on partitions that came, and let Alertmanagers hear of it at once."""
        now_s = self._wall_clock()
        committed = consumer.committed(sources)
        for source, at in committed.items():
            if at.note.isdecimal():
                self._seen_until[source] = max(int(at.note), self._seen_until.get(source, 0))
        events = 0
        for raw in self._read_back(now_s - self._read_back_s):
            self._session.alive()
            written_s = raw.timestamps_s().tolist()
            for i, record in _alert_records(raw):
                if record.source not in sources:
                    continue
                try:
                    alert = decode_alert(record.value)
                except UnreadableAlertError:
                    # It becomes a dead letter when it is read in its turn.
                    continue
                until = committed.get(record.source)
                delivered = until is not None and record.offset < until.next_offset
                self._episodes.restore(record, alert, _known(written_s[i], now_s), delivered=delivered)
                events += 1
        self._episodes.restored()
        standing = [(source, told) for source, told in self._episodes.standing(now_s) if source in sources]
        for receiver in self._receivers:
            receiver.adopt(standing)
        _log.info("read %d events back: %d episodes are open", events, self._episodes.open_episodes())

    def _collect(self, producer: Producer) -> None:
        """Note what is finished, dead letters once the broker holds them."""
        finished = []
        while True:
            try:
                finished.append(self._finished.get_nowait())
            except Empty:
                break
        letters = [letter for _, letter in self._unreadable]
        letters += [_dead_letter(each) for each in finished if each.ending is not Ending.DELIVERED]
        if letters:
            producer.send(
                self._dead_letter_topic,
                [letter.key for letter in letters],
                [letter.value for letter in letters],
                [letter.headers for letter in letters],
            )
            producer.flush(FLUSH_TIMEOUT_S)
            _log.error("%d dead letters on topic %s", len(letters), self._dead_letter_topic)
        for record, _ in self._unreadable:
            self._progress.done(record.source, record.offset, _DEAD_LETTER)
        self._unreadable = []
        for each in finished:
            record = each.letter.record
            self._progress.done(record.source, record.offset, _part(each.receiver, each.letter))

    def _commit(self, consumer: Consumer) -> None:
        self._commit_at(consumer, self._progress.next_offsets())

    def _note(self, consumer: Consumer) -> None:
        """Commit how far was decided where a receiver holds up the offset: a successor is to know."""
        held_up, before = self._progress.held_up(), self._held_up
        self._held_up = held_up
        offsets = {
            source: offset
            for source, offset in held_up.items()
            if before.get(source) == offset and self._noted.get(source) != self._seen_until[source]
        }
        self._commit_at(consumer, offsets)

    def _commit_at(self, consumer: Consumer, next_offsets: Mapping[Source, int]) -> None:
        if not next_offsets:
            return
        seen_until = {source: self._seen_until[source] for source in next_offsets}
        consumer.commit(next_offsets, {source: str(until) for source, until in seen_until.items()})
        self._session.committed()
        self._noted |= seen_until
        for source, next_offset in next_offsets.items():
            letters = self._decided.get(source, {})
            self._decided[source] = {at: letters[at] for at in letters if at >= next_offset}

    def _decide(self, record: AlertRecord, written_s: float) -> None:
        seen_until = self._seen_until.get(record.source, 0)
        self._seen_until[record.source] = max(seen_until, record.offset + 1)
        if not record.value:
            # A tombstone says nothing to anybody.
            self._progress.begin(record.source, record.offset, ())
            return
        before = self._decided.get(record.source, {}).get(record.offset)
        if before is not None:
            self._begin(record, before)
            return
        now_s = self._wall_clock()
        try:
            alert = decode_alert(record.value)
        except UnreadableAlertError as error:
            self._observer.read(Reading.UNREADABLE)
            self._progress.begin(record.source, record.offset, [_DEAD_LETTER])
            self._unreadable.append((record, unreadable(record, str(error))))
            return
        seen = record.offset < seen_until
        read = self._episodes.take(record, alert, _known(written_s, now_s), now_s, seen=seen)
        self._observer.read(read.reading)
        self._decided.setdefault(record.source, {})[record.offset] = read.letters
        self._begin(record, read.letters)

    def _begin(self, record: AlertRecord, letters: Sequence[Letter]) -> None:
        parts = [_part(receiver.id, letter) for letter in letters for receiver in self._receivers]
        self._progress.begin(record.source, record.offset, parts)
        self._hand_on(letters)

    def _expire(self, caught_up: set[Source]) -> None:
        letters = self._episodes.expire(caught_up, self._wall_clock())
        for letter in letters:
            _log.warning("%s", letter.notification.annotations["summary"])
            self._observer.expired()
        self._hand_on(letters)

    def _hand_on(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            for receiver in self._receivers:
                receiver.put(letter)

    def _stop_receivers(self) -> None:
        deadline_s = self._clock() + STOP_TIMEOUT_S
        for receiver in self._receivers:
            receiver.stop(max(0.0, deadline_s - self._clock()))


_DEAD_LETTER = "dead letter"


def _part(receiver: str, letter: Letter) -> str:
    return f"{receiver} {letter.notification.id}"


def _dead_letter(finished: Finished) -> DeadLetter:
    letter = finished.letter
    return undelivered(
        letter.record, finished.receiver, finished.ending.value, finished.detail, letter.notification.id
    )


def _alert_records(raw: RawRecords) -> Iterator[tuple[int, AlertRecord]]:
    """Yield row and record; there are few, so an object for each is fine here."""
    for i, value in enumerate(raw.value):
        source = raw.sources[int(raw.source[i])]
        yield i, AlertRecord(source, int(raw.offset[i]), raw.key(i), value or b"", raw.headers(i))


def _known(written_s: float, now_s: float) -> float:
    """Return when a record was written; Kafka may not say."""
    return now_s if math.isnan(written_s) else written_s
