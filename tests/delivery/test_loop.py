"""Tests for detector.delivery.loop on a list-backed broker: what is committed, when, and what survives."""

import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from queue import SimpleQueue

import pytest

from detector.alerting.event import AlertEvent
from detector.batch import Source
from detector.delivery.alertmanager import AlertmanagerChannel
from detector.delivery.backoff import Backoff
from detector.delivery.episodes import Episodes
from detector.delivery.http_post import Answer, Outcome
from detector.delivery.loop import REJOIN_TIMEOUT_S, DeliveryLoop
from detector.delivery.mailbox import Finished, Mailbox
from detector.delivery.receiver import AlertmanagerReceiver, Receiver
from detector.delivery.webhook import WebhookChannel
from detector.stream.port import BrokerUnavailableError, CommitError, RawRecords
from detector.stream.watchdog import Watchdog
from tests.delivery.counts import Counts
from tests.delivery.events import encoded, event
from tests.stream.fakes import FakeBroker, FakeClock, FakeConsumer, FakeProducer
from tests.stream.records import NOW_S, raw_records

ALERTS = Source("alerts", 0)


class Place:
    """A receiver's far side: keeps ids of what arrives, answers as it is told."""

    def __init__(self) -> None:
        self.answer = Answer(Outcome.DELIVERED)
        self.ids: list[str] = []

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self.answer.outcome is Outcome.DELIVERED:
            self.ids.append(headers["webhook-id"])
        return self.answer


class AlertmanagerPlace(Place):
    """Keeps (entity, still firing) of what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[tuple[str, bool]] = []
        self.ends: list[float] = []

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        for alert in json.loads(body):
            self.alerts.append((alert["labels"]["entity"], alert["endsAt"] > "2027-01-15T08:00:00.000Z"))
            self.ends.append(datetime.fromisoformat(alert["endsAt"]).timestamp())
        return self.answer


class Deliverer:
    """One process: dies with what it holds in memory. Receivers take their turns when asked to."""

    def __init__(self, broker: FakeBroker, places: Sequence[Place], clock: FakeClock) -> None:
        self.broker, self.clock, self.counts = broker, clock, Counts()
        finished: SimpleQueue[Finished] = SimpleQueue()
        self.receivers = [self.receiver(i, place, finished) for i, place in enumerate(places)]
        self.loop = DeliveryLoop(
            "alerts",
            "dlq",
            broker.consumer,
            broker.producer,
            self.read_back,
            Episodes(900.0, 86_400.0, 3600.0),
            self.receivers,
            finished,
            self.counts,
            Watchdog(end_process=lambda code: None),
            read_back_s=86_400.0,
            wall_clock=self.wall_clock,
            clock=clock,
            sleep=clock.sleep,
        )
        self.consumer, self.producer = FakeConsumer(broker), FakeProducer(broker)
        self.consumer.subscribe(["alerts"])

    def wall_clock(self) -> float:
        return NOW_S + self.clock.now_s

    def receiver(self, i: int, place: Place, finished: "SimpleQueue[Finished]") -> Receiver:
        box = Mailbox(f"place-{i} host:{i}", 60.0, 100, random.Random(1), Backoff(0.1, 1.0))
        common = place.post, box, finished.put, self.counts
        if not isinstance(place, AlertmanagerPlace):
            channel = WebhookChannel("hook", "", [])
            return Receiver(
                f"place-{i}", f"host:{i}", channel, *common, clock=self.clock, wall_clock=self.wall_clock
            )
        return AlertmanagerReceiver(
            f"place-{i}",
            f"host:{i}",
            AlertmanagerChannel(60.0),
            *common,
            60.0,
            clock=self.clock,
            wall_clock=self.wall_clock,
        )

    def read_back(self, from_s: float) -> Iterator[RawRecords]:
        for source, values in self.broker.records.items():
            if values:
                yield raw_records(values, sources=[source])

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.turn(self.consumer, self.producer)
            for receiver in self.receivers:
                while receiver.turn() <= 0.0:
                    pass


def values(*events: AlertEvent) -> list[bytes | None]:
    return [encoded(event).value for event in events]


FIRING, RESOLVED = event("firing", NOW_S), event("resolved", NOW_S + 60, start_s=NOW_S)
IDS = [f"{FIRING.alert_id}-firing", f"{FIRING.alert_id}-resolved"]


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker({ALERTS: values(FIRING, RESOLVED)})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_everybody_is_told_and_then_it_is_committed(broker: FakeBroker, clock: FakeClock) -> None:
    places = [Place(), Place()]
    deliverer = Deliverer(broker, places, clock)
    deliverer.turn()
    assert broker.committed == {}
    deliverer.turn()
    assert [place.ids for place in places] == [IDS, IDS]
    assert broker.committed == {ALERTS: 2}
    assert deliverer.counts.readings == {"notified": 2}


def test_nothing_is_committed_while_one_receiver_lacks_it(broker: FakeBroker, clock: FakeClock) -> None:
    good, bad = Place(), Place()
    bad.answer = Answer(Outcome.SERVER_ERROR)
    deliverer = Deliverer(broker, [good, bad], clock)
    deliverer.turn(3)
    assert good.ids == IDS
    assert broker.committed == {}
    bad.answer = Answer(Outcome.DELIVERED)
    clock.sleep(5.0)
    deliverer.turn(2)
    assert bad.ids == IDS
    assert broker.committed == {ALERTS: 2}


def test_a_successor_tells_what_its_predecessor_did_not_commit(broker: FakeBroker, clock: FakeClock) -> None:
    good, bad = Place(), Place()
    bad.answer = Answer(Outcome.TIMEOUT)
    Deliverer(broker, [good, bad], clock).turn(3)
    bad.answer = Answer(Outcome.DELIVERED)
    Deliverer(broker, [good, bad], clock).turn(2)
    assert bad.ids == IDS
    # Again, recognisably.
    assert good.ids == IDS + IDS


def test_a_restart_after_max_alert_age_loses_neither_beginning_nor_end(clock: FakeClock) -> None:
    broker, good, bad = FakeBroker({ALERTS: values(FIRING)}), Place(), Place()
    bad.answer = Answer(Outcome.CONNECTION)
    first = Deliverer(broker, [good, bad], clock)
    first.turn(3)
    assert (good.ids, broker.committed) == (IDS[:1], {})
    clock.sleep(1.1)
    first.turn()
    # It is held up: how far was decided is noted, once.
    assert (broker.committed, broker.notes) == ({ALERTS: 0}, {ALERTS: "1"})
    commits = broker.log.count("commit")
    clock.sleep(1.1)
    first.turn()
    assert broker.log.count("commit") == commits == 1
    clock.sleep(960.0)
    broker.records[ALERTS] = values(FIRING, RESOLVED)
    bad.answer = Answer(Outcome.DELIVERED)
    Deliverer(broker, [good, bad], clock).turn(2)
    assert good.ids == IDS[:1] + IDS
    assert bad.ids == IDS
    assert broker.committed == {ALERTS: 2}


def test_what_happened_while_no_deliverer_was_there_wakes_nobody(clock: FakeClock) -> None:
    broker, place = FakeBroker({ALERTS: values(FIRING, RESOLVED)}), Place()
    clock.sleep(960.0)
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn(2)
    assert (place.ids, broker.committed) == ([], {ALERTS: 2})
    assert deliverer.counts.readings == {"old": 2}


def test_a_restart_takes_back_nothing_that_alertmanager_knows(clock: FakeClock) -> None:
    broker, manager, bad = FakeBroker({ALERTS: values(FIRING)}), AlertmanagerPlace(), Place()
    Deliverer(broker, [manager, bad], clock).turn(2)
    bad.answer = Answer(Outcome.CONNECTION)
    broker.records[ALERTS] = values(FIRING, RESOLVED)
    clock.sleep(61.0)
    Deliverer(broker, [manager, bad], clock).turn(3)
    assert broker.committed == {ALERTS: 1}
    manager.ends.clear()
    Deliverer(broker, [manager, bad], clock).turn(3)
    assert set(manager.ends) == {RESOLVED.time}


def test_what_is_read_again_after_a_failed_commit_waits_for_the_same_receivers(clock: FakeClock) -> None:
    critical = replace(FIRING, id="u", transition="updated", severity="critical", time=NOW_S + 30)
    broker, good, bad = FakeBroker({ALERTS: values(FIRING, critical)}), Place(), Place()
    deliverer = Deliverer(broker, [good, bad], clock)
    deliverer.turn()
    bad.answer = Answer(Outcome.CONNECTION)
    broker.records[ALERTS] += values(RESOLVED)
    deliverer.turn()
    # As the session does after a commit that failed.
    for committed in (0, 1):
        broker.committed = {ALERTS: committed}
        deliverer.loop.forget()
        deliverer.consumer.seek_to_committed()
        deliverer.turn(3)
    assert broker.committed == {ALERTS: 2}
    bad.answer = Answer(Outcome.DELIVERED)
    clock.sleep(5.0)
    deliverer.turn(2)
    assert broker.committed == {ALERTS: 3}
    assert good.ids == bad.ids
    assert len(good.ids) == len(set(good.ids)) == 4


def test_a_dead_letter_is_with_the_broker_before_the_offset_is(broker: FakeBroker, clock: FakeClock) -> None:
    bad = Place()
    bad.answer = Answer(Outcome.REJECTED, "HTTP 400")
    deliverer = Deliverer(broker, [bad], clock)
    deliverer.turn(2)
    letters = broker.topic("dlq")
    assert [letter.value for letter in letters] == broker.records[ALERTS]
    headers = dict(letters[1].headers)
    assert headers["trace"] == b"1"
    assert headers["__connect.errors.topic"] == b"alerts"
    assert headers["__connect.errors.offset"] == b"1"
    assert headers["__connect.errors.stage"] == b"TASK_PUT"
    assert headers["__connect.errors.exception.message"] == b"HTTP 400"
    assert headers["detector.reason"] == b"refused"
    assert headers["detector.receiver"] == b"place-0 host:0"
    assert headers["detector.notification.id"] == IDS[1].encode()
    calls = [call for call in broker.log if call in ("send", "flush", "commit")]
    assert calls == ["send", "flush", "commit"]
    assert broker.committed == {ALERTS: 2}


def test_a_dead_letter_that_the_broker_does_not_take_is_not_lost(
    broker: FakeBroker, clock: FakeClock
) -> None:
    bad = Place()
    bad.answer = Answer(Outcome.REJECTED)
    deliverer = Deliverer(broker, [bad], clock)
    deliverer.turn()
    broker.fail_next["flush"] = [BrokerUnavailableError("away")]
    with pytest.raises(Exception, match="unacknowledged"):
        deliverer.turn()
    # As run() does: both clients are opened anew, receivers live on.
    deliverer.loop._progress.forget_everything()
    deliverer.consumer, deliverer.producer = FakeConsumer(broker), FakeProducer(broker)
    deliverer.consumer.subscribe(["alerts"])
    deliverer.turn(2)
    assert len(broker.topic("dlq")) == 2
    assert broker.committed == {ALERTS: 2}


def test_time_that_is_over_ends_in_a_dead_letter(broker: FakeBroker, clock: FakeClock) -> None:
    bad = Place()
    bad.answer = Answer(Outcome.CERTIFICATE, "self-signed")
    deliverer = Deliverer(broker, [bad], clock)
    deliverer.turn()
    clock.sleep(61.0)
    deliverer.turn(2)
    assert [dict(x.headers)["detector.reason"] for x in broker.topic("dlq")] == [b"gave_up", b"gave_up"]
    assert broker.committed == {ALERTS: 2}


def test_what_is_no_alert_becomes_a_dead_letter_and_its_neighbours_are_told(clock: FakeClock) -> None:
    broker = FakeBroker({ALERTS: [b"{", *values(FIRING), None]})
    place = Place()
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn(2)
    assert place.ids == IDS[:1]
    [letter] = broker.topic("dlq")
    assert dict(letter.headers)["detector.reason"] == b"unreadable"
    assert broker.committed == {ALERTS: 3}


def test_times_that_nobody_can_write_harm_no_receiver(clock: FakeClock) -> None:
    odd = {"alert_id": "odd", "start": "0001-01-01T00:00:00+14:00", "expires_at": "9999-12-31T23:59:59-14:00"}
    told = json.loads(encoded(FIRING).value) | odd
    place, manager = Place(), AlertmanagerPlace()
    broker = FakeBroker({ALERTS: [json.dumps(told).encode(), *values(FIRING)]})
    Deliverer(broker, [place, manager], clock).turn(2)
    assert place.ids == ["odd-firing", IDS[0]]
    assert len(manager.alerts) >= 2


def test_a_backlog_of_old_episodes_is_committed_and_tells_nobody(clock: FakeClock) -> None:
    hours = [NOW_S - 3600.0 * h for h in range(6, 1, -1)]
    old = [e for h in hours for e in (event("firing", h, f"h{h}"), event("resolved", h + 600, f"h{h}"))]
    broker, place = FakeBroker({ALERTS: values(*old)}), Place()
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn(2)
    assert place.ids == []
    assert deliverer.counts.readings == {"old": 10}
    assert broker.committed == {ALERTS: 10}


def test_what_fires_is_told_to_alertmanager_right_after_a_restart(clock: FakeClock) -> None:
    broker = FakeBroker({ALERTS: values(FIRING)}, committed={ALERTS: 1})
    place = AlertmanagerPlace()
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn()
    assert place.alerts == [("web-17", True)]
    assert deliverer.counts.readings == {}
    clock.sleep(61.0)
    deliverer.turn()
    assert place.alerts == [("web-17", True)] * 2


def test_an_episode_without_news_expires(clock: FakeClock) -> None:
    broker, hook = FakeBroker({ALERTS: values(FIRING)}), Place()
    deliverer = Deliverer(broker, [hook], clock)
    deliverer.turn(2)
    clock.sleep(86_401.0)
    deliverer.turn(3)
    assert hook.ids == [IDS[0], f"{IDS[0]}-expired"]
    assert deliverer.counts.over == 1
    assert deliverer.counts.open == 0


def test_a_commit_that_fails_is_made_again(broker: FakeBroker, clock: FakeClock) -> None:
    place = Place()
    deliverer = Deliverer(broker, [place], clock)
    broker.fail_next["commit"] = [CommitError("rebalance")]
    polls = iter(range(6))

    def stop_after_some(consumer: FakeConsumer) -> None:
        for receiver in deliverer.receivers:
            receiver.turn()
        if next(polls, None) is None:
            deliverer.loop.stop()

    deliverer.consumer.on_poll = stop_after_some
    for receiver in deliverer.receivers:
        receiver.start()
    deliverer.loop._session._turn_until_stopped(deliverer.loop, deliverer.consumer, deliverer.producer)
    assert broker.committed == {ALERTS: 2}
    assert place.ids == IDS


def test_it_outlasts_a_broker_that_is_away(broker: FakeBroker, clock: FakeClock) -> None:
    deliverer = Deliverer(broker, [Place()], clock)
    broker.away = True
    waits = iter(range(30))

    def sleep(seconds: float) -> None:
        clock.now_s += seconds
        if next(waits, None) is None:
            deliverer.loop.stop()

    deliverer.loop._session._sleep = sleep
    for receiver in deliverer.receivers:
        receiver.start()
    deliverer.loop.run()
    assert set(deliverer.counts.reachable) == {False}
    assert broker.opened == 0


def test_partitions_that_go_are_left_to_their_new_owner(clock: FakeClock) -> None:
    other = Source("alerts", 1)
    broker = FakeBroker({ALERTS: values(FIRING), other: values(event("firing", NOW_S, "db-1"))})
    place = AlertmanagerPlace()
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn(2)
    assert deliverer.counts.partitions == 2
    deliverer.consumer.assign([other])
    place.alerts.clear()
    clock.sleep(61.0)
    deliverer.turn(2)
    assert place.alerts == [("db-1", True)]
    assert (deliverer.counts.partitions, deliverer.counts.open) == (1, 1)


def test_partitions_that_do_not_come_back_after_an_outage_are_let_go(clock: FakeClock) -> None:
    broker, place = FakeBroker({ALERTS: values(FIRING)}), AlertmanagerPlace()
    deliverer = Deliverer(broker, [place], clock)
    deliverer.turn(2)
    # The new client gets nothing: somebody else has the partition.
    deliverer.consumer = FakeConsumer(broker)
    clock.sleep(REJOIN_TIMEOUT_S + 61.0)
    deliverer.turn(2)
    place.alerts.clear()
    clock.sleep(61.0)
    deliverer.turn(2)
    assert place.alerts == []


def test_receivers_in_threads_are_stopped_in_time(broker: FakeBroker) -> None:
    deliverer = Deliverer(broker, [Place()], FakeClock())
    for receiver in deliverer.receivers:
        receiver.start()
    began_s = time.monotonic()
    deliverer.loop._stop_receivers()
    assert time.monotonic() - began_s < 3.0
