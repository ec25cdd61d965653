"""Tests for detector.delivery.receiver: real requests to servers that behave badly, one receiver each."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue

import pytest

from detector.batch import Source
from detector.delivery.alert import AlertRecord
from detector.delivery.alertmanager import RESOLVED_REPEATED_S, AlertmanagerChannel
from detector.delivery.backoff import Backoff
from detector.delivery.http_post import Answer, Endpoint, Outcome, Poster
from detector.delivery.mailbox import Ending, Finished, Letter, Mailbox
from detector.delivery.notification import Notification, time_text
from detector.delivery.receiver import AlertmanagerReceiver, Receiver
from detector.delivery.webhook import WebhookChannel
from tests.delivery.counts import Counts
from tests.delivery.http_server import FakeReceiver, Reply, Request
from tests.delivery.test_http_post import certificate
from tests.stream.fakes import FakeClock

SOURCE = Source("alerts", 0)
KEY = b"k" * 32


def letter(entity: str, status: str = "firing", source: Source = SOURCE) -> Letter:
    now_s = time.time()
    told = Notification(
        f"{entity}-{status}",
        "firing" if status == "firing" else "resolved",
        {"entity": entity},
        {"summary": entity},
        now_s - 60,
        None if status == "firing" else now_s - 1,
    )
    return Letter(told, AlertRecord(source, 0, None, b"{}", []))


class Office:
    """Receivers of one test with what they finished; all are stopped at its end."""

    def __init__(self) -> None:
        self.finished: SimpleQueue[Finished] = SimpleQueue()
        self.counts = Counts()
        self.receivers: list[Receiver] = []

    def webhook(
        self, url: str, *, timeout_s: float = 5.0, give_up_after_s: float = 60.0, name: str = "hook"
    ) -> Receiver:
        endpoint = Endpoint(url, timeout_s)
        receiver = Receiver(
            name,
            endpoint.address,
            WebhookChannel(name, "", [KEY]),
            Poster(endpoint).post,
            self.mailbox(name, give_up_after_s),
            self.finished.put,
            self.counts,
        )
        return self.started(receiver)

    def mailbox(self, name: str, give_up_after_s: float) -> Mailbox:
        backoff = Backoff(first_s=0.02, longest_s=0.1)
        return Mailbox(name, give_up_after_s, 1000, random.Random(1), backoff)

    def started(self, receiver: Receiver) -> Receiver:
        self.receivers.append(receiver)
        receiver.start()
        return receiver

    def endings(self, n: int, timeout_s: float = 30.0) -> list[tuple[str, str, str]]:
        """Wait for n finished letters; return receiver, id and ending of each."""
        found = [self.finished.get(timeout=timeout_s) for _ in range(n)]
        return [(f.receiver, f.letter.notification.id, f.ending.value) for f in found]


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    yield office
    for receiver in office.receivers:
        receiver.stop(5.0)


def failing(times: int, reply: Reply) -> Callable[[Request], Reply]:
    """Answer so many requests like this, and the rest with 200."""
    left = iter(range(times))
    return lambda request: Reply() if next(left, None) is None else reply


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_fails_for_a_while_is_delivered_with_the_same_id(office: Office, status: int) -> None:
    with FakeReceiver(failing(3, Reply(status))) as server:
        office.webhook(server.url).put(letter("a"))
        assert office.endings(1) == [("hook", "a-firing", "delivered")]
    assert len(server.requests) == 4
    assert {request.headers["webhook-id"] for request in server.requests} == {"a-firing"}
    assert len({request.body for request in server.requests}) == 1


def test_patience_that_a_receiver_asks_for_is_had(office: Office) -> None:
    with FakeReceiver(failing(1, Reply(429, (("Retry-After", "1"),)))) as server:
        receiver = office.webhook(server.url)
        began_s = time.monotonic()
        receiver.put(letter("a"))
        receiver.put(letter("b"))
        assert sorted(office.endings(2)) == [
            ("hook", "a-firing", "delivered"),
            ("hook", "b-firing", "delivered"),
        ]
    assert time.monotonic() - began_s >= 1.0
    assert len(server.requests) == 3


def test_a_redirect_ends_in_a_dead_letter_and_goes_nowhere_else(office: Office) -> None:
    with FakeReceiver() as elsewhere:
        to = (("Location", elsewhere.url),)
        with FakeReceiver(failing(1, Reply(302, to))) as server:
            receiver = office.webhook(server.url)
            receiver.put(letter("a"))
            receiver.put(letter("b"))
            assert office.endings(2) == [("hook", "a-firing", "refused"), ("hook", "b-firing", "delivered")]
    assert elsewhere.requests == []
    assert office.counts.outcomes["hook", "redirect"] == 1


def test_a_bad_certificate_is_tried_until_time_is_over(office: Office, tmp_path: Path) -> None:
    with FakeReceiver(certificate=certificate(tmp_path, "127.0.0.1")) as server:
        office.webhook(server.url, timeout_s=5.0, give_up_after_s=2.0).put(letter("a"))
        assert office.endings(1) == [("hook", "a-firing", "gave_up")]
    assert server.requests == []
    assert office.counts.outcomes["hook", "certificate"] > 1


def test_a_slow_receiver_delays_no_other(office: Office) -> None:
    with FakeReceiver(lambda request: Reply(delay_s=60.0)) as slow, FakeReceiver() as quick:
        letters = [letter(f"e{i}") for i in range(20)]
        receivers = [
            office.webhook(slow.url, timeout_s=0.3, give_up_after_s=4.0, name="slow"),
            office.webhook(quick.url, name="quick"),
        ]
        for each in letters:
            for receiver in receivers:
                receiver.put(each)
        # All of the quick one's before the first of the slow one's.
        assert {name for name, _, _ in office.endings(20)} == {"quick"}
        assert {(name, ending) for name, _, ending in office.endings(20)} == {("slow", "gave_up")}
    assert [r.headers["webhook-id"] for r in quick.requests] == [f"e{i}-firing" for i in range(20)]


def test_a_receiver_that_is_away_gets_everything_when_it_is_back(office: Office) -> None:
    with FakeReceiver(lambda request: Reply(503)) as server:
        receiver = office.webhook(server.url)
        for entity in "abc":
            receiver.put(letter(entity))
            receiver.put(letter(entity, "resolved"))
        server.wait_for(3)
        server.reply = lambda request: Reply()
        endings = office.endings(6)
    assert {ending for _, _, ending in endings} == {"delivered"}
    for entity in "abc":
        ids = [id for _, id, _ in endings if id.startswith(entity)]
        assert ids == [f"{entity}-firing", f"{entity}-resolved"]


def test_a_defect_of_ours_ends_in_a_dead_letter_not_in_a_dead_thread(office: Office) -> None:
    def broken(body: bytes, headers: Mapping[str, str]) -> Answer:
        if b'"a"' in body:
            raise ZeroDivisionError
        return Answer(Outcome.DELIVERED)

    receiver = office.started(
        Receiver(
            "hook",
            "nowhere:80",
            WebhookChannel("hook", "", []),
            broken,
            office.mailbox("hook", 0.3),
            office.finished.put,
            office.counts,
        )
    )
    receiver.put(letter("a"))
    receiver.put(letter("b"))
    assert sorted(office.endings(2)) == [("hook", "a-firing", "gave_up"), ("hook", "b-firing", "delivered")]


def test_a_request_that_cannot_be_written_ends_likewise(office: Office) -> None:
    class Broken(WebhookChannel):
        def request(self, notification: Notification, now_s: float) -> tuple[bytes, Mapping[str, str]]:
            if notification.labels["entity"] == "a":
                raise OverflowError
            return super().request(notification, now_s)

    receiver = office.started(
        Receiver(
            "hook",
            "nowhere:80",
            Broken("hook", "", []),
            lambda body, headers: Answer(Outcome.DELIVERED),
            office.mailbox("hook", 0.3),
            office.finished.put,
            office.counts,
        )
    )
    receiver.put(letter("a"))
    receiver.put(letter("b"))
    assert sorted(office.endings(2)) == [("hook", "a-firing", "gave_up"), ("hook", "b-firing", "delivered")]


def alertmanager(office: Office, server: FakeReceiver, resend_s: float) -> Receiver:
    endpoint = Endpoint(server.url, 5.0)
    return office.started(
        AlertmanagerReceiver(
            "am",
            endpoint.address,
            AlertmanagerChannel(resend_s),
            Poster(endpoint).post,
            office.mailbox("am", 60.0),
            office.finished.put,
            office.counts,
            resend_s,
        )
    )


def test_alertmanager_is_told_again_and_again_until_it_is_over(office: Office) -> None:
    with FakeReceiver() as server:
        receiver = alertmanager(office, server, resend_s=0.05)
        receiver.put(letter("a"))
        office.endings(1)
        posts = [request.json() for request in server.wait_for(4)]
        assert {alert["labels"]["entity"] for post in posts for alert in post} == {"a"}
        assert posts[3][0]["endsAt"] > posts[0][0]["endsAt"]
        receiver.put(letter("a", "resolved"))
        office.endings(1)
        over = len(server.requests)
        ends = {alert["endsAt"] for post in server.wait_for(over + 2)[over:] for alert in post.json()}
        assert len(ends) == 1


class Posted:
    """An Alertmanager that answers as it is told, on a clock of the test's own; keeps what it takes."""

    def __init__(self) -> None:
        self.answer = Answer(Outcome.DELIVERED)
        self.clock = FakeClock()
        self.began_s = time.time()
        """Letters are of now, however long ago this module was read."""
        self.posts: list[dict[str, str]] = []
        """Of those that it took: entities and whether they fire."""
        self.finished: SimpleQueue[Finished] = SimpleQueue()
        mailbox = Mailbox("am", 60.0, 2, random.Random(1), Backoff(first_s=0.1, longest_s=1.0))
        self.receiver = AlertmanagerReceiver(
            "am",
            "am:80",
            AlertmanagerChannel(10.0),
            self.post,
            mailbox,
            self.finished.put,
            Counts(),
            10.0,
            clock=self.clock,
            wall_clock=self.now_s,
        )

    def now_s(self) -> float:
        return self.began_s + self.clock.now_s

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self.answer.outcome is Outcome.DELIVERED:
            now = time_text(self.now_s())
            self.posts.append(
                {
                    alert["labels"]["entity"]: "firing" if alert["endsAt"] > now else "resolved"
                    for alert in json.loads(body)
                }
            )
        return self.answer

    def wait(self, seconds: float) -> None:
        """Let time pass and the receiver take its turns."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            while self.receiver.turn() <= 0.0:
                pass
            self.clock.sleep(1.0)


@pytest.mark.parametrize(
    "failure", [Answer(Outcome.CONNECTION), Answer(Outcome.REJECTED, "HTTP 403"), Answer(Outcome.REDIRECT)]
)
def test_an_end_that_alertmanager_did_not_take_is_repeated_and_the_alert_no_more(failure: Answer) -> None:
    place = Posted()
    place.receiver.put(letter("a"))
    place.wait(15.0)
    assert place.posts == [{"a": "firing"}] * 2
    place.answer = failure
    place.receiver.put(letter("a", "resolved"))
    place.wait(70.0)
    assert place.finished.get().ending is Ending.DELIVERED
    assert place.finished.get().ending is not Ending.DELIVERED
    place.answer = Answer(Outcome.DELIVERED)
    place.wait(60.0)
    assert place.posts[2:] == [{"a": "resolved"}] * 6
    place.wait(RESOLVED_REPEATED_S)
    posts = len(place.posts)
    place.wait(60.0)
    assert len(place.posts) == posts


def test_an_end_that_finds_no_room_is_repeated_all_the_same() -> None:
    place = Posted()
    place.receiver.put(letter("a"))
    place.wait(5.0)
    for each in (letter("a", "resolved"), letter("b"), letter("c")):
        place.receiver.put(each)
    place.wait(11.0)
    assert place.posts[-1] == {"a": "resolved", "b": "firing", "c": "firing"}


def test_an_alert_that_alertmanager_refuses_is_not_repeated_among_others() -> None:
    place = Posted()
    place.answer = Answer(Outcome.REJECTED, "HTTP 400")
    place.receiver.put(letter("a"))
    place.wait(1.0)
    place.answer = Answer(Outcome.DELIVERED)
    place.receiver.put(letter("b"))
    place.wait(15.0)
    assert place.posts == [{"b": "firing"}] * 2


def test_a_letter_that_comes_again_takes_nothing_back() -> None:
    place = Posted()
    firing = letter("a")
    place.receiver.put(firing)
    place.receiver.put(letter("a", "resolved"))
    place.wait(1.0)
    place.receiver.put(firing)
    place.wait(30.0)
    assert place.posts[2:] == [{"a": "resolved"}] * 3


def test_what_stood_before_a_restart_is_told_at_once(office: Office) -> None:
    with FakeReceiver() as server:
        receiver = alertmanager(office, server, resend_s=60.0)
        receiver.adopt([(SOURCE, letter("a").notification)])
        [request] = server.wait_for(1)
        assert request.json()[0]["labels"] == {"entity": "a"}


def test_what_stood_is_told_to_an_alertmanager_that_comes_back(office: Office) -> None:
    with FakeReceiver(lambda request: Reply(503)) as server:
        receiver = alertmanager(office, server, resend_s=60.0)
        receiver.adopt([(SOURCE, letter("a").notification)])
        failed = len(server.wait_for(3))
        server.reply = lambda request: Reply()
        server.wait_for(failed + 1)


def test_partitions_that_went_are_repeated_by_somebody_else(office: Office) -> None:
    with FakeReceiver() as server:
        receiver = alertmanager(office, server, resend_s=0.05)
        other = Source("alerts", 1)
        receiver.adopt([(SOURCE, letter("a").notification), (other, letter("b").notification)])
        server.wait_for(2)
        receiver.drop([SOURCE])
        seen = len(server.wait_for(len(server.requests) + 1))
        later = server.wait_for(seen + 2)[seen : seen + 2]
        assert [[alert["labels"]["entity"] for alert in request.json()] for request in later] == [["b"]] * 2
