"""Tests for detector.stream.watch."""

from dataclasses import fields, replace
from typing import ClassVar

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.alerting.steering import Steering, SteeringRows
from detector.batch import BoolArray, FloatArray, Status
from detector.pipeline.detector import Detector
from detector.stream.watch import Watch
from tests.alerting.test_steering import steering
from tests.made import batch, detector, gmm, scoring_model
from tests.pipelines import watch

MINUTES = 20 * 1440
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def watcher() -> Detector:
    return detector(scoring_model(gmm())[0], threshold=1e-4)


def seen(own: Watch, slots: range) -> None:
    """Let every slot have a record."""
    names = [f"e{slot}" for slot in slots]
    own.process(batch(gmm().sample(len(slots), RNG), entity=names), np.array(slots))


def test_room_for_many_entities_grows_by_half(watcher: Detector) -> None:
    own = watch(watcher)
    rooms = []
    for capacity in (1, 1025, 150_000, 150_001):
        own._grow(capacity)
        rooms.append(own._state.time.size)
    assert rooms == [1024, 2048, 150_000, 225_000]


def test_who_forgets_every_entity_gives_their_memory_back(watcher: Detector) -> None:
    own = watch(watcher)
    seen(own, range(3000))
    own.forget(np.arange(1, 3000), [])
    assert own._state.time.size >= 3000
    own.forget(np.array([0]), [])
    assert own._state.time.size == 0
    assert own.firing().size == 0
    seen(own, range(2))


class CountedSteering(Steering):
    """Knows at how many entities it had to look."""

    looked_at: ClassVar[list[int]] = []

    def steered(self, state: SteeringRows) -> BoolArray:
        self.looked_at.append(len(state))
        return super().steered(state)


def test_steered_entities_are_counted_without_a_look_at_all_of_them(watcher: Detector) -> None:
    of = steering()
    counted = CountedSteering(*(getattr(of, own.name) for own in fields(of)))
    own = watch(replace(watcher, steering=counted))
    seen(own, range(1, 3000))
    loud = gmm().sample(MINUTES, RNG)
    loud[::144] += 40.0
    names, time = ["e0"] * MINUTES, 2e9 + 60.0 * np.arange(float(MINUTES))
    CountedSteering.looked_at.clear()
    own.process(batch(loud, entity=names, time=time), np.zeros(MINUTES, dtype=np.int64))
    assert own.steered() == 1
    assert max(CountedSteering.looked_at) == 1
    own.process(batch(loud[1:2], entity=["e0"], time=time[-1:] + 60.0), np.zeros(1, dtype=np.int64))
    assert own.steered() == 1
    own.forget(np.arange(10), [])
    assert own.steered() == 0
    seen(own, range(10))
    assert own.steered() == 0


def shifted(n: int, rng: np.random.Generator) -> FloatArray:
    rows = gmm().sample(n, rng)
    rows[:, 0] += 30.0
    return rows


def test_another_version_fires_nothing_for_a_level_that_is_normal_by_now(watcher: Detector) -> None:
    own = watch(replace(watcher, rules=AlertRules(fire_m=1, fire_of=1)))
    rows, time = shifted(700, np.random.default_rng(8)), 1e6 + 60.0 * np.arange(700.0)
    rows[600:603, 1] += 300.0

    def fired(by: Watch, first: int, last: int) -> list[float]:
        records = batch(rows[first:last], entity=["e0"] * (last - first), time=time[first:last])
        _, events = by.process(records, np.zeros(last - first, dtype=np.int64))
        return [event.time for event in events if event.transition == "firing"]

    assert fired(own, 0, 500) == [time[0]]
    newer = watch(own.detector)
    newer.inherit(own)
    assert fired(newer, 500, 600) == []
    assert [time[600] <= when < time[603] for when in fired(newer, 600, 700)] == [True]


def test_what_is_late_stays_late_under_another_version(watcher: Detector) -> None:
    own = watch(watcher)
    rows, slot = gmm().sample(3, RNG), np.zeros(1, dtype=np.int64)
    for i, time in enumerate((1e6, 1e6 + 60.0)):
        own.process(batch(rows[i : i + 1], entity=["e0"], time=np.array([time])), slot)
    newer = watch(watcher)
    newer.inherit(own)
    late, _ = newer.process(batch(rows[:1], entity=["e0"], time=np.array([1e6])), slot)
    again, _ = newer.process(batch(rows[1:2], entity=["e0"], time=np.array([1e6 + 60.0])), slot)
    assert [Status(found.status[0]) for found in (late, again)] == [Status.LATE, Status.DUPLICATE]
