"""Tests for detector.delivery.mailbox: order, retries, and an end of trying. Time is the test's own."""

import random

import pytest

from detector.batch import Source
from detector.delivery.alert import AlertRecord
from detector.delivery.backoff import Backoff
from detector.delivery.http_post import Answer, Outcome
from detector.delivery.mailbox import Ending, Letter, Mailbox
from detector.delivery.notification import Notification

SOURCE = Source("alerts", 0)
GOOD = Answer(Outcome.DELIVERED)
DOWN = Answer(Outcome.CONNECTION, "refused")
HOUR = 3600.0


def letter(entity: str, id: str | None = None, offset: int = 0, source: Source = SOURCE) -> Letter:
    told = Notification(id or entity, "firing", {"entity": entity}, {}, 0.0, None)
    return Letter(told, AlertRecord(source, offset, None, b"{}", []))


def mailbox(capacity: int = 100) -> Mailbox:
    return Mailbox("hook", HOUR, capacity, random.Random(3), Backoff(first_s=1.0, longest_s=30.0))


def sent(box: Mailbox, now_s: float) -> str | None:
    found = box.next(now_s)
    return None if found is None else found.notification.id


def answer(box: Mailbox, now_s: float, what: Answer) -> str | None:
    """Answer the letter that is due now; return how it ended, None if it did not."""
    due = box.next(now_s)
    assert due is not None
    finished = box.answered(due, what, now_s)
    return None if finished is None else finished.ending.value


def test_letters_go_in_order_and_stay_until_they_are_answered() -> None:
    box = mailbox()
    for entity in "abc":
        assert box.put(letter(entity), 0.0) == []
    assert sent(box, 0.0) == sent(box, 0.0) == "a"
    endings = [(sent(box, 0.0), answer(box, 0.0, GOOD)) for _ in "abc"]
    assert endings == [("a", "delivered"), ("b", "delivered"), ("c", "delivered")]
    assert len(box) == 0
    assert box.next_look_s() == float("inf")


def test_a_failed_letter_is_tried_again_later() -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    assert answer(box, 0.0, DOWN) is None
    assert sent(box, 0.4) is None
    assert 0.5 <= box.next_look_s() <= 1.0
    assert sent(box, 1.0) == "a"


def test_the_end_of_an_alert_never_overtakes_its_beginning() -> None:
    box = mailbox()
    box.put(letter("a", "a-firing"), 0.0)
    box.put(letter("a", "a-resolved"), 0.0)
    answer(box, 0.0, DOWN)
    assert sent(box, 1.0) == "a-firing"
    assert answer(box, 1.0, GOOD) == "delivered"
    assert sent(box, 1.0) == "a-resolved"


def test_a_letter_that_always_fails_holds_up_no_other_alert() -> None:
    box = mailbox()
    box.put(letter("poison"), 0.0)
    others = [f"other-{i}" for i in range(50)]
    for other in others:
        box.put(letter(other), 0.0)
    now_s = 0.0
    delivered: list[str] = []
    while len(delivered) < len(others):
        due = sent(box, now_s)
        if due is None:
            now_s = box.next_look_s()
        elif due == "poison":
            answer(box, now_s, Answer(Outcome.SERVER_ERROR))
        else:
            answer(box, now_s, GOOD)
            delivered.append(due)
    assert delivered == others
    assert now_s < 3.0
    assert len(box) == 1


def test_while_the_receiver_is_down_it_is_asked_once_per_back_off() -> None:
    box = mailbox()
    for i in range(100):
        box.put(letter(f"e{i}"), 0.0)
    now_s, attempts = 0.0, 0
    while now_s < 600.0:
        if box.next(now_s) is not None:
            attempts += 1
            answer(box, now_s, DOWN)
        now_s = box.next_look_s()
    assert attempts < 50
    # Back again: nobody waits for a back-off of his own.
    answer(box, now_s, GOOD)
    assert [answer(box, now_s, GOOD) for _ in range(99)] == ["delivered"] * 99


def test_a_receiver_may_ask_for_patience() -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    box.put(letter("b"), 0.0)
    answer(box, 0.0, Answer(Outcome.THROTTLED, retry_after_s=120.0))
    assert sent(box, 119.0) is None
    assert sent(box, 120.0) == "b"


def test_patience_asked_for_ends_with_the_letters_time() -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    answer(box, 0.0, Answer(Outcome.THROTTLED, "HTTP 429", retry_after_s=float("inf")))
    assert box.given_up(HOUR - 1) == []
    [gave_up] = box.given_up(HOUR)
    assert (gave_up.ending, gave_up.detail) == (Ending.GAVE_UP, "last failure: throttled, HTTP 429")
    box.put(letter("b"), HOUR)
    assert sent(box, HOUR) == "b"


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.REDIRECT, Outcome.FORBIDDEN_ADDRESS])
def test_what_would_be_refused_again_is_not_tried_again(outcome: Outcome) -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    due = box.next(0.0)
    assert due is not None
    finished = box.answered(due, Answer(outcome, "no"), 0.0)
    assert finished is not None
    assert (finished.ending, finished.detail, len(box)) == (Ending.REFUSED, "no", 0)


def test_whoever_waits_too_long_becomes_a_dead_letter_even_untried() -> None:
    box = mailbox()
    box.put(letter("a", "first"), 0.0)
    box.put(letter("a", "second"), 10.0)
    assert box.next_look_s() <= HOUR
    assert [f.letter.notification.id for f in box.given_up(HOUR)] == ["first"]
    assert [f.letter.notification.id for f in box.given_up(HOUR + 10)] == ["second"]
    assert len(box) == 0


def test_more_letters_than_fit_push_the_oldest_out() -> None:
    box = mailbox(capacity=2)
    assert box.put(letter("a"), 0.0) == box.put(letter("b"), 1.0) == []
    [pushed] = box.put(letter("c"), 2.0)
    assert (pushed.letter.notification.id, pushed.ending) == ("a", Ending.OVERFLOW)
    assert len(box) == 2


def test_what_comes_again_is_not_sent_again() -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    assert box.put(letter("a"), 1.0) == []
    assert answer(box, 1.0, GOOD) == "delivered"
    assert [f.ending for f in box.put(letter("a"), 2.0)] == [Ending.DELIVERED]
    assert box.next(2.0) is None


def test_letters_of_partitions_that_went_are_dropped() -> None:
    box, other = mailbox(), Source("alerts", 1)
    box.put(letter("a"), 0.0)
    box.put(letter("b", source=other), 0.0)
    in_flight = box.next(0.0)
    assert in_flight is not None
    box.drop([SOURCE])
    assert box.answered(in_flight, GOOD, 0.0) is None
    assert sent(box, 0.0) == "b"
    assert box.oldest_s(5.0) == 5.0


def test_what_was_sent_of_a_partition_that_went_is_sent_again_when_it_is_back() -> None:
    box = mailbox()
    box.put(letter("a"), 0.0)
    assert answer(box, 0.0, GOOD) == "delivered"
    box.drop([SOURCE])
    assert box.put(letter("a"), 1.0) == []
    assert sent(box, 1.0) == "a"
