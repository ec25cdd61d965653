"""Tests for detector.stream.loop where entities are missed: events on the alerts topic, once and in time."""

import json
from typing import Any

import pytest

from detector.alerting.absence import AbsenceRules
from detector.batch import Source
from detector.pipeline.detector import Detector
from detector.stream.port import BrokerUnavailableError
from detector.stream.presence import Presence
from detector.stream.reasons import Reason
from tests.made import detector, gmm, scoring_model
from tests.stream.fakes import FakeBroker, FakeConsumer
from tests.stream.records import NOW_S
from tests.stream.test_loop import Rig

P0 = Source("telemetry", 0)
TIME = NOW_S - 100_000.0


@pytest.fixture(scope="module")
def watcher() -> Detector:
    return detector(scoring_model(gmm())[0], threshold=1e-9)


def telemetry(rounds: range, *, without: frozenset[str] = frozenset()) -> list[bytes | None]:
    """A record of each of twelve entities, every minute."""
    return [
        json.dumps(
            {
                "entity": f"web-{i:02d}",
                "time": TIME + 60.0 * k + 5.0 * i,
                "features": {"f0": 0.0, "f1": 0.0, "f2": 0.0},
                "team": "shop",
            }
        ).encode()
        for k in rounds
        for i in range(12)
        if f"web-{i:02d}" not in without
    ]


def rig_of(broker: FakeBroker, watcher: Detector) -> Rig:
    return Rig(broker, watcher, presence=Presence("hosts", AbsenceRules(silence_after_s=30.0)))


def events(broker: FakeBroker) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in broker.topic("alerts")]


def test_absence_and_return_are_on_the_alerts_topic_and_counted(watcher: Detector) -> None:
    records = telemetry(range(20))
    records += telemetry(range(20, 40), without=frozenset({"web-03"})) + telemetry(range(40, 50))
    rig = rig_of(FakeBroker({P0: records}), watcher)
    rig.loop.run()
    fired, over = events(rig.broker)
    assert (fired["kind"], fired["state"], over["state"]) == ("absence", "firing", "resolved")
    assert (fired["input"], fired["entity"], fired["labels"]) == ("hosts", "web-03", {"team": "shop"})
    assert fired["alert_id"] == over["alert_id"]
    assert fired["usual_interval_s"] == pytest.approx(60.0, rel=0.01)
    assert fired["origin"] == {
        "topic": "telemetry",
        "partition": 0,
        "first_offset": 12 * 19 + 3,
        "last_offset": 12 * 19 + 3,
    }
    assert (fired["expires_at"] is None, over["expires_at"], over["end"]) == (False, None, over["time"])
    assert [record.key for record in rig.broker.topic("alerts")] == [b"web-03"] * 2
    assert [event.transition for event in rig.observer.absences] == ["firing", "resolved"]
    assert rig.observer.absent_entities == 0


def test_absence_comes_again_with_the_same_id_after_records_came_again(watcher: Detector) -> None:
    records = telemetry(range(20)) + telemetry(range(20, 40), without=frozenset({"web-03"}))
    broker = FakeBroker({P0: records})
    rig_of(broker, watcher).loop.run()
    broker.committed = {}
    rig_of(broker, watcher).loop.run()
    first, second = (dict(record.headers)["ce_id"] for record in broker.topic("alerts"))
    assert first == second


def test_silence_of_all_is_told_although_no_record_comes(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(range(20))})
    rig = rig_of(broker, watcher)

    def wait(consumer: FakeConsumer) -> None:
        rig.clock.now_s += 1.0
        if len(broker.topic("alerts")) == 1 and len(broker.records[P0]) == 240:
            assert rig.observer.absent_entities == 12
            broker.records[P0] += telemetry(range(40, 60))
        if len(broker.topic("alerts")) == 2 or rig.clock.now_s > 1000.0:
            rig.loop.stop()

    rig.on_poll = wait
    rig.loop.run()
    assert [(event["state"], event["entity"], event["entities"]) for event in events(broker)] == [
        ("firing", "*", 12),
        ("resolved", "*", 12),
    ]


def test_records_of_the_far_future_are_dead_letters_and_change_nothing_else(watcher: Detector) -> None:
    good = telemetry(range(30))
    # Two entities, so that they would move the stream's clock if they were believed.
    future = [json.loads(record or b"") | {"time": NOW_S + 4000.0} for record in telemetry(range(1))[:2]]
    bad: list[bytes | None] = [json.dumps(record).encode() for record in future]
    with_bad = [*good[:180], *bad, *good[180:270], *bad, *good[270:]]
    rigs = [rig_of(FakeBroker({P0: records}), watcher) for records in (good, with_bad)]
    for rig in rigs:
        rig.loop.run()
    clean, mixed = ([s | {"origin": None} for s in rig.scores()] for rig in rigs)
    assert mixed == clean
    assert rigs[1].observer.reasons == {Reason.TIME_OUT_OF_RANGE: 4}
    assert events(rigs[1].broker) == []


def test_broker_that_is_away_is_no_silence(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(range(20))})
    rig = rig_of(broker, watcher)

    def fail(consumer: FakeConsumer) -> None:
        rig.clock.now_s += 1.0
        if broker.committed.get(P0) == 240:
            broker.fail_next["poll"] = [BrokerUnavailableError("away")]
        if rig.clock.now_s > 1000.0:
            rig.loop.stop()

    rig.on_poll = fail
    rig.loop.run()
    assert events(broker) == []
