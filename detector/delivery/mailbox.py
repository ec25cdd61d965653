"""What one receiver still has to be told, and when to try next: retries, order, and an end of trying.

Notifications of one alert keep their order, those of different alerts do not wait for one another: one that
is refused again and again holds up nobody else. While the receiver as a whole fails, twice in a row or more,
one attempt is made per back-off, whichever alert it is for.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from detector.batch import Source
from detector.delivery.alert import AlertRecord
from detector.delivery.backoff import Backoff
from detector.delivery.http_post import Answer, Outcome
from detector.delivery.notification import Notification

FINISHED_REMEMBERED = 20_000
"""What was finished before its offset was committed is not sent again by this process."""


class Ending(StrEnum):
    """How a letter ended; also a metric label, and a reason in dead letters but for the first."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The receiver answered that the same request would be refused again."""
    GAVE_UP = "gave_up"
    """It failed for as long as configured."""
    OVERFLOW = "overflow"
    """More waited than fits; this was the oldest."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A notification on its way to the receivers."""

    notification: Notification
    record: AlertRecord
    """What it was made from."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A letter that one receiver needs no more of."""

    receiver: str
    letter: Letter
    ending: Ending
    detail: str = ""


@dataclass(slots=True)
class _Waiting:
    letter: Letter
    since_s: float
    due_s: float
    attempts: int = 0


class Mailbox:
    """The letters of one receiver. Not locked: its owner is. Times are of a monotonic clock."""

    def __init__(
        self,
        receiver: str,
        give_up_after_s: float,
        capacity: int,
        rng: random.Random,
        backoff: Backoff | None = None,
    ) -> None:
        """Args:
        receiver: Its name.
        give_up_after_s: From a letter's arrival to its dead letter.
        capacity: Letters that may wait; the oldest goes when there are more.
        rng: Of the jitter.
        backoff: Between attempts.
        """
        self._receiver = receiver
        self._give_up_after_s = give_up_after_s
        self._capacity = capacity
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        """By what alert they are about; a queue is never empty."""
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        """The same by id, in order of arrival."""
        self._finished: OrderedDict[str, Finished] = OrderedDict()
        self._failures = 0
        """In a row, of the receiver as a whole."""
        self._last_failure = "never tried"
        self.paused_until_s = 0.0
        """Nothing is to be sent before."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, letter: Letter, now_s: float) -> list[Finished]:
        """Take a letter; return those finished by it: itself, if it was finished before, or the oldest."""
        id = letter.notification.id
        if id in self._finished:
            return [self._finished[id]]
        if id in self._waiting:
            return []
        self._waiting[id] = _Waiting(letter, now_s, now_s)
        self._queues.setdefault(letter.notification.fingerprint, deque()).append(self._waiting[id])
        if len(self._waiting) <= self._capacity:
            return []
        oldest = next(iter(self._waiting.values()))
        return [self._finish(oldest, Ending.OVERFLOW, f"{self._capacity} letters wait; {self._last_failure}")]

    def next(self, now_s: float) -> Letter | None:
        """Return the letter to send now, if there is one; it stays here until it is answered."""
        if now_s < self.paused_until_s:
            return None
        return next((q[0].letter for q in self._queues.values() if q[0].due_s <= now_s), None)

    def next_look_s(self) -> float:
        """Return when there may be something to do; infinity if nothing waits."""
        if not self._waiting:
            return float("inf")
        due_s = min(queue[0].due_s for queue in self._queues.values())
        oldest = next(iter(self._waiting.values()))
        return min(max(self.paused_until_s, due_s), oldest.since_s + self._give_up_after_s)

    def answered(self, letter: Letter, answer: Answer, now_s: float) -> Finished | None:
        """Note what came of sending a letter; return it if that was its end.

        A letter that was dropped meanwhile is none of ours.
        """
        self.reached(answer, now_s)
        queue = self._queues.get(letter.notification.fingerprint)
        if queue is None or queue[0].letter.notification.id != letter.notification.id:
            return None
        waiting = queue[0]
        if answer.outcome is Outcome.DELIVERED:
            return self._finish(waiting, Ending.DELIVERED, "")
        if answer.outcome.final:
            return self._finish(waiting, Ending.REFUSED, answer.detail)
        waiting.attempts += 1
        own_s = self._backoff.delay_s(waiting.attempts, self._rng)
        waiting.due_s = now_s + max(own_s, self._asked_s(answer))
        # The others first, or one that always fails would be tried before all of them.
        self._queues.move_to_end(letter.notification.fingerprint)
        return None

    def reached(self, answer: Answer, now_s: float) -> None:
        """Note how the receiver answered, whatever was sent."""
        if answer.outcome.final:
            if self._failures > 1:
                # What waited for it to come back goes now.
                for queue in self._queues.values():
                    queue[0].due_s = now_s
            self._failures, self.paused_until_s = 0, now_s
            return
        self._failures += 1
        self._last_failure = f"last failure: {answer.outcome.value}, {answer.detail}"
        # One failure may be that letter's own; from the second in a row on it is the receiver's.
        own_s = self._backoff.delay_s(self._failures - 1, self._rng) if self._failures > 1 else 0.0
        self.paused_until_s = now_s + max(own_s, self._asked_s(answer))

    def given_up(self, now_s: float) -> list[Finished]:
        """Return, once, the letters whose time is over."""
        over = list(takewhile(lambda w: now_s - w.since_s >= self._give_up_after_s, self._waiting.values()))
        return [self._finish(waiting, Ending.GAVE_UP, self._last_failure) for waiting in over]

    def oldest_s(self, now_s: float) -> float:
        """Return how long the oldest letter has been waiting; 0 if there is none."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else now_s - oldest.since_s

    def drop(self, sources: Collection[Source]) -> None:
        """Forget letters from these sources, sent or not: somebody else tells of them from now on."""
        for waiting in list(self._waiting.values()):
            if waiting.letter.record.source in sources:
                self._remove(waiting)
        self._finished = OrderedDict(
            (id, each) for id, each in self._finished.items() if each.letter.record.source not in sources
        )

    def _asked_s(self, answer: Answer) -> float:
        """Return how long the receiver asked for patience: no longer than letters wait at all."""
        return min(answer.retry_after_s or 0.0, self._give_up_after_s)

    def _finish(self, waiting: _Waiting, ending: Ending, detail: str) -> Finished:
        self._remove(waiting)
        finished = Finished(self._receiver, waiting.letter, ending, detail)
        self._finished[waiting.letter.notification.id] = finished
        if len(self._finished) > FINISHED_REMEMBERED:
            self._finished.popitem(last=False)
        return finished

    def _remove(self, waiting: _Waiting) -> None:
        key = waiting.letter.notification.fingerprint
        queue = self._queues[key]
        queue.remove(waiting)
        del self._waiting[waiting.letter.notification.id]
        if not queue:
            del self._queues[key]
