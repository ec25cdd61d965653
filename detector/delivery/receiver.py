"""One receiver: a thread that sends its letters one after the other, and nobody else waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from detector.batch import Source
from detector.delivery.alertmanager import AlertmanagerChannel, Standing
from detector.delivery.http_post import Answer, Outcome
from detector.delivery.mailbox import Ending, Finished, Letter, Mailbox
from detector.delivery.notification import Notification
from detector.delivery.observer import DeliveryObserver

_LONGEST_WAIT_S = 5.0
"""Between two looks at an empty mailbox; a letter wakes the thread at once."""
REMIND_AFTER_S = 60.0
"""While a receiver fails it is logged this often."""

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """How a notification is written for one kind of receiver."""

    def wants(self, notification: Notification) -> bool: ...

    def request(self, notification: Notification, now_s: float) -> tuple[bytes, Mapping[str, str]]: ...


class Receiver:
    """Sends what it is given, in a thread of its own, and reports what is finished.

    Every method may be called from any thread. What fails is tried again until its time is over; whatever
    comes of a letter, it is reported exactly once to ``finished`` for each time it was put in.
    """

    def __init__(
        self,
        name: str,
        address: str,
        channel: Channel,
        post: Callable[[bytes, Mapping[str, str]], Answer],
        mailbox: Mailbox,
        finished: Callable[[Finished], object],
        observer: DeliveryObserver,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        name: Of the receiver, the same for all replicas of one.
        address: host:port, which tells replicas apart.
        channel: Writes the requests.
        post: Sends one; returns within a bounded time and raises nothing that a network can cause.
        mailbox: Keeps what waits.
        finished: Told, from any thread, of every letter that needs no more attempts.
        observer: Told of attempts and letters.
        clock: Monotonic seconds.
        wall_clock: Seconds since 1970.
        """
        self.name, self.address = name, address
        self._channel, self._post, self._mailbox = channel, post, mailbox
        self._report, self._observer = finished, observer
        self._clock, self._wall_clock = clock, wall_clock
        self._changed = threading.Condition()
        self._stopping = False
        self._failed_since_s: float | None = None
        self._logged_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"receiver {name} {address}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Finish the request in flight, if that takes no longer; the rest stays with Kafka."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def put(self, letter: Letter) -> None:
        """Take a letter; returns at once."""
        if not self._channel.wants(letter.notification):
            self._report(Finished(self.id, letter, Ending.DELIVERED))
            return
        with self._changed:
            finished = self._mailbox.put(letter, self._clock())
            # One that comes again says nothing new, and may have been followed by others.
            self._note([each for each in finished if each.letter.notification.id != letter.notification.id])
            self._changed.notify()
        self._tell(finished)

    def drop(self, sources: Collection[Source]) -> None:
        """Forget what comes from these sources: somebody else delivers it."""
        with self._changed:
            self._mailbox.drop(sources)

    def adopt(self, known: Iterable[tuple[Source, Notification]]) -> None:
        """Take over what the receiver was told by somebody else; here it needs nothing."""

    @property
    def id(self) -> str:
        """Tells this receiver from all others."""
        return f"{self.name} {self.address}"

    def turn(self) -> float:
        """Send at most one letter; return how many seconds may pass until the next turn."""
        with self._changed:
            now_s = self._clock()
            given_up = self._mailbox.given_up(now_s)
            self._note(given_up)
            letter = self._mailbox.next(now_s)
        self._tell(given_up)
        self._observe_waiting(now_s)
        if letter is None:
            return self._idle(now_s)
        answer = self._send(partial(self._channel.request, letter.notification, self._wall_clock()))
        with self._changed:
            ended = self._mailbox.answered(letter, answer, self._clock())
            finished = [] if ended is None else [ended]
            self._note(finished)
        self._tell(finished)
        return 0.0

    def _idle(self, now_s: float) -> float:
        """Use a turn without a letter to send; return how long to wait."""
        with self._changed:
            return self._mailbox.next_look_s() - now_s

    def _note(self, finished: Sequence[Finished]) -> None:
        """Note, under the lock, what became of letters; here it needs nothing."""

    def _send(self, request: Callable[[], tuple[bytes, Mapping[str, str]]]) -> Answer:
        try:
            answer = self._post(*request())
        except Exception as error:
            # A defect of ours: this alert may fail for ever, the thread must not.
            _log.exception("receiver %s at %s: sending failed", self.name, self.address)
            answer = Answer(Outcome.CONNECTION, f"{type(error).__name__} in the deliverer; see its log")
        self._observer.attempted(self.name, self.address, answer.outcome)
        self._log_outage(answer)
        return answer

    def _tell(self, finished: Sequence[Finished]) -> None:
        for each in finished:
            self._observer.finished(self.name, self.address, each.ending)
            self._report(each)

    def _observe_waiting(self, now_s: float) -> None:
        with self._changed:
            waiting, oldest_s = len(self._mailbox), self._mailbox.oldest_s(now_s)
        self._observer.waiting(self.name, self.address, waiting, oldest_s)

    def _log_outage(self, answer: Answer) -> None:
        now_s = self._clock()
        if answer.outcome is Outcome.DELIVERED:
            if self._failed_since_s is not None:
                _log.info(
                    "receiver %s at %s works again after %.0f s",
                    self.name,
                    self.address,
                    now_s - self._failed_since_s,
                )
            self._failed_since_s = None
        elif self._failed_since_s is None or now_s - self._logged_s > REMIND_AFTER_S:
            self._failed_since_s = now_s if self._failed_since_s is None else self._failed_since_s
            self._logged_s = now_s
            remedy = "see the dead letters" if answer.outcome.final else "it is tried again"
            _log.warning(
                "receiver %s at %s: %s (%s); %s",
                self.name,
                self.address,
                answer.outcome.value,
                answer.detail,
                remedy,
            )

    def _run(self) -> None:
        while not self._stopping:
            wait_s = self.turn()
            if wait_s <= 0:
                continue
            with self._changed:
                # A letter put since the turn looked is due already.
                due_in_s = min(wait_s, self._mailbox.next_look_s() - self._clock(), _LONGEST_WAIT_S)
                if due_in_s > 0 and not self._stopping:
                    self._changed.wait(due_in_s)


class AlertmanagerReceiver(Receiver):
    """Also repeats what stands, so that nothing there ends by itself."""

    def __init__(
        self,
        name: str,
        address: str,
        channel: AlertmanagerChannel,
        post: Callable[[bytes, Mapping[str, str]], Answer],
        mailbox: Mailbox,
        finished: Callable[[Finished], object],
        observer: DeliveryObserver,
        resend_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what ``Receiver`` takes, and the time between two repetitions."""
        super().__init__(
            name, address, channel, post, mailbox, finished, observer, clock=clock, wall_clock=wall_clock
        )
        self._many = channel
        self._resend_s = resend_s
        self._standing = Standing()
        self._resend_due_s = clock() + resend_s

    def adopt(self, known: Iterable[tuple[Source, Notification]]) -> None:
        """Repeat these from now on, at once for the first time."""
        with self._changed:
            for source, notification in known:
                self._standing.tell(source, notification)
            self._resend_due_s = self._clock()
            self._changed.notify()

    def drop(self, sources: Collection[Source]) -> None:
        """Forget what comes from these sources, and repeat none of it."""
        with self._changed:
            self._mailbox.drop(sources)
            self._standing.forget(sources)

    def _note(self, finished: Sequence[Finished]) -> None:
        """Repeat what was delivered, and every end: it is one, whatever became of its letter.

        A firing alert that was not delivered waits for its next news: one that is refused would have others
        refused that are posted with it.
        """
        for each in finished:
            letter = each.letter
            if each.ending is Ending.DELIVERED or letter.notification.status == "resolved":
                self._standing.tell(letter.record.source, letter.notification, self._wall_clock())

    def _idle(self, now_s: float) -> float:
        with self._changed:
            portions: list[list[Notification]] = []
            if now_s >= max(self._resend_due_s, self._mailbox.paused_until_s):
                portions = self._standing.repeated(self._wall_clock())
                self._resend_due_s = now_s + self._resend_s
        for portion in portions:
            answer = self._send(partial(self._repetition, portion))
            with self._changed:
                self._mailbox.reached(answer, self._clock())
                if not answer.outcome.final:
                    # Again, once the pause is over.
                    self._resend_due_s = now_s
                    break
        with self._changed:
            again_s = max(self._resend_due_s, self._mailbox.paused_until_s)
            return min(self._mailbox.next_look_s(), again_s) - self._clock()

    def _repetition(self, portion: Sequence[Notification]) -> tuple[bytes, Mapping[str, str]]:
        return self._many.request_many(portion, self._wall_clock()), {}
