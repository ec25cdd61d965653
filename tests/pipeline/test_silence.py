"""Tests for detector.pipeline.silence: what lasts is measured in what was heard of an entity."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.event import AlertEvent
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray
from detector.pipeline.detector import Detector
from detector.pipeline.silence import heard
from tests.made import batch, detector, gmm, scoring_model
from tests.pipelines import outcome_of, watch

MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture(scope="module")
def watcher() -> Detector:
    own = detector(scoring_model(gmm())[0], threshold=1e-3, rules=AlertRules(incident=None))
    return replace(own, interval_s=MINUTE)


def rows(*ill: float) -> FloatArray:
    normal: FloatArray = gmm().sample(len(ill), np.random.default_rng(3))
    return np.asarray(normal + np.array(ill)[:, None])


def events_of(own: Detector, x: FloatArray, time: FloatArray) -> list[AlertEvent]:
    return outcome_of(own, batch(x, time=time))[1]


def test_a_gap_counts_for_no_longer_than_an_alert_lives_without_news() -> None:
    time = np.array([0.0, 60.0, 960.5, 9960.5, 10020.5])
    gap_s = np.append(np.nan, np.diff(time))
    known = heard(time, gap_s, np.array([np.nan]), np.zeros(1), MINUTE, 300.0, np.array([5]))
    # The third gap counts 3 times the one before it, which may be usual; what does not is in whole seconds.
    assert np.diff(known.clock).tolist() == [60.0, 900.5, 2702.0, 60.0]
    assert known.usual_s.tolist() == [60.0, 60.0, 60.0, 900.5, 60.0]
    assert (known.gap_s.tolist(), known.silence_s.tolist()) == ([60.0], [6298.0])


def test_silence_is_the_same_however_rows_are_cut() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.choice([0.1, 60.0, 5000.7, 1e5], size=(3, 200))
    time = 1.7e9 + gaps.cumsum(axis=1)
    whole = heard(
        time.ravel(),
        np.where(np.arange(200) == 0, np.nan, gaps).ravel(),
        np.full(3, np.nan),
        np.zeros(3),
        MINUTE,
        300.0,
        np.full(3, 200),
    )
    gap_s, silence_s, clock = np.full(3, np.nan), np.zeros(3), []
    for i in range(200):
        gap = np.full(3, np.nan) if i == 0 else gaps[:, i]
        one = heard(time[:, i], gap, gap_s, silence_s, MINUTE, 300.0, np.ones(3, dtype=np.int64))
        gap_s, silence_s = one.gap_s, one.silence_s
        clock.append(one.clock)
    assert whole.clock.tobytes() == np.array(clock).T.ravel().tobytes()
    assert whole.silence_s.tolist() == silence_s.tolist()
    assert (silence_s > 1e5).all()


def test_one_suspicious_record_and_a_day_of_silence_do_not_make_an_incident_normal(watcher: Detector) -> None:
    rules = replace(watcher.rules, fire_m=2, fire_of=3)
    time = np.append(np.arange(31) * MINUTE, 24 * HOUR + np.arange(60) * MINUTE)
    events = events_of(replace(watcher, rules=rules), rows(*[0.0] * 30, *[15.0] * 61), time)
    assert events[0].transition == "firing"
    assert "new_normal" not in {event.resolved_because for event in events}


def test_an_alert_that_is_open_in_a_long_silence_goes_on_after_it(watcher: Detector) -> None:
    time = np.append(np.arange(40) * MINUTE, 24 * HOUR + np.arange(60) * MINUTE)
    events = events_of(watcher, rows(*[0.0] * 30, *[15.0] * 70), time)
    assert events[0].transition == "firing"
    assert {event.transition for event in events[1:]} == {"updated"}
    assert events[-1].expires_at == pytest.approx(events[-1].time + 15 * MINUTE)


def test_an_alert_of_an_entity_that_sends_rarely_does_not_expire_between_its_records(
    watcher: Detector,
) -> None:
    time: FloatArray = np.arange(40.0) * 20 * MINUTE
    [fired, *kept_alive] = events_of(watcher, rows(*[0.0] * 35, *[15.0] * 5), time)
    assert [event.updated_because for event in kept_alive] == ["severity", *["keep_alive"] * 3]
    assert {event.expires_at for event in (fired, *kept_alive)} == {t + HOUR for t in time[35:]}


def test_silence_is_remembered_by_the_version_that_replaces_another(watcher: Detector) -> None:
    before, new = watch(watcher), watch(watcher)
    time = np.append(np.arange(40) * MINUTE, 24 * HOUR + np.arange(120) * MINUTE)
    records = batch(rows(*[0.0] * 30, *[15.0] * 130), time=time)
    slots = np.zeros(160, dtype=np.int64)
    for own, part in ((before, slice(0, 60)), (new, slice(60, 160))):
        if own is new:
            new.inherit(before)
        piece = replace(
            records,
            entity=records.entity[part],
            offset=records.offset[part],
            source=records.source[part],
            time=records.time[part],
            values=records.values[part],
            labels={},
        )
        _, events = own.process(piece, slots[part])
        assert "new_normal" not in {event.resolved_because for event in events}
    assert new.firing().tolist() == [0]
