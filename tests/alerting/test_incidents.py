"""Tests for detector.alerting.incidents."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.event import AlertEvent, FeatureReason, Transition
from detector.alerting.incident_event import MEMBERS_LISTED, IncidentEvent
from detector.alerting.incidents import (
    Grouped,
    IncidentState,
    fewest_entities,
    forget,
    group,
    restore,
)
from detector.alerting.reopened import ToldAlert
from detector.alerting.rules import IncidentRules
from tests.delivery.events import event

RULES = IncidentRules(entities=3, within_s=300.0)
WEEKLY = 1 / (7 * 86_400.0)


def of(entity: str, time_s: float, transition: Transition = "firing", episode: int = 0) -> AlertEvent:
    return event(transition, time_s, entity, episode=episode)


class Fleet:
    """Ten entities, batch after batch."""

    def __init__(self, rules: IncidentRules = RULES, entities: int = 10) -> None:
        self.rules, self.entities = rules, entities
        self.state = IncidentState()
        self.told: list[IncidentEvent] = []

    def take(self, *episodes: AlertEvent, now: float | None = None) -> Grouped:
        now = max((each.time for each in episodes), default=-np.inf) if now is None else now
        grouped = group(self.state, episodes, self.rules, self.entities, WEEKLY, now)
        self.state = grouped.state
        self.told += grouped.events
        return grouped

    def transitions(self) -> list[str]:
        return [told.transition for told in self.told]


def test_entities_that_begin_together_are_one_incident_from_the_first_on() -> None:
    fleet = Fleet()
    assert fleet.take(of("a", 0.0)).incident_of == {}
    assert fleet.take(of("b", 100.0)).events == []
    third = fleet.take(of("c", 299.0))
    [told] = third.events
    assert (told.transition, told.entities, told.firing) == ("firing", 3, 3)
    assert [member.entity for member in told.members] == ["a", "b", "c"]
    # Of those told before, nobody says so any more.
    assert third.incident_of == {of("c", 299.0).alert_id: told.incident_id}
    assert (told.start, told.time, told.end) == (0.0, 299.0, None)


def test_too_few_or_too_far_apart_stay_alone() -> None:
    fleet = Fleet()
    for i in range(20):
        assert fleet.take(of(f"e{i}", 160.0 * i)).incident_of == {}
    assert fleet.told == []
    assert len(fleet.state.recent) <= 2


def test_one_entity_that_fires_again_and_again_is_no_incident() -> None:
    fleet = Fleet()
    for i in range(9):
        fleet.take(of("a", 10.0 * i, episode=i), of("a", 10.0 * i + 5, "resolved", episode=i))
    assert fleet.told == []


def test_how_records_were_cut_into_batches_does_not_matter_to_ids() -> None:
    episodes = [of(f"e{i}", 20.0 * i) for i in range(8)]
    at_once, one_by_one = Fleet(), Fleet()
    at_once.take(*reversed(episodes))
    for each in episodes:
        one_by_one.take(each)
    assert at_once.told[0].incident_id == one_by_one.told[0].incident_id
    assert at_once.told[0].id == one_by_one.told[0].id
    assert at_once.told[0].entities == 8


def test_members_that_join_are_told_of_seldom_and_none_is_lost() -> None:
    fleet = Fleet(entities=1000)
    for i in range(1000):
        fleet.take(of(f"e{i}", 0.01 * i))
    assert fleet.transitions() == ["firing", *["updated"] * 7]
    fleet.take(of("e0", 70.0, "resolved"))
    last = fleet.told[-1]
    assert (last.transition, last.entities, last.firing) == ("updated", 1000, 999)
    assert len(last.members) == MEMBERS_LISTED


def test_who_begins_alone_later_is_no_part_of_it_though_somebody_does_every_few_minutes() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 10.0) for name in "abcd"))
    # Within five minutes of those who began together, and of one another.
    assert list(fleet.take(of("e", 250.0)).incident_of) == [of("e", 250.0).alert_id]
    for i in range(4):
        assert fleet.take(of(f"f{i}", 600.0 + 200.0 * i)).incident_of == {}
    assert fleet.state.incident is not None
    assert fleet.state.incident.members.keys() == set("abcde")


def test_it_spreads_for_as_long_as_more_begin_than_chance_brings_together() -> None:
    fleet = Fleet(entities=40)
    for i in range(40):
        fleet.take(of(f"e{i:02}", 90.0 * i))
    assert fleet.state.incident is not None
    assert len(fleet.state.incident.members) == 40
    assert fleet.transitions().count("firing") == 1


def test_it_is_over_when_the_last_member_is() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 10.0) for name in "abcd"))
    fleet.take(*(of(name, 330.0, "resolved") for name in "abc"))
    assert fleet.transitions() == ["firing", "updated"]
    last = fleet.take(of("d", 340.0, "resolved"))
    [over] = last.events
    assert (over.transition, over.end, over.firing, over.entities) == ("resolved", 340.0, 0, 4)
    assert last.incident_of == {of("d", 10.0).alert_id: over.incident_id}


def test_as_long_as_somebody_may_join_it_is_not_over() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 10.0) for name in "abc"), *(of(name, 15.0, "resolved") for name in "abc"))
    assert fleet.transitions() == ["firing"]
    # One host after the other, each for a moment.
    fleet.take(of("d", 300.0), of("d", 305.0, "resolved"))
    assert fleet.told[-1].entities == 4
    assert not fleet.take(now=600.0).events
    [over] = fleet.take(now=601.0).events
    assert (over.transition, over.end) == ("resolved", 305.0)
    assert not fleet.state.waits


def test_a_member_whose_alert_opens_again_is_still_one_and_lets_nobody_else_join() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 10.0) for name in "abc"))
    fleet.take(of("a", 400.0, "resolved"))
    again = fleet.take(replace(of("a", 900.0), reopened=1))
    assert again.incident_of == {of("a", 10.0).alert_id: fleet.told[0].incident_id}
    assert (fleet.told[-1].entities, fleet.told[-1].firing) == (3, 3)
    assert fleet.take(of("x", 1000.0)).incident_of == {}


def test_an_alert_that_is_open_again_began_when_it_fired_this_time() -> None:
    fleet = Fleet()
    again = [replace(of(name, 5000.0), start=1000.0, reopened=1) for name in "abc"]
    [fired] = fleet.take(*again).events
    assert (fired.start, [member.start for member in fired.members]) == (5000.0, [5000.0] * 3)
    fleet.take(*(of(name, 5100.0, "resolved") for name in "abc"), now=6000.0)
    # On a partition that is behind, from before all of that.
    assert fleet.take(of("d", 4000.0), now=6000.0).incident_of == {}


def test_who_joined_last_is_known_after_a_restart_by_when_it_fired() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 5000.0) for name in "abc"))
    [told] = fleet.told
    news = replace(of("a", 6000.0, "updated"), start=1000.0, reopened=1, incident_id=told.incident_id)
    restored = restore(IncidentState(), [told], [ToldAlert(news, 5000.0, True)]).incident
    assert restored is not None
    assert (restored.joined, restored.members["a"].start) == (5000.0, 5000.0)


def test_a_member_that_is_open_again_and_calm_keeps_no_incident_open() -> None:
    fleet = Fleet()
    fleet.take(*(replace(of(name, 1000.0), reopened=1) for name in "abc"))
    fleet.take(*(of(name, 1200.0, "resolved") for name in "ab"))

    def goes_on(time_s: float, last_suspicious: float) -> AlertEvent:
        return replace(of("c", time_s, "updated"), reopened=1, last_suspicious=last_suspicious)

    fleet.take(goes_on(1300.0, 1000.0))
    assert fleet.state.waits
    # It was not over yet, and came back.
    fleet.take(goes_on(1600.0, 1550.0))
    assert fleet.told[-1].firing == 1
    [over] = fleet.take(goes_on(1900.0, 1550.0)).events[-1:]
    assert (over.transition, over.end) == ("resolved", 1900.0)
    # Its own end, a cooldown after it became calm.
    assert fleet.take(of("c", 3400.0, "resolved")).incident_of == {of("c", 0.0).alert_id: over.incident_id}


def test_members_on_a_partition_that_is_behind_open_it_again_and_others_do_not() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 10.0) for name in "abc"), *(of(name, 15.0, "resolved") for name in "abc"))
    fleet.take(of("z", 5000.0), now=5000.0)
    assert fleet.transitions() == ["firing", "resolved"]
    late = fleet.take(of("d", 12.0), of("d", 17.0, "resolved"), now=20.0)
    assert late.incident_of == {of("d", 12.0).alert_id: fleet.told[0].incident_id}
    assert fleet.take(now=5001.0).events[-1].entities == 4
    assert len({told.id for told in fleet.told}) == len(fleet.told)
    assert fleet.take(of("y", 5002.0)).incident_of == {}


def test_what_is_told_of_it_once_more_is_no_repetition_though_its_newest_event_is_the_same() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 1000.0) for name in "abc"))
    fleet.take(*(of(name, 1100.0, "resolved") for name in "abc"))
    fleet.take(now=1400.0)
    fleet.take(*(of(name, 1010.0) for name in "defgh"), now=1400.0)
    worse = replace(of("d", 1020.0), transition="updated", severity="critical")
    fleet.take(worse, now=1400.0)
    fleet.take(*(of(name, 1090.0, "resolved") for name in "defgh"), now=1400.0)
    # The same alert of a member, open again and over: nothing that an event says is new.
    fleet.take(replace(of("d", 1095.0), reopened=1), replace(of("d", 1099.0, "resolved")), now=1400.0)
    assert fleet.transitions() == [
        *("firing", "updated", "resolved"),
        *("updated", "updated", "resolved"),
        "resolved",
    ]
    assert {told.time for told in fleet.told[1:]} == {1100.0}
    assert [told.entities for told in fleet.told] == [3, 3, 3, 8, 8, 8, 8]
    assert len({told.id for told in fleet.told}) == len(fleet.told)


def test_same_records_again_are_told_of_under_the_same_ids() -> None:
    def play() -> list[str]:
        fleet = Fleet()
        fleet.take(*(of(name, 1000.0) for name in "abc"))
        fleet.take(*(of(name, 1100.0, "resolved") for name in "abc"), now=1400.0)
        fleet.take(of("d", 1010.0), of("d", 1090.0, "resolved"), now=1400.0)
        return [told.id for told in fleet.told]

    assert play() == play()


def test_a_whole_incident_within_a_batch_is_told_whole() -> None:
    fleet = Fleet()
    fleet.take(*(of(n, 10.0) for n in "abc"), *(of(n, 90.0, "resolved") for n in "abc"), now=1000.0)
    assert fleet.transitions() == ["firing", "resolved"]
    assert fleet.told[0].incident_id == fleet.told[1].incident_id


def test_who_begins_long_after_the_others_is_no_member_but_a_second_wave_is() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    assert fleet.take(of("x", 301.0)).incident_of == {}
    wave = fleet.take(of("y", 310.0), of("z", 320.0))
    assert set(wave.incident_of.values()) == {fleet.told[0].incident_id}
    assert fleet.told[-1].entities == 6


def test_the_severity_is_the_worst_of_the_members_and_news_at_once() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    worse = replace(of("b", 5.0), transition="updated", severity="critical")
    [told] = fleet.take(worse).events
    assert (told.transition, told.severity) == ("updated", "critical")


def test_a_member_whose_cause_moves_is_listed_with_the_new_one() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    moved = replace(
        of("b", 400.0), transition="updated", reasons=(FeatureReason("memory", 9.0, 1.0, 0.5, 30.0),)
    )
    [told] = fleet.take(moved).events
    assert [member.feature for member in told.members] == ["cpu", "memory", "cpu"]
    assert told.features == (("cpu", 2), ("memory", 1))


def test_an_update_says_what_is_new() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    fleet.take(of("d", 70.0))
    fleet.take(replace(of("a", 140.0, "updated")))
    fleet.take(replace(of("b", 150.0, "updated"), severity="critical"))
    assert [(told.transition, told.updated_because) for told in fleet.told] == [
        ("firing", None),
        ("updated", "spread"),
        ("updated", "keep_alive"),
        ("updated", "severity"),
    ]


def test_it_says_of_members_how_loud_they_were_and_whether_they_are_over() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    fleet.take(replace(of("b", 5.0, "updated"), anomaly_score=9.0))
    fleet.take(of("c", 100.0, "resolved"))
    told = {member.entity: (member.anomaly_score, member.firing) for member in fleet.told[-1].members}
    assert told == {"a": (2.7, True), "b": (9.0, True), "c": (2.7, False)}


def test_it_says_what_its_members_share() -> None:
    fleet = Fleet()
    [told] = fleet.take(
        replace(of("a", 0.0), labels={"team": "shop", "zone": "1"}),
        replace(of("b", 1.0), labels={"team": "shop", "zone": "2"}),
        replace(of("c", 2.0), labels={"team": "shop"}, reasons=()),
    ).events
    assert told.labels == {"team": "shop"}
    assert told.features == (("cpu", 2),)


def test_entities_read_elsewhere_are_forgotten_without_a_word() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    fleet.state = forget(fleet.state, ["b", "c"])
    fleet.take(of("a", 10.0, "resolved"), now=1000.0)
    assert fleet.transitions() == ["firing", "resolved"]
    fleet.take(*(of(name, 2000.0, episode=1) for name in "abc"))
    forgotten = forget(fleet.state, "abc")
    assert forgotten.incident is None
    assert not forgotten.recent


def moved(fleet: Fleet, *entities: str) -> tuple[list[IncidentEvent], list[AlertEvent]]:
    """What is told of entities whose partitions go elsewhere: the incident, and the alerts that are open."""
    [incident] = [told for told in fleet.told if told.transition == "firing"]
    alerts = [replace(of(name, 0.0), incident_id=incident.incident_id) for name in entities]
    return [incident], alerts


def still_open(alerts: Sequence[AlertEvent]) -> list[ToldAlert]:
    return [ToldAlert(alert, alert.time, True) for alert in alerts]


def test_an_incident_is_told_of_by_whoever_reads_where_it_began() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abcd"))
    incidents, alerts = moved(fleet, "a", "b")
    fleet.state = forget(fleet.state, ["a", "b"])
    other = Fleet()
    other.state = restore(other.state, incidents, still_open(alerts))
    # The first says no more of it, but that its entities are in it.
    over = fleet.take(of("c", 10.0, "updated"), of("c", 20.0, "resolved"), of("d", 20.0, "resolved"), now=9e9)
    assert over.events == []
    assert set(over.incident_of.values()) == {incidents[0].incident_id}
    assert fleet.take(of("c", 30.0, "updated")).incident_of == {}
    assert other.take(of("a", 20.0, "resolved"), now=9e9).events == []
    [resolved] = other.take(of("b", 30.0, "resolved"), now=9e9).events
    assert (resolved.incident_id, resolved.transition) == (incidents[0].incident_id, "resolved")
    assert (resolved.entities, resolved.severity, resolved.first_offset) == (
        4,
        "warning",
        incidents[0].first_offset,
    )
    # And it comes back.
    third = restore(forget(fleet.state, ["c", "d"]), incidents, still_open(alerts)).incident
    assert third is not None
    assert set(third.firing) == {alert.alert_id for alert in alerts}


def test_members_of_an_incident_that_began_elsewhere_say_so_and_are_forgotten_when_they_go() -> None:
    _, alerts = moved(told_of(Fleet()), "a", "b")
    state = restore(IncidentState(), [], still_open(alerts))
    assert state.incident is None
    assert set(state.elsewhere) == {alert.alert_id for alert in alerts}
    assert set(forget(state, ["a"]).elsewhere) == {alerts[1].alert_id}


def test_members_of_an_incident_elsewhere_are_forgotten_when_they_expire() -> None:
    lasts_s, fleet = 900.0, Fleet()
    _, told = moved(told_of(Fleet()), "a", "b")
    alerts = [replace(alert, expires_at=alert.time + lasts_s) for alert in told]
    fleet.state = restore(IncidentState(), [], still_open(alerts))
    # Their partition is behind: they have as long as others.
    fleet.take(of("x", 9e6))
    assert set(fleet.state.elsewhere) == {alert.alert_id for alert in alerts}
    heard = fleet.take(replace(of("a", 10.0, "updated"), expires_at=10.0 + lasts_s), now=9e6 + 0.9 * lasts_s)
    assert heard.incident_of == {alerts[0].alert_id: alerts[0].incident_id}
    fleet.take(of("y", 9e6 + 1.1 * lasts_s))
    assert set(fleet.state.elsewhere) == {alerts[0].alert_id}
    over = fleet.take(of("a", 20.0, "resolved"), now=9e6 + 1.2 * lasts_s)
    assert over.incident_of == heard.incident_of
    assert fleet.state.elsewhere == {}


def told_of(fleet: Fleet) -> Fleet:
    fleet.take(*(of(name, 0.0) for name in "abcd"))
    return fleet


def test_the_state_given_is_left_as_it_was() -> None:
    fleet = Fleet()
    fleet.take(*(of(name, 0.0) for name in "abc"))
    before = fleet.state
    results: Sequence[Grouped] = [
        group(before, [of("d", 5.0), of("a", 6.0, "resolved")], RULES, 10, WEEKLY, 6.0) for _ in range(2)
    ]
    assert results[0].state == results[1].state
    assert before.incident is not None
    assert len(before.incident.members) == 3


@pytest.mark.parametrize("entities", [5, 200, 1000, 10_000])
def test_chance_makes_an_incident_less_than_once_a_year(entities: int) -> None:
    rules = IncidentRules()
    fewest = fewest_entities(rules, entities, WEEKLY)
    assert fewest >= rules.entities
    rng = np.random.default_rng(entities)
    year_s = 365 * 86_400.0
    years = 20 if entities <= 1000 else 3
    time = np.sort(rng.uniform(0, years * year_s, rng.poisson(entities * WEEKLY * years * year_s)))

    def clusters(n: int) -> int:
        """Of n episodes within the window, each of them counted once."""
        close = time[n - 1 :] - time[: 1 - n] < rules.within_s
        return int((close & ~np.concatenate(([False], close[:-1]))).sum())

    assert clusters(fewest) <= 2 * years
    if fewest > rules.entities:
        assert clusters(fewest - 2) > years


def test_a_larger_fleet_needs_more() -> None:
    counts = [fewest_entities(IncidentRules(), entities, WEEKLY) for entities in (1, 1000, 100_000)]
    assert counts[0] == 5
    assert counts == sorted(set(counts))


def test_an_incident_lives_as_long_as_the_last_of_its_members() -> None:
    fleet = Fleet()
    fleet.take(
        *(
            replace(of(name, 0.0), expires_at=expiry)
            for name, expiry in zip("abc", (9.0, 7.0, 8.0), strict=True)
        )
    )
    assert fleet.told[-1].expires_at == 9.0
    fleet.take(replace(of("b", 100.0), transition="updated", expires_at=107.0))
    assert (fleet.told[-1].transition, fleet.told[-1].expires_at) == ("updated", 107.0)
    fleet.take(*(of(name, 400.0, "resolved") for name in "abc"))
    assert fleet.told[-1].expires_at is None


def expiring(episode: AlertEvent) -> AlertEvent:
    return replace(episode, expires_at=None if episode.transition == "resolved" else episode.time + 900.0)


def test_a_member_that_is_never_heard_of_again_keeps_no_incident_open() -> None:
    fleet = Fleet()
    fleet.take(*(expiring(of(name, 1000.0)) for name in "abc"))
    # c is switched off: no record, and so no event, ever.
    fleet.take(*(of(name, 1300.0, "resolved") for name in "ab"))
    assert fleet.state.waits
    assert fleet.take(now=1899.0).events == []
    [over] = fleet.take(now=1900.0).events
    assert (over.transition, over.end, over.entities, over.firing) == ("resolved", 1300.0, 3, 0)
    days = 5 * 86_400.0
    [other] = fleet.take(*(expiring(of(name, days, episode=1)) for name in "xyz")).events
    assert (other.transition, other.entities) == ("firing", 3)
    assert other.incident_id != over.incident_id


def test_it_ends_before_another_one_begins_though_both_are_read_at_once() -> None:
    fleet = Fleet()
    fleet.take(*(expiring(of(name, 1000.0)) for name in "abc"))
    fleet.take(
        *(of(name, 1300.0, "resolved") for name in "ab"),
        *(expiring(of(name, 9000.0, episode=1)) for name in "xyz"),
    )
    assert fleet.transitions() == ["firing", "resolved", "firing"]
    assert [told.entities for told in fleet.told] == [3, 3, 3]


def test_a_member_that_is_heard_of_in_time_keeps_it_open_and_a_lapsed_one_may_come_back() -> None:
    fleet = Fleet()
    fleet.take(*(expiring(of(name, 1000.0)) for name in "abc"))
    fleet.take(*(expiring(of(name, 1800.0, "updated")) for name in "ab"))
    fleet.take(now=2000.0)
    assert fleet.take(expiring(of("a", 2100.0, "updated"))).events[-1].firing == 2
    back = fleet.take(expiring(of("c", 2200.0, "updated")))
    assert back.incident_of == {of("c", 1000.0).alert_id: fleet.told[0].incident_id}
    assert fleet.told[-1].firing == 3


def test_a_member_on_a_partition_that_is_behind_has_as_long_as_the_others() -> None:
    fleet = Fleet()
    fleet.take(*(expiring(of(name, 1000.0)) for name in "abc"), now=5000.0)
    fleet.take(expiring(of("d", 1100.0)), now=5000.0)
    fleet.take(*(of(name, 1200.0, "resolved") for name in "abc"), now=5000.0)
    assert fleet.transitions() == ["firing", "updated", "updated"]
    assert fleet.take(now=5899.0).events == []
    assert [told.transition for told in fleet.take(now=5900.0).events] == ["resolved"]


def test_what_goes_on_after_a_restart_lapses_as_well() -> None:
    fleet = Fleet()
    fleet.take(*(expiring(of(name, 1000.0)) for name in "abc"))
    open_alerts = [
        expiring(replace(of(name, 1000.0), incident_id=fleet.told[0].incident_id)) for name in "abc"
    ]
    other = Fleet()
    other.state = restore(other.state, fleet.told, still_open(open_alerts))
    assert other.take(now=1899.0).events == []
    assert [told.transition for told in other.take(now=1900.0).events] == ["resolved"]
