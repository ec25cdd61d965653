"""Tests for detector.stream.feature_presence, through the presence that owns it."""

import numpy as np
import pytest

from detector.alerting.absence import AbsenceRules
from detector.alerting.absence_event import MANY_ENTITIES, AbsenceEvent
from detector.batch import Batch, FloatArray, Source
from detector.stream.presence import Presence

P0 = Source("telemetry", 0)
START_S = 1.8e9
FEATURES = ("cpu", "disk", "sparse")
ROUNDS = 300


def values(n: int, seed: int = 0) -> FloatArray:
    """Rounds of n entities: disk is missing in a tenth of the records, the last feature in nine tenths."""
    rng = np.random.default_rng(seed)
    rows = np.ones((ROUNDS, n, 3))
    rows[rng.uniform(size=(ROUNDS, n)) < 0.1, 1] = np.nan
    rows[rng.uniform(size=(ROUNDS, n)) < 0.9, 2] = np.nan
    return rows


def play(rows: FloatArray, poll: int, rules: AbsenceRules | None = None) -> list[AbsenceEvent]:
    n = rows.shape[1]
    presence, events = Presence("hosts", rules or AbsenceRules()), []
    flat = rows.reshape(-1, 3)
    for at in range(0, len(flat), poll):
        index = np.arange(at, min(at + poll, len(flat)))
        batch = Batch(
            "hosts",
            FEATURES,
            (P0,),
            np.zeros(len(index), dtype=np.int64),
            index,
            [f"web-{i % n}" for i in index.tolist()],
            START_S + 60.0 * index / n,
            flat[index],
            {"team": ["shop"] * len(index)},
        )
        presence.saw(batch, index % n, 2e9, 0.0)
        presence.check()
        events += presence.take_events()
    return events


@pytest.mark.parametrize("poll", [1, 17, 100])
def test_features_that_come_as_usual_are_not_missed(poll: int) -> None:
    assert play(values(20), poll) == []


@pytest.mark.parametrize("poll", [1, 17, 100])
def test_feature_that_vanishes_from_one_entity_is_missed_until_it_is_back(poll: int) -> None:
    rows = values(20)
    rows[200:260, 3, 0] = np.nan
    fired, *goes_on, over = play(rows, poll)
    assert {event.transition for event in goes_on} <= {"updated"}
    assert (fired.kind, fired.transition, fired.entity) == ("vanished_feature", "firing", "web-3")
    assert (fired.features, fired.absent, fired.alive) == (("cpu",), 1, 20)
    assert (fired.source, fired.offset, fired.labels) == (P0, 200 * 20 + 3, {"team": "shop"})
    assert fired.start == START_S + 60.0 * (200 * 20 + 3) / 20
    assert 4 * 60.0 <= fired.time - fired.start <= 10 * 60.0
    assert (over.transition, over.alert_id, over.resolved_because) == ("resolved", fired.alert_id, "returned")
    assert over.end is not None
    assert over.end - fired.start == pytest.approx(60 * 60.0, abs=300.0)


def test_feature_that_is_often_missing_takes_longer_and_a_sparse_one_is_never_missed() -> None:
    rows = values(20)
    rows[200:250, :3, 1:] = np.nan
    events = [event for event in play(rows, 20) if event.transition == "firing"]
    assert {(event.entity, event.features) for event in events} == {(f"web-{i}", ("disk",)) for i in range(3)}
    assert all(event.time - event.start > 6 * 60.0 for event in events)


@pytest.mark.parametrize("poll", [1, 17, 400])
def test_feature_that_vanishes_from_all_is_one_event(poll: int) -> None:
    rows = values(20)
    rows[200:280, :, 0] = np.nan
    events = [event for event in play(rows, poll) if event.transition != "updated"]
    assert [(event.transition, event.entity) for event in events] == [
        ("firing", MANY_ENTITIES),
        ("resolved", MANY_ENTITIES),
    ]
    assert (events[0].absent, events[0].alive, len(events[0].entities)) == (20, 20, 20)
    assert events[0].alert_id == events[1].alert_id


def test_an_entity_that_lacks_it_longer_than_the_others_is_missed_for_itself() -> None:
    rows = values(20)
    rows[200:240, :, 0] = np.nan
    rows[240:290, 5, 0] = np.nan
    events = [event for event in play(rows, 20) if event.transition != "updated"]
    assert [(event.transition, event.entity) for event in events] == [
        ("firing", MANY_ENTITIES),
        ("resolved", MANY_ENTITIES),
        ("firing", "web-5"),
        ("resolved", "web-5"),
    ]


def test_nothing_is_told_where_features_are_not_missed() -> None:
    rows = values(20)
    rows[200:280, :, 0] = np.nan
    assert play(rows, 20, AbsenceRules(features=False)) == []
