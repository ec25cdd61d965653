"""A loop's two clients: opened, closed, and opened anew for as long as Kafka fails.

One way out of every failure is easier to trust than a way for each: both clients are dropped, and with them
all that is not committed; work resumes from the committed offsets.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Protocol

from detector.stream.outage import Outage
from detector.stream.port import (
    IDLE_PROBE_S,
    ClientFailedError,
    ClientSettingsError,
    CommitError,
    Consumer,
    DeliveryError,
    KafkaClientError,
    Producer,
    TopicMissingError,
)
from detector.stream.watchdog import Watchdog

COMMITS_TRIED = 3
"""In a row, with the same client, before it is opened anew."""

_log = logging.getLogger(__name__)


class Work(Protocol):
    """What is done with the clients, a turn at a time."""

    def connected(self) -> None:
        """Both clients are open and nothing was read yet."""
        ...

    def turn(self, consumer: Consumer, producer: Producer) -> None:
        """Go on a little.

        Raises:
            KafkaClientError: Kafka failed.
        """
        ...

    def forget(self) -> None:
        """Drop all that is ahead of the committed offsets: it comes again."""
        ...

    def finish(self, consumer: Consumer, producer: Producer) -> None:
        """Bring what was begun to its end, after a request to stop.

        Raises:
            KafkaClientError: Kafka failed.
        """
        ...


class SessionObserver(Protocol):
    """Who is told how it goes; see ``Observer``."""

    def assigned(self, partitions: int) -> None: ...
    def broker(self, reachable: bool, problem: str = "") -> None: ...
    def heartbeat(self, now_s: float) -> None: ...


class Session:
    """Keeps work going over all outages until told to stop; ``stop`` may come from any thread."""

    def __init__(
        self,
        topics: Collection[str],
        open_consumer: Callable[[], Consumer],
        open_producer: Callable[[], Producer],
        observer: SessionObserver,
        watchdog: Watchdog,
        *,
        writes: Collection[str] = (),
        consequence: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args:
        topics: Read.
        open_consumer: Connects a new consumer.
        open_producer: Connects a new producer.
        observer: Told of outages, and that the loop lives.
        watchdog: Fed at every step.
        writes: Topics without which nothing is read: what is read might have to be written there.
        consequence: What else it means that work resumes from the committed offsets, for the log.
        clock: Monotonic seconds.
        sleep: Waits so many of them.
        """
        self._topics = topics
        self._writes = writes
        self._open_consumer = open_consumer
        self._open_producer = open_producer
        self._observer = observer
        self._watchdog = watchdog
        self._consequence = consequence
        self._clock = clock
        self._sleep = sleep
        self._outage = Outage(clock, consequence)
        self._commits_failed = 0
        self._joined_s = 0.0
        self._late = False
        self.stopping = False

    def stop(self) -> None:
        """Ask the work to end; safe in a signal handler."""
        # A plain flag: a signal handler may interrupt whoever holds a lock.
        self.stopping = True
        self._watchdog.stop_asked()

    def run(self, work: Work) -> None:
        """Turn until ``stop``.

        Raises:
            ClientSettingsError: The settings can never work.
            ClientFailedError: The client is beyond repair; a new process may work.
        """
        while not self.stopping:
            try:
                self._run_connected(work)
            except (ClientSettingsError, ClientFailedError):
                raise
            except KafkaClientError as error:
                self._late = False
                self._outage.failed(error)
                self._observer.broker(False, str(error))
                self._observer.assigned(0)
                work.forget()
                self.wait(self._outage.back_off_s())

    def _run_connected(self, work: Work) -> None:
        """Open both clients and turn until one fails or the work is to end."""
        self.alive()
        producer = self._open_producer()
        try:
            self.find_outputs(producer)
            self.alive()
            consumer = self._open_consumer()
            try:
                consumer.subscribe(sorted(self._topics))
                self.joined()
                work.connected()
                self._turn_until_stopped(work, consumer, producer)
            finally:
                self.alive()
                consumer.close()
        finally:
            self.alive()
            producer.close()

    def find_outputs(self, producer: Producer) -> None:
        """Return where all topics to be written to exist.

        Raises:
            TopicMissingError: Names all that do not.
        """
        missing = []
        for topic in self._writes:
            self.alive()
            try:
                producer.find(topic)
            except TopicMissingError:
                missing.append(topic)
        if missing:
            raise TopicMissingError(
                f"output topics {', '.join(missing)} do not exist; create them, or correct outputs in the "
                "configuration"
            )

    def _turn_until_stopped(self, work: Work, consumer: Consumer, producer: Producer) -> None:
        self._commits_failed = 0
        while not self.stopping:
            try:
                work.turn(consumer, producer)
            except CommitError as error:
                # Usually the group rearranged itself meanwhile. Leaving it would rearrange it again, and
                # the others' commits would fail in turn.
                self._commits_failed += 1
                if self._commits_failed == COMMITS_TRIED:
                    raise
                _log.warning("%s; going on from the committed offsets%s", error, self._consequence)
                work.forget()
                # The turn may have ended before it told of partitions that came or went.
                self._observer.assigned(len(consumer.assigned()))
                consumer.seek_to_committed()
        work.finish(consumer, producer)

    def committed(self) -> None:
        """Note that offsets could be committed."""
        self._commits_failed = 0

    def joined(self) -> None:
        """Note that partitions came, of which nothing was read yet."""
        self._joined_s = self._clock()

    def works(self, *, idle: bool) -> None:
        """Note a turn in which the brokers answered, and took what there was to write.

        Args:
            idle: Whether nothing was there to be read. That nobody answers, or that reading is denied, looks
                the same at first, so it ends an outage only when it lasts.
        """
        if idle and self._outage.lasts and self._clock() - self._joined_s < IDLE_PROBE_S:
            return
        self._observer.broker(True)
        self._outage.over()
        if self._late:
            _log.info("what was written is acknowledged")
            self._late = False

    def late(self, error: DeliveryError) -> None:
        """Note that the brokers have long acknowledged nothing, though that may still come.

        Args:
            error: What is unacknowledged.
        """
        if not self._late:
            _log.warning("Kafka is slow, or gone: %s. Not ready until what was written is there", error)
        self._late = True
        self._observer.broker(False, str(error))

    def alive(self) -> None:
        """Note that nothing hangs."""
        self._watchdog.feed()
        self._observer.heartbeat(self._clock())

    def wait(self, seconds: float) -> None:
        """Sleep, but wake for a request to stop."""
        until_s = self._clock() + seconds
        while not self.stopping and (left_s := until_s - self._clock()) > 0:
            self.alive()
            self._sleep(min(left_s, 0.2))
