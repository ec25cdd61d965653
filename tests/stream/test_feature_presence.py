"""Tests for detector.stream.feature_presence, through the presence that owns it."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from detector.alerting.absence import AbsenceRules
from detector.alerting.absence_event import MANY_ENTITIES, AbsenceEvent
from detector.alerting.entity_patterns import EntityPatterns
from detector.batch import Batch, FloatArray, Source
from detector.stream.maintenance import Maintenance, Selector, Window
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


def play(
    rows: FloatArray, poll: int, rules: AbsenceRules | None = None, windows: Sequence[Window] = ()
) -> list[AbsenceEvent]:
    n = rows.shape[1]
    excused = partial(Maintenance(windows).excused_until, ["watch"]) if windows else None
    presence, events = Presence("hosts", rules or AbsenceRules(), excused_until=excused), []
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


def test_a_record_that_is_resent_with_the_feature_ends_it_when_it_comes() -> None:
    rows, presence, events = values(20), Presence("hosts", AbsenceRules()), []
    rows[200:, 3, 0] = np.nan
    for k in range(240):
        # The last one is a record of web-3 alone, of before.
        sent = [3] if k == 239 else range(20)
        slots = np.array(sent)
        at = k if k < 239 else 150
        batch = Batch(
            "hosts",
            FEATURES,
            (P0,),
            np.zeros(len(slots), dtype=np.int64),
            20 * k + slots,
            [f"web-{i}" for i in sent],
            START_S + 60.0 * (at + slots / 20),
            rows[at, slots],
            {},
        )
        presence.saw(batch, slots, 2e9, 0.0)
        events += presence.take_events()
    fired, over = events
    assert (fired.transition, over.transition) == ("firing", "resolved")
    assert over.end == over.time == pytest.approx(START_S + 239 * 60.0, abs=10.0)


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
    assert events[0].labels == {"team": "shop"}
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


def window(first: int, last: int, entities: str = "*") -> Window:
    return Window(Selector(EntityPatterns((entities,))), START_S + 60.0 * first, START_S + 60.0 * last)


@pytest.mark.parametrize("poll", [17, 400])
def test_inside_a_window_no_feature_is_missed_and_afterwards_it_is_counted_anew(poll: int) -> None:
    rows = values(20)
    # An exporter is replaced; of one entity the new one lacks a feature.
    rows[201:250, :5, 0] = np.nan
    rows[201:, 7, 0] = np.nan
    rows[201:250, 9, 0] = np.nan
    [fired] = [
        event
        for event in play(rows, poll, windows=[window(200, 250, "web-[0-8]")])
        if event.transition == "firing" and event.entity != "web-9"
    ]
    assert (fired.entity, fired.features) == ("web-7", ("cpu",))
    assert fired.start == START_S + 60.0 * (250 * 20 + 7) / 20
    assert 254 * 60.0 <= fired.time - START_S <= (260 + poll / 20) * 60.0


def test_entity_outside_the_window_is_missed_while_others_are_inside() -> None:
    rows = values(20)
    rows[201:250, [3, 9], 0] = np.nan
    events = play(rows, 20, windows=[window(200, 250, "web-3")])
    assert {event.entity for event in events} == {"web-9"}


def test_what_is_missed_before_a_window_is_back_after_it_and_not_told_twice() -> None:
    rows = values(20)
    rows[200:240, 3, 0] = np.nan
    fired, over = (
        event for event in play(rows, 20, windows=[window(220, 260)]) if event.transition != "updated"
    )
    assert (fired.transition, over.transition) == ("firing", "resolved")
    assert over.end is not None
    assert 260 * 60.0 <= over.end - START_S <= 262 * 60.0


def test_a_window_without_the_feature_does_not_teach_that_it_is_often_missing() -> None:
    rows = values(20)
    rows[150:200, 3, 0] = np.nan
    rows[210:240, 3, 0] = np.nan
    fired, over = (
        event for event in play(rows, 20, windows=[window(150, 200)]) if event.transition != "updated"
    )
    assert fired.time - fired.start <= 10 * 60.0
    assert over.transition == "resolved"


def test_feature_of_an_entity_that_moves_to_another_partition_stays_missed_until_it_is_back() -> None:
    rows = values(20)
    rows[200:240, 3, 0] = np.nan
    presence, events = Presence("hosts", AbsenceRules()), []
    for k in range(ROUNDS):
        # Of web-3 under another slot: there, back, and there again.
        moved = 210 <= k < 215 or k >= 230
        slots = np.arange(20)
        slots[3] = 20 if moved else 3
        batch = Batch(
            "hosts",
            FEATURES,
            (P0, Source("telemetry", 1)),
            (slots == 20).astype(np.int64),
            np.arange(20 * k, 20 * (k + 1)),
            [f"web-{i}" for i in range(20)],
            START_S + 60.0 * (k + np.arange(20) / 20),
            rows[k],
            {},
        )
        presence.saw(batch, slots, 2e9, 0.0)
        presence.check()
        events += [event for event in presence.take_events() if event.transition != "updated"]
    assert [(event.transition, event.entity) for event in events] == [
        ("firing", "web-3"),
        ("resolved", "web-3"),
    ]
    assert events[1].end == pytest.approx(START_S + 240 * 60.0, abs=180.0)
    assert presence.firing() == []
