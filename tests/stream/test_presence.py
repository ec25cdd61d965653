"""Tests for detector.stream.presence: who is missed, and who is not."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from detector.alerting.absence import AbsenceRules
from detector.alerting.absence_event import MANY_ENTITIES, AbsenceEvent
from detector.alerting.entity_patterns import EntityPatterns
from detector.batch import Batch, Source
from detector.stream.entity_table import EntityTable
from detector.stream.maintenance import Maintenance, Selector, Window
from detector.stream.partition_clocks import CAUGHT_UP_S
from detector.stream.presence import Presence

P0, P1 = Source("telemetry", 0), Source("telemetry", 1)
WALL_S = 2e9
START_S = 1.8e9
INTERVAL_S = 60.0

Record = tuple[float, str]


class Stream:
    """A presence that is fed records, poll by poll."""

    def __init__(
        self,
        rules: AbsenceRules | None = None,
        patterns: Sequence[str] = ("*",),
        windows: Sequence[Window] = (),
    ) -> None:
        maintenance = Maintenance(windows)
        excused = partial(maintenance.excused_until, ["watch"]) if windows else None
        self.presence = Presence("hosts", rules or AbsenceRules(), patterns, excused)
        self.table = EntityTable()
        self.offsets = {P0: 0, P1: 0}
        self.monotonic_s = 0.0
        self.events: list[AbsenceEvent] = []

    def poll(self, *parts: tuple[Source, Sequence[Record]], now_s: float = WALL_S) -> None:
        """Records of one poll, partition by partition, each in the order of its offsets."""
        sources = tuple(source for source, _ in parts)
        source = np.repeat(np.arange(len(parts)), [len(records) for _, records in parts])
        offset: list[int] = []
        for of, records in parts:
            offset += range(self.offsets[of], self.offsets[of] + len(records))
            self.offsets[of] += len(records)
        times = [START_S + time for _, part in parts for time, _ in part]
        entity = [name for _, part in parts for _, name in part]
        n = len(entity)
        batch = Batch(
            "hosts",
            ("cpu",),
            sources,
            source,
            np.array(offset, dtype=np.int64),
            entity,
            np.array(times),
            np.zeros((n, 1)),
            {"team": ["shop"] * n},
        )
        self.presence.saw(batch, self.table.place(batch), now_s, self.monotonic_s)
        self.presence.check()
        self.events += self.presence.take_events()

    def idle(self, seconds: float, *, lag: int = 0) -> None:
        """Turns of the loop in which nothing comes."""
        for _ in range(int(seconds)):
            self.monotonic_s += 1.0
            self.presence.lags(dict.fromkeys((P0, P1), lag), self.monotonic_s)
            self.presence.check()
            self.presence.check_silence(self.monotonic_s)
            self.events += self.presence.take_events()

    def told(self) -> list[tuple[str, str]]:
        return [(event.transition, event.entity) for event in self.events]


def fleet(n: int) -> list[str]:
    return [f"web-{i:03d}" for i in range(n)]


def rounds(
    entities: Sequence[str], first: int, last: int, *, without: Sequence[str] = (), jitter: float = 0.1
) -> list[Record]:
    """Records of every entity, one an interval, in the order of their times."""
    rng = np.random.default_rng(first)
    records = [
        ((k + i / len(entities) + rng.uniform(-jitter, jitter)) * INTERVAL_S, entity)
        for k in range(first, last)
        for i, entity in enumerate(entities)
        if entity not in without
    ]
    return sorted(records)


def play(stream: Stream, records: Sequence[Record], poll: int = 40, source: Source = P0) -> None:
    for at in range(0, len(records), poll):
        stream.poll((source, records[at : at + poll]))


@pytest.mark.parametrize("poll", [1, 40, 5000])
def test_entity_that_stops_is_missed_within_five_of_its_intervals(poll: int) -> None:
    stream, names = Stream(), fleet(50)
    play(stream, rounds(names, 0, 30), poll)
    assert stream.events == []
    play(stream, rounds(names, 30, 40, without=["web-007"]), min(poll, 100))
    assert stream.told() == [("firing", "web-007")]
    event = stream.events[0]
    assert event.kind == "absence"
    assert event.start == pytest.approx(START_S + (29 + 7 / 50) * INTERVAL_S, abs=0.11 * INTERVAL_S)
    assert 3.9 * INTERVAL_S < event.time - event.start < 5 * INTERVAL_S + 100 / 50 * INTERVAL_S * (poll > 40)
    assert event.usual_interval_s == pytest.approx(INTERVAL_S, rel=0.05)
    assert (event.absent, event.alive, event.entities) == (1, 50, ("web-007",))
    assert event.labels == {"team": "shop"}
    assert (event.source, event.offset) == (P0, next_to_last_offset(names))


def next_to_last_offset(names: Sequence[str]) -> int:
    """Return the offset of web-007's 30th record."""
    return [i for i, (_, name) in enumerate(rounds(names, 0, 30)) if name == "web-007"][-1]


def test_return_resolves_under_the_same_id_and_an_absence_is_told_once() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=["web-003"]))
    play(stream, rounds(names, 60, 90))
    assert stream.told() == [("firing", "web-003"), ("resolved", "web-003")]
    fired, resolved = stream.events
    assert resolved.alert_id == fired.alert_id
    assert resolved.id != fired.id
    assert resolved.resolved_because == "returned"
    assert resolved.end == pytest.approx(START_S + (60 + 3 / 12) * INTERVAL_S, abs=0.11 * INTERVAL_S)
    assert stream.presence.absent() == 0


NOW_S = pytest.approx(START_S + 60 * INTERVAL_S, abs=0.2 * INTERVAL_S)
"""When half an hour without somebody ends."""


def ends(stream: Stream) -> list[AbsenceEvent]:
    return [event for event in stream.events if event.transition == "resolved"]


@pytest.mark.parametrize("sent", [29, 33])
@pytest.mark.parametrize("there", [P0, P1])
def test_records_that_are_resent_or_were_held_back_end_an_absence_when_they_come(
    sent: int, there: Source
) -> None:
    stream, names = Stream(), fleet(12)
    others = [f"db-{i}" for i in range(12)]
    for k in range(60):
        gone = ["web-003"] if k >= 30 else []
        stream.poll((P0, rounds(names, k, k + 1, without=gone)), (P1, rounds(others, k, k + 1)))
    stream.poll((there, [(sent * INTERVAL_S, "web-003")]))
    [over] = ends(stream)
    assert over.entity == "web-003"
    assert over.end == over.time == NOW_S


def test_records_that_were_held_back_end_an_absence_of_many_when_they_come() -> None:
    stream, names = Stream(), fleet(40)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=names[:30]))
    stream.poll((P0, rounds(names[:30], 30, 31)))
    [over] = ends(stream)
    assert over.entity == MANY_ENTITIES
    assert over.end == over.time == NOW_S


def test_records_that_were_held_back_end_the_silence_of_all_when_they_come() -> None:
    stream, names = Stream(AbsenceRules(silence_after_s=30.0)), fleet(12)
    play(stream, rounds(names, 0, 30))
    stream.idle(30 * INTERVAL_S)
    stream.poll((P0, rounds(names, 30, 60)))
    [over] = ends(stream)
    assert over.entity == MANY_ENTITIES
    assert over.end == over.time == NOW_S


def test_absence_of_an_entity_whose_clock_is_ahead_begins_when_it_was_heard_last() -> None:
    stream, names = Stream(), fleet(12)
    records = [*rounds(names, 0, 30), *rounds(names, 30, 90, without=["web-003"]), *rounds(names, 90, 92)]
    play(stream, [(time + 600.0 * (name == "web-003"), name) for time, name in records], 1)
    fired = stream.events[0]
    assert fired.entity == "web-003"
    assert fired.start == pytest.approx(START_S + 29 * INTERVAL_S, abs=INTERVAL_S)
    assert fired.start < fired.time


def test_same_records_again_give_the_same_ids() -> None:
    names = fleet(12)
    records = [*rounds(names, 0, 30), *rounds(names, 30, 60, without=["web-003"])]
    first, second = Stream(), Stream()
    play(first, records, 7)
    play(second, records, 500)
    assert [event.id for event in first.events] == [event.id for event in second.events] != []


def test_entities_with_other_rhythms_have_other_patience() -> None:
    stream = Stream()
    rng = np.random.default_rng(0)
    steady = [(t, "steady") for t in np.arange(0.0, 40_000.0, 10.0)]
    at_random = [(t, "random") for t in np.cumsum(rng.exponential(60.0, 800)) if t < 40_000.0]
    slow = [(t, "slow") for t in np.arange(0.0, 40_000.0, 1800.0)]
    # Agents that upload an hour of records at once, with their own times.
    bursts = [(t, "bursts") for t in np.repeat(np.arange(3600.0, 40_000.0, 3600.0), 60)]
    play(stream, sorted([*steady, *at_random, *slow, *bursts]))
    assert stream.events == []


def test_entity_that_sends_less_often_from_now_on_is_known_to_after_a_few_alerts() -> None:
    stream, names = Stream(), fleet(6)
    play(stream, rounds(names, 0, 60))
    slower = [(60.0 * INTERVAL_S + k * 12 * INTERVAL_S, "web-000") for k in range(60)]
    others = rounds(names, 60, 780, without=["web-000"])
    play(stream, sorted([*slower, *others]))
    assert 1 <= stream.told().count(("firing", "web-000")) <= 4
    assert {entity for _, entity in stream.told()} == {"web-000"}


def test_fixed_patience_is_taken_at_its_word() -> None:
    stream, names = Stream(AbsenceRules(after_s=600.0)), fleet(12)
    play(stream, rounds(names, 0, 3), 10)
    play(stream, rounds(names, 3, 30, without=["web-003"]), 10)
    assert stream.told() == [("firing", "web-003")]
    assert stream.events[0].time - stream.events[0].start == pytest.approx(600.0, abs=INTERVAL_S)


def test_only_entities_of_the_patterns_are_missed() -> None:
    stream, names = Stream(patterns=("web-*", "db-1")), [*fleet(12), "job-1"]
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=["web-003", "job-1"]))
    assert stream.told() == [("firing", "web-003")]


def test_entity_seen_a_few_times_only_is_not_missed() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds([*names, "short"], 0, 6))
    play(stream, rounds(names, 6, 60))
    assert stream.events == []


def test_one_clock_that_runs_ahead_makes_nobody_absent() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    ahead = [
        (time + 82_800.0 * (name == "web-005"), name) for time, name in rounds(names, 30, 60, jitter=0.05)
    ]
    play(stream, ahead)
    assert stream.events == []


def test_clocks_that_run_ahead_together_make_nobody_absent() -> None:
    stream, names = Stream(), fleet(40)
    play(stream, rounds(names, 0, 30))
    play(stream, [(time + 3600.0 * (name < "web-010"), name) for time, name in rounds(names, 30, 90)])
    assert stream.events == []


def test_records_ahead_of_the_wall_clock_do_not_move_the_stream() -> None:
    stream, names = Stream(), fleet(12)
    now_s = START_S + 30 * INTERVAL_S
    for at, (time, name) in enumerate(rounds(names, 0, 30)):
        stream.poll((P0, [(time, name)]), now_s=min(now_s, START_S + time))
        if at == 200:
            stream.poll((P0, [(80_000.0, "web-001"), (80_000.0, "web-002")]), now_s=START_S + time)
    assert stream.events == []


def test_partition_that_is_read_behind_another_is_not_a_fleet_of_dead_entities() -> None:
    stream = Stream()
    here, there = fleet(12), [f"db-{i}" for i in range(12)]
    for k in range(0, 30, 5):
        stream.poll((P0, rounds(here, k, k + 5)), (P1, rounds(there, k, k + 5)))
    # A backlog: all of one partition, then all of the other.
    play(stream, rounds(here, 30, 200))
    stream.idle(3, lag=1)
    play(stream, rounds(there, 30, 200), source=P1)
    assert stream.events == []


def test_hole_in_the_whole_stream_is_nobodys_absence() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 60, 90))
    assert stream.events == []


def test_only_entity_of_a_partition_is_missed_by_the_clock_of_the_others() -> None:
    stream, names = Stream(), fleet(12)
    for k in range(60):
        parts = [(P0, rounds(names, k, k + 1))]
        if k < 30:
            parts.append((P1, [(k * INTERVAL_S, "alone")]))
        stream.poll(*parts)
        stream.idle(10)
    assert stream.told() == [("firing", "alone")]
    assert stream.events[0].time - stream.events[0].start < 6 * INTERVAL_S


def test_most_of_a_fleet_stopping_is_one_incident() -> None:
    stream, names = Stream(), fleet(40)
    gone = names[5:35]
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=gone))
    assert stream.told() == [("firing", MANY_ENTITIES)]
    event = stream.events[0]
    assert (event.absent, event.alive, event.entities) == (30, 40, tuple(gone))
    assert stream.presence.absent() == 30
    # Most are back: the others are missed for themselves, later.
    play(stream, rounds(names, 60, 90, without=["web-010"]))
    assert stream.told()[1:] == [("resolved", MANY_ENTITIES), ("firing", "web-010")]
    assert stream.events[1].alert_id == event.alert_id
    assert stream.events[2].time > stream.events[1].time + 3 * INTERVAL_S


def test_silence_of_all_is_one_incident_and_resolves_when_records_flow() -> None:
    stream, names = Stream(AbsenceRules(silence_after_s=30.0)), fleet(100)
    play(stream, rounds(names, 0, 30))
    stream.idle(1000)
    assert stream.told() == [("firing", MANY_ENTITIES)]
    assert (stream.events[0].absent, stream.events[0].alive) == (100, 100)
    assert len(stream.events[0].entities) == 50
    assert 3 * INTERVAL_S < stream.events[0].time - stream.events[0].start < 5 * INTERVAL_S
    # One after the other, not all at once; one does not come back.
    play(stream, rounds(names, 60, 90, without=["web-010"]), 1)
    assert stream.told()[1:] == [("resolved", MANY_ENTITIES), ("firing", "web-010")]


def half_switched_off() -> tuple[Stream, list[str]]:
    """A fleet of 100 of which 55 stopped together, half an hour ago."""
    stream, names = Stream(AbsenceRules(silence_after_s=30.0)), fleet(100)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=names[:55]))
    assert stream.told() == [("firing", MANY_ENTITIES)]
    return stream, names


def test_silence_of_the_rest_is_a_further_incident() -> None:
    stream, names = half_switched_off()
    stream.idle(1000)
    first, further = (event for event in stream.events if event.transition != "updated")
    assert (further.transition, further.absent, further.alive) == ("firing", 45, 45)
    assert further.alert_id != first.alert_id
    assert (first.labels, further.labels) == ({"team": "shop"}, {"team": "shop", "incident": "2"})
    assert stream.presence.absent() == 100
    assert len(stream.presence.firing()) == 2
    play(stream, rounds(names, 60, 70, without=names[:55]))
    over = [event for event in stream.events if event.transition == "resolved"]
    assert [event.alert_id for event in over] == [further.alert_id]
    assert stream.presence.absent() == 55
    play(stream, rounds(names, 70, 75))
    assert (stream.events[-1].transition, stream.events[-1].alert_id) == ("resolved", first.alert_id)
    assert stream.presence.firing() == []


def test_incident_beside_one_that_another_process_told_of_is_a_further_one_to_receivers() -> None:
    before, names = half_switched_off()
    stream = Stream(AbsenceRules(silence_after_s=30.0))
    stream.presence.recall([P0], before.presence.firing())
    play(stream, rounds(names, 60, 80, without=names[:55]))
    stream.idle(1000)
    [further] = [event for event in stream.events if event.transition == "firing"]
    assert further.labels == {"team": "shop", "incident": "2"}


def test_many_of_the_rest_that_stop_are_a_further_incident_and_each_ends_by_itself() -> None:
    stream, names = half_switched_off()
    play(stream, rounds(names, 60, 80, without=names[:90]))
    first, further = (event for event in stream.events if event.transition == "firing")
    assert (further.absent, further.alive, further.entities) == (35, 45, tuple(names[55:90]))
    play(stream, rounds(names, 80, 85, without=names[55:90]))
    over = [event for event in stream.events if event.transition == "resolved"]
    assert [event.alert_id for event in over] == [first.alert_id]
    # One that stops with nobody is missed for itself.
    play(stream, rounds(names, 85, 92, without=names[55:91]))
    assert stream.told()[-1] == ("firing", "web-090")
    play(stream, rounds(names, 92, 95))
    assert {told for told in stream.told() if told[0] == "resolved"} == {
        ("resolved", MANY_ENTITIES),
        ("resolved", "web-090"),
    }
    assert stream.presence.absent() == 0


def test_silence_means_nothing_while_records_wait_or_nobody_listened() -> None:
    stream, names = Stream(AbsenceRules(silence_after_s=30.0)), fleet(100)
    play(stream, rounds(names, 0, 30))
    stream.idle(1000, lag=5)
    # The process stood still for an hour.
    stream.idle(int(CAUGHT_UP_S) + 1)
    stream.monotonic_s += 3600.0
    stream.idle(20)
    assert stream.events == []


def test_nothing_is_known_after_everything_was_forgotten() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    slots, _ = stream.table.forget(P0)
    stream.presence.forget(slots)
    stream.presence.forget_source(P0)
    play(stream, rounds(names, 60, 90, without=["web-003"]))
    stream.idle(1000)
    assert [entity for _, entity in stream.told()] == [MANY_ENTITIES]
    assert stream.events[0].alive == 11


def test_entity_gone_for_good_expires() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=["web-003"]))
    stream.presence.expired(np.array([3]))
    stream.events += stream.presence.take_events()
    assert stream.told() == [("firing", "web-003"), ("resolved", "web-003")]
    assert stream.events[1].resolved_because == "expired"
    play(stream, rounds(names, 60, 90, without=["web-003"]))
    assert len(stream.events) == 2


def window(first: int, last: int, entities: str) -> Window:
    selector = Selector(EntityPatterns((entities,)))
    return Window(selector, START_S + first * INTERVAL_S, START_S + last * INTERVAL_S)


def missed(stream: Stream) -> list[str]:
    return [entity for transition, entity in stream.told() if transition == "firing"]


def test_silence_inside_a_window_is_no_absence_and_counts_from_its_end() -> None:
    stream, names = Stream(windows=[window(28, 60, "web-00[0-4]")]), fleet(30)
    silent = ["web-001", "web-002", "web-020"]
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=silent))
    assert missed(stream) == ["web-020"]
    # One of them is back in time.
    play(stream, rounds(names, 60, 61, without=["web-002", "web-020"]))
    play(stream, rounds(names, 61, 63, without=["web-002", "web-020"]))
    assert missed(stream) == ["web-020"]
    play(stream, rounds(names, 63, 70, without=["web-002", "web-020"]))
    assert missed(stream) == ["web-020", "web-002"]


@pytest.mark.parametrize("until", [50, 70])
def test_silence_counts_from_the_end_of_a_window_that_was_brought_forward(until: int) -> None:
    announced: list[tuple[Window, ...]] = [(window(30, 30 + 24 * 60, "web-*"),)]
    maintenance = Maintenance(announced=lambda: announced[0])
    stream, names = Stream(), fleet(30)
    stream.presence = Presence("hosts", AbsenceRules(), ("*",), partial(maintenance.excused_until, ["watch"]))
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 50, without=["web-007"]))
    announced[0] = (window(30, until, "web-*"),)
    play(stream, rounds(names, 50, 80, without=["web-007"]))
    [event] = stream.events
    assert (event.transition, event.entity) == ("firing", "web-007")
    assert until + 3.9 < (event.time - START_S) / INTERVAL_S < until + 7


def test_fleet_in_maintenance_is_no_incident() -> None:
    stream, names = Stream(windows=[window(28, 60, "web-0[0-2]*")]), fleet(31)
    play(stream, rounds(names, 0, 30))
    play(stream, rounds(names, 30, 60, without=names[:30]))
    assert stream.told() == []


def test_entity_that_moves_to_another_partition_is_not_missed_on_the_one_that_it_left() -> None:
    stream, names = Stream(), fleet(20)
    play(stream, rounds(names, 0, 30))
    # As after a topic got more partitions: half of the entities are found elsewhere from now on.
    moved = names[:10]
    for k in range(30, 60):
        there = [] if k < 33 else rounds(moved, k, k + 1)
        stream.poll((P0, rounds(names, k, k + 1, without=moved)), (P1, there))
    assert stream.events == []
    for k in range(60, 80):
        here = rounds(names, k, k + 1, without=moved)
        stream.poll((P0, here), (P1, rounds(moved, k, k + 1, without=["web-004"])))
    assert stream.told() == [("firing", "web-004")]
    assert stream.events[0].source == P1


def two_partitions(
    stream: Stream, first: int, last: int, *, there: Sequence[int], sends: bool = True
) -> None:
    """Ten entities on each of two partitions, and web-x on the second one in the rounds ``there``."""
    here, elsewhere = fleet(10), [f"db-{i}" for i in range(10)]
    for k in range(first, last):
        on_first, on_second = sends and k not in there, sends and k in there
        stream.poll(
            (P0, rounds([*here, *["web-x"] * on_first], k, k + 1)),
            (P1, rounds([*elsewhere, *["web-x"] * on_second], k, k + 1)),
        )


def test_entity_that_moves_there_and_back_is_missed_only_when_it_stops() -> None:
    stream, away = Stream(), range(30, 60)
    two_partitions(stream, 0, 100, there=away)
    assert stream.events == []
    two_partitions(stream, 100, 110, there=away, sends=False)
    [event] = stream.events
    assert (event.transition, event.entity, event.source) == ("firing", "web-x", P0)
    # The half-hour away taught nothing: it is missed as soon as any other.
    assert 3.5 * INTERVAL_S < event.time - event.start < 6 * INTERVAL_S
    # And it is back, wherever.
    two_partitions(stream, 110, 112, there=[110, 111])
    assert stream.told() == [("firing", "web-x"), ("resolved", "web-x")]
    two_partitions(stream, 112, 140, there=away)
    assert len(stream.events) == 2


def test_entity_that_sends_to_any_partition_is_missed_when_it_stops() -> None:
    rng = np.random.default_rng(3)
    for stretch in (1, 7, 20):
        stream = Stream()
        second = np.repeat(rng.uniform(size=300) < 0.5, stretch)[:300]
        there = np.flatnonzero(second).tolist()
        two_partitions(stream, 0, 300, there=there)
        assert stream.events == []
        two_partitions(stream, 300, 312, there=there, sends=False)
        assert stream.told() == [("firing", "web-x")]


def test_old_records_of_the_partition_that_was_left_do_not_bring_an_entity_back() -> None:
    stream, away = Stream(), range(30, 60)
    late = rounds([*fleet(10), "web-x"], 20, 30)
    two_partitions(stream, 0, 20, there=[])
    # The second partition is read first, then what waited on the first one.
    for k in range(20, 40):
        stream.poll((P1, rounds([f"db-{i}" for i in range(10)] + ["web-x"] * (k >= 30), k, k + 1)))
    stream.poll((P0, late))
    stream.poll((P0, rounds(fleet(10), 30, 40)))
    two_partitions(stream, 40, 60, there=away)
    assert stream.events == []


def test_members_of_an_incident_that_are_back_on_another_partition_end_it() -> None:
    stream, names = Stream(), fleet(40)
    others = [f"db-{i}" for i in range(10)]
    for k in range(60):
        here = rounds(names, k, k + 1, without=names[:30] if k >= 30 else [])
        stream.poll((P0, here), (P1, rounds(others, k, k + 1)))
    assert stream.told() == [("firing", MANY_ENTITIES)]
    for k in range(60, 65):
        here = rounds(names, k, k + 1, without=names[:30])
        stream.poll((P0, here), (P1, rounds([*others, *names[:30]], k, k + 1)))
    assert stream.told()[1:] == [("resolved", MANY_ENTITIES)]
    assert stream.presence.absent() == 0


def test_entity_that_is_met_long_after_a_hole_is_missed_as_soon_as_the_others() -> None:
    stream, names = Stream(), fleet(12)
    play(stream, rounds(names, 0, 30))
    # A day of nothing, and some hours later somebody new.
    play(stream, rounds(names, 1470, 1700))
    play(stream, rounds([*names, "web-new"], 1700, 1715))
    play(stream, rounds(names, 1715, 1722))
    assert stream.told() == [("firing", "web-new")]
