"""Tests for detector.stream.expiry, and for what the loop does with entities that are gone for good."""

import json

import numpy as np
import pytest

from detector.alerting.absence import AbsenceRules
from detector.batch import Batch, Source
from detector.pipeline.detector import Detector
from detector.stream.expiry import Expiry
from detector.stream.presence import Presence
from tests.made import detector, gmm, scoring_model
from tests.stream.fakes import FakeBroker
from tests.stream.records import NOW_S
from tests.stream.test_loop import OUTPUTS, Rig

P0, P1 = Source("telemetry", 0), Source("telemetry", 1)
DAY_S = 86_400.0


def batch(*times: float) -> Batch:
    n = len(times)
    zeros = np.zeros(n, dtype=np.int64)
    return Batch("hosts", ("x",), (P0,), zeros, np.arange(n), ["e"] * n, np.array(times), np.zeros((n, 1)))


def slots(*of: int) -> np.ndarray:
    return np.array(of, dtype=np.int64)


def test_entity_is_gone_by_the_clock_of_its_own_partition() -> None:
    expiry = Expiry(7 * DAY_S)
    assert expiry.returning(batch(0.0, 0.0, 0.0), slots(0, 1, 2)).size == 0
    assert expiry.seen(batch(0.0, 0.0, 0.0), slots(0, 1, 2), NOW_S)
    expiry.seen(batch(7.1 * DAY_S), slots(1), NOW_S)
    # Slots 0 and 1 are of one partition, 2 of another, which is read behind.
    assert expiry.gone(slots(0, 1, 2), slots(0, 0, 1)).tolist() == [0]
    expiry.forget(slots(0))
    assert expiry.gone(slots(0, 1, 2), slots(0, 0, 1)).size == 0


def test_times_ahead_of_the_wall_clock_free_nobody() -> None:
    expiry = Expiry(7 * DAY_S)
    expiry.returning(batch(0.0, 0.0), slots(0, 1))
    expiry.seen(batch(0.0, 30 * DAY_S), slots(0, 1), DAY_S)
    assert expiry.gone(slots(0, 1), slots(0, 0)).size == 0


def test_entity_whose_clock_is_far_behind_is_there_while_it_sends() -> None:
    expiry, held = Expiry(7 * DAY_S), (slots(0, 1), slots(0, 0))
    for day in range(30):
        for slot, time in ((1, (day + 100) * DAY_S), (0, day * DAY_S)):
            expiry.returning(batch(time), slots(slot))
            expiry.seen(batch(time), slots(slot), NOW_S)
            assert expiry.gone(*held).size == 0
    expiry.seen(batch(137.1 * DAY_S), slots(1), NOW_S)
    assert expiry.gone(*held).tolist() == [0]


def test_entity_whose_clock_went_back_is_gone_since_nothing_of_it_is_scored() -> None:
    expiry, held = Expiry(7 * DAY_S), (slots(0, 1), slots(0, 0))
    for day, gone in ((0, []), (3, []), (8, [0]), (9, [])):
        for slot, time in ((0, (50 if day == 0 else day) * DAY_S), (1, (50 + day) * DAY_S)):
            expiry.returning(batch(time), slots(slot))
            expiry.seen(batch(time), slots(slot), NOW_S)
        assert expiry.gone(*held).tolist() == gone
        expiry.forget(slots(*gone))


def test_partition_that_comes_again_has_the_clock_of_its_records() -> None:
    expiry = Expiry(7 * DAY_S)
    for _ in range(2):
        for day in (0.0, 8.0):
            expiry.returning(batch(day * DAY_S), slots(int(day)))
            expiry.seen(batch(day * DAY_S), slots(int(day)), NOW_S)
        assert expiry.gone(slots(0, 8), slots(0, 0)).tolist() == [0]
        expiry.forget(slots(0, 8))
        expiry.forget_source(P0)


def test_looks_are_rare() -> None:
    expiry = Expiry(6400.0)
    looks = 0
    for k in range(1000):
        expiry.returning(batch(10.0 * k), slots(0))
        looks += expiry.seen(batch(10.0 * k), slots(0), NOW_S)
    assert looks == 100


@pytest.fixture(scope="module")
def forecaster() -> Detector:
    """Needs one record of an entity's past."""
    return detector(scoring_model(gmm(), predict=True)[0], threshold=1e-9)


def records(entity: str, *days: float) -> list[bytes | None]:
    features, start_s = {"f0": 0.0, "f1": 0.0, "f2": 0.0}, NOW_S - 100 * DAY_S
    return [
        json.dumps({"entity": entity, "time": start_s + DAY_S * day, "features": features}).encode()
        for day in days
    ]


@pytest.mark.parametrize("poll", [1, 10])
def test_entity_that_comes_back_after_long_begins_anew_whenever_its_memory_was_freed(
    forecaster: Detector, poll: int
) -> None:
    others = [record for day in range(1, 20) for record in records("other", float(day))]
    early, late = [*records("e", 0.0, 1.0), *others[:9]], others[9:]
    # Within the time, beyond it, and beyond it on a stream that stood still meanwhile.
    broker = FakeBroker({P0: [*early, *late, *records("e", 19.5)], P1: records("alone", 0.0, 6.9, 14.0)})
    rig = Rig(broker, forecaster)
    rig.made(OUTPUTS, max_poll_records=poll)
    rig.loop.run()
    status = {(s["entity"], s["time"]): s["status"] for s in rig.scores()}
    found = {
        entity: [text for (of, _), text in sorted(status.items()) if of == entity]
        for entity in ("e", "alone")
    }
    assert found["e"] == ["warming_up", "scored", "warming_up"]
    if poll == 1:
        assert found["alone"] == ["warming_up", "scored", "warming_up"]
    assert "e" in rig.observer.gone
    assert len(rig.watch.firing()) == 0


def test_entity_whose_clock_is_a_month_behind_is_remembered(forecaster: Detector) -> None:
    both = [record for k in range(20) for record in (*records("other", k / 2), *records("e", k / 2 - 30))]
    rig = Rig(FakeBroker({P0: both}), forecaster)
    rig.made(OUTPUTS, max_poll_records=1)
    rig.loop.run()
    status = [score["status"] for score in rig.scores() if score["entity"] == "e"]
    assert status == ["warming_up"] + ["scored"] * 19
    assert rig.observer.gone == []


def test_absence_of_an_entity_that_is_gone_for_good_ends_quietly(forecaster: Detector) -> None:
    hourly = [record for k in range(24 * 12) for record in records("other", k / 24)]
    both = [record for k in range(24) for record in (*records("e", k / 24), hourly[k])]
    presence = Presence("hosts", AbsenceRules(), ("e",))
    rig = Rig(FakeBroker({P0: [*both, *hourly[24:]]}), forecaster, presence=presence)
    rig.loop.run()
    events = rig.observer.absences
    assert (events[0].transition, events[-1].transition) == ("firing", "resolved")
    assert events[-1].resolved_because == "expired"
    assert 7 * DAY_S < events[-1].time - events[0].start < 7.5 * DAY_S
    assert {event.transition for event in events[1:-1]} == {"updated"}
    assert rig.observer.absent_entities == 0
