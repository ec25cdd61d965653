"""Tests for detector.alerting.reopened."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.alerting.aftermath import of_released
from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import EntityRules, Override
from detector.alerting.event import AlertEvent
from detector.alerting.reopened import ToldAlert, explained_before, reopened_state
from detector.alerting.rules import AlertRules
from detector.batch import IntArray
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, initial_state
from detector.pipeline.run import run
from tests.made import batch, detector, gmm, scoring_model

RULES = AlertRules(fire_m=2, fire_of=3, resolve_records=4, keep_alive_s=20.0)
N, CUT = 40, 18
ILL = slice(10, 30)


@pytest.fixture(scope="module")
def watcher() -> Detector:
    # A stateless model: what it says of a record does not depend on what it remembers.
    return detector(scoring_model(gmm())[0], threshold=1e-3, rules=RULES)


def rows(first: int, end: int) -> IntArray:
    return np.arange(first, end)


def events_of(
    watcher: Detector, state: EntityState, which: IntArray, ill: tuple[slice, ...] = (ILL,)
) -> tuple[EntityState, list[AlertEvent]]:
    x = gmm().sample(N, np.random.default_rng(1))
    for stretch in ill:
        x[stretch] += 8.0
    if ill == (ILL,):
        x[25] += 12.0
    whole = batch(x)
    part = replace(whole, offset=whole.offset[which], time=whole.time[which], values=whole.values[which])
    part = replace(part, entity=["e"] * len(which), source=np.zeros(len(which), dtype=np.int64))
    done = run(watcher, state, part, np.arange(len(which)), np.array([len(which)]))
    return done.state, done.events


def known_again(watcher: Detector, newest: ToldAlert) -> EntityState:
    """Return the state of a process that knows no more than what was told."""
    afresh = initial_state(watcher, ["e"])
    np.put(afresh.alert, [0], reopened_state(newest, [watcher.model.members[0].name]))
    afresh.explained[0] = explained_before(newest)
    if newest.newest.resolved_because == "new_normal":
        afresh.aftermath[0] = of_released(newest.newest.start, newest.newest.time)
    return afresh


def told(event: AlertEvent) -> dict[str, Any]:
    names = ("alert_id", "transition", "start", "peak", "records", "end", "severity", "reopened", "p_value")
    return {name: getattr(event, name) for name in names} | {"nats": round(event.surprise_nats, 6)}


def test_an_alert_goes_on_from_its_newest_event_as_if_nothing_had_happened(watcher: Detector) -> None:
    _, events = events_of(watcher, initial_state(watcher, ["e"]), rows(0, N))
    assert {event.transition for event in events} == {"firing", "updated", "resolved"}
    _, before = events_of(watcher, initial_state(watcher, ["e"]), rows(0, CUT))
    fired = before[-1]
    newest = ToldAlert(fired, before[0].time, True)
    afresh = known_again(watcher, newest)
    # From the record after the one that was told of last, so that nothing is counted twice or not at all.
    follows = int(np.flatnonzero(rows(0, N) == fired.last_offset)[0]) + 1
    _, after = events_of(watcher, afresh, rows(follows, N))
    assert (after[0].transition, after[0].updated_because) == ("updated", "keep_alive")
    assert told(after[-1]) == told(events[-1])
    assert after[-1].transition == "resolved"
    assert {event.alert_id for event in after} == {fired.alert_id}


def test_after_a_restart_an_alert_ends_where_it_was_suspicious_last(watcher: Detector) -> None:
    _, events = events_of(watcher, initial_state(watcher, ["e"]), rows(0, N))
    *_, kept_alive, resolved = events
    assert kept_alive.peak < kept_alive.last_suspicious <= kept_alive.time
    calm = rows(int(resolved.time) - 3, N)
    _, [*_, over] = events_of(
        watcher, known_again(watcher, ToldAlert(kept_alive, events[0].time, True)), calm
    )
    assert (over.resolved_because, over.end) == ("calm", kept_alive.last_suspicious)


def test_what_is_open_resolves_with_the_first_record_of_an_entity_that_is_muted(watcher: Detector) -> None:
    _, [fired, *_] = events_of(watcher, initial_state(watcher, ["e"]), rows(0, CUT))
    muting = EntityRules.of([Override(EntityPatterns(("e",)), mute=True)], [0.0])
    muted = replace(watcher, entity_rules=muting)
    newest = ToldAlert(fired, fired.time, True)
    state, [over] = events_of(muted, known_again(muted, newest), rows(CUT, N))
    assert (over.alert_id, over.transition, over.resolved_because) == (fired.alert_id, "resolved", "muted")
    assert (over.time, over.end) == (CUT, fired.last_suspicious)
    assert not state.alert["firing"].any()
    assert not ToldAlert(over, fired.time, False).bears_on(over.time, RULES)


def test_severity_does_not_fall_within_an_alert_though_a_lower_one_is_configured(watcher: Detector) -> None:
    _, [fired, *_] = events_of(watcher, initial_state(watcher, ["e"]), rows(0, CUT))
    for configured, told_before, goes_on in (
        ("info", "warning", "warning"),
        ("info", "critical", "critical"),
        ("warning", "info", "warning"),
    ):
        lower = replace(watcher, rules=replace(RULES, severity=configured, cooldown_s=2.0))
        newest = ToldAlert(replace(fired, severity=told_before), fired.time, True)
        again = (ILL, slice(36, N))
        _, events = events_of(lower, known_again(lower, newest), rows(CUT, N), again)
        *same, other = events
        assert {event.severity for event in same} == {goes_on}
        assert (other.transition, other.severity) == ("firing", configured)


def test_what_was_told_of_the_peak_is_known_again(watcher: Detector) -> None:
    _, [fired, *_] = events_of(watcher, initial_state(watcher, ["e"]), rows(0, CUT))
    critical = replace(fired, severity="critical", side="too_likely", member="gone", reopened=2)
    [row] = reopened_state(ToldAlert(critical, fired.time, True), ["a", "b", "gone"])
    assert (row["peak_member"], row["critical"], row["peak_too_likely"], row["stretches"]) == (
        2,
        True,
        True,
        3,
    )


def test_what_fires_within_the_cooldown_is_the_alert_that_was_told_of() -> None:
    rules = replace(RULES, cooldown_s=8.0)
    watcher = detector(scoring_model(gmm())[0], threshold=1e-3, rules=rules)
    twice = (slice(8, 11), slice(16, 18))
    _, uninterrupted = events_of(watcher, initial_state(watcher, ["e"]), rows(0, N), twice)
    assert [event.transition for event in uninterrupted] == ["firing", "resolved"] * 2
    _, [fired, resolved] = events_of(watcher, initial_state(watcher, ["e"]), rows(0, 15), twice)
    newest = ToldAlert(resolved, fired.time, False)
    assert newest.bears_on(resolved.time + 7.0, rules)
    assert not newest.bears_on(resolved.time + 8.0, rules)
    follows = int(np.flatnonzero(rows(0, N) == resolved.last_offset)[0]) + 1
    _, again = events_of(watcher, known_again(watcher, newest), rows(follows, N), twice)
    assert [told(event) for event in again] == [told(event) for event in uninterrupted[2:]]
    assert again[0].reopened == 1


def test_what_came_back_waits_for_its_cooldown_after_a_restart_too() -> None:
    rules = replace(RULES, cooldown_s=8.0, release_after_s=12.0)
    watcher = detector(scoring_model(gmm())[0], threshold=1e-3, rules=rules)
    comes_and_goes = (slice(2, 5), slice(8, 10), slice(16, 18), slice(24, 26))
    _, events = events_of(watcher, initial_state(watcher, ["e"]), rows(0, N), comes_and_goes)
    assert [event.transition for event in events] == ["firing", "resolved", "firing", "resolved"]
    open_now = ToldAlert(events[2], events[2].time, True)
    # It is open for longer than an alert may last, and was calm in between.
    _, [kept_alive, ended] = events_of(watcher, known_again(watcher, open_now), rows(20, N), comes_and_goes)
    assert kept_alive.updated_because == "keep_alive"
    assert (ended.resolved_because, ended.end, ended.time) == ("calm", events[3].end, events[3].time)


def test_what_came_back_and_is_over_stays_over_after_a_restart_until_it_fires() -> None:
    rules = replace(RULES, cooldown_s=6.0)
    watcher = detector(scoring_model(gmm())[0], threshold=1e-3, rules=rules)
    thrice = (slice(2, 5), slice(9, 11), slice(24, 26))
    _, events = events_of(watcher, initial_state(watcher, ["e"]), rows(0, N), thrice)
    assert [(event.transition, event.reopened) for event in events][3:] == [
        ("resolved", 1),
        ("firing", 2),
        ("resolved", 2),
    ]
    over = ToldAlert(events[3], events[2].time, False)
    _, again = events_of(watcher, known_again(watcher, over), rows(int(events[3].time) + 1, N), thrice)
    assert [told(event) for event in again] == [told(event) for event in events[4:]]


def test_a_level_that_became_normal_fires_at_no_restart_and_what_stands_out_of_it_does() -> None:
    rules = replace(RULES, release_after_s=6.0)
    watcher = detector(scoring_model(gmm())[0], threshold=1e-3, rules=rules)
    shifted = (slice(5, N),)
    _, [*_, released] = events_of(watcher, initial_state(watcher, ["e"]), rows(0, 16), shifted)
    assert released.resolved_because == "new_normal"
    newest = ToldAlert(released, released.start, False)
    assert newest.bears_on(released.time + 5.0, rules)
    assert not newest.bears_on(released.time + 6.0, rules)
    _, unknowing = events_of(watcher, initial_state(watcher, ["e"]), rows(16, N), shifted)
    assert unknowing[0].transition == "firing"
    _, silent = events_of(watcher, known_again(watcher, newest), rows(16, N), shifted)
    assert silent == []
    further = (*shifted, slice(32, N), slice(32, N))
    _, [stands_out, *_] = events_of(watcher, known_again(watcher, newest), rows(16, N), further)
    assert (stands_out.transition, stands_out.time >= 32.0) == ("firing", True)
    # Within the cooldown, so it is told as more of the same.
    assert (stands_out.alert_id, stands_out.reopened) == (released.alert_id, 1)
