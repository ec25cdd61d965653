"""Tests for detector.stream.loop and what another process told: alerts go on, once each."""

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from detector.alerting.absence import AbsenceRules
from detector.alerting.absence_event import LASTS_S
from detector.alerting.rules import AlertRules, IncidentRules
from detector.batch import Source
from detector.pipeline.detector import Detector
from detector.scoring.time_scale import TimeScale
from detector.stream.alert_record import time_text
from detector.stream.port import AccessDeniedError, BrokerUnavailableError, CommitError, KafkaClientError
from detector.stream.presence import Presence
from detector.stream.recall import Recalled, recall
from tests.made import detector, gmm, scoring_model
from tests.stream.fakes import FakeBroker, FakeConsumer
from tests.stream.records import NOW_S, raw_records
from tests.stream.test_loop import OUTPUTS, P0, P1, Rig, fleet, telemetry
from tests.stream.test_loop_absence import TIME
from tests.stream.test_loop_absence import telemetry as minutes
from tests.web.test_metrics import Scraped


@pytest.fixture(scope="module")
def watcher() -> Detector:
    rules = AlertRules(fire_m=2, fire_of=2, resolve_records=2, incident=None)
    return detector(scoring_model(gmm())[0], threshold=1e-3, rules=rules)


def recalling(rig: Rig) -> Rig:
    """Let a loop read the alerts topic of its broker back."""

    def read_back(sources: Collection[Source], alive: Callable[[], object]) -> Recalled:
        rig.broker.call("recall")
        values = [record.value for record in rig.broker.topic("alerts")]
        return recall([raw_records(values)], sources, NOW_S, alive)

    rig.loop._read_back = read_back
    return rig


def first_until(broker: FakeBroker, watcher: Detector, offset: int, **options: Any) -> None:
    """Read all partitions up to an offset, and end."""
    rest = {source: records[offset:] for source, records in broker.records.items()}
    for source in rest:
        del broker.records[source][offset:]
    recalling(Rig(broker, watcher, **options)).loop.run()
    for source, records in rest.items():
        broker.records[source] += records


def told(broker: FakeBroker, kind: str = "anomaly") -> list[dict[str, Any]]:
    events = [json.loads(record.value or b"") for record in broker.topic("alerts")]
    return [event for event in events if event["kind"] == kind]


def test_an_alert_that_is_open_at_a_restart_goes_on_and_is_resolved(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    first_until(broker, watcher, 30)
    recalling(Rig(broker, watcher)).loop.run()
    assert [event["state"] for event in told(broker)] == ["firing", "updated", "resolved"]
    assert len({event["alert_id"] for event in told(broker)}) == 1
    assert (told(broker)[1]["updated_because"], told(broker)[1]["origin"]["last_offset"]) == (
        "keep_alive",
        30,
    )
    assert told(broker)[1]["reasons"] == told(broker)[0]["reasons"]
    assert told(broker)[2]["start"] == told(broker)[0]["start"]


def test_an_alert_that_goes_on_under_another_version_names_the_member_that_found_its_peak(
    watcher: Detector,
) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    (member,) = watcher.model.members
    averages = replace(watcher.model, members=(replace(member, time_scale=TimeScale(0.9)),))
    first_until(broker, watcher, 30)
    recalling(Rig(broker, replace(watcher, model=averages))).loop.run()
    assert [event["state"] for event in told(broker)] == ["firing", "updated", "resolved"]
    assert len({event["peak"] for event in told(broker)}) == 1
    assert {event["member"] for event in told(broker)} == {member.name} != {averages.members[0].name}


def test_an_open_alert_is_reported_before_its_entity_sends_again(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40)), P1: telemetry(60, entity="calm")})
    first_until(broker, watcher, 30)
    for records in broker.records.values():
        del records[30:]
    [fired] = told(broker)
    rig = recalling(Rig(broker, watcher))
    reported: list[dict[tuple[Source, str], float]] = []

    def note(consumer: FakeConsumer) -> None:
        reported.append(rig.observer.told)
        if len(reported) == 2:
            consumer.assign([P1])
        if len(reported) == 3:
            rig.loop.stop()

    rig.on_poll = note
    rig.loop.run()
    [(where, left_s)] = reported[1].items()
    assert where == (P0, "e")
    # The record that brought it is dated NOW_S.
    lasts = datetime.fromisoformat(fired["expires_at"]) - datetime.fromisoformat(fired["time"])
    assert left_s == pytest.approx(lasts.total_seconds())
    assert reported[2] == reported[0] == {}


@pytest.mark.parametrize("read", [30, 50])
def test_records_that_come_again_after_a_crash_decide_nothing_again(watcher: Detector, read: int) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    first_until(broker, watcher, read)
    broker.committed = {}
    before = told(broker)
    assert [event["state"] for event in before] == ["firing", "resolved"][: 1 + (read > 40)]
    rig = recalling(Rig(broker, watcher))
    rig.loop.run()
    assert len(rig.scores()) == read + 60
    events = told(broker)
    assert [event["state"] for event in events if event["state"] != "updated"] == ["firing", "resolved"]
    assert len({event["alert_id"] for event in events}) == 1
    assert broker.committed == {P0: 60}


@pytest.mark.parametrize(
    ("call", "error"), [("poll", BrokerUnavailableError("away")), ("commit", CommitError("rebalance"))]
)
def test_an_alert_goes_on_after_an_outage_and_after_a_commit_that_failed(
    watcher: Detector, call: str, error: KafkaClientError
) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    rig = recalling(Rig(broker, watcher))

    def fail_once(consumer: FakeConsumer) -> None:
        if broker.committed.get(P0) == 30 and "failed" not in broker.log:
            broker.log.append("failed")
            broker.fail_next[call] = [error]
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = fail_once
    rig.loop.run()
    events = told(broker)
    assert [event["state"] for event in events if event["state"] != "updated"] == ["firing", "resolved"]
    assert len({event["alert_id"] for event in events}) == 1
    assert broker.log.count("recall") == 2


class Outage:
    """A loop whose broker goes away once all is read, and what Prometheus is shown meanwhile."""

    def __init__(self, rig: Rig, metric: str, lasts_s: float) -> None:
        self.rig = recalling(rig)
        self.metric = metric
        self.shown: list[list[str]] = []
        """At every pause of the loop."""
        self.over = False
        self._lasts_s = lasts_s
        self._scraped = Scraped()
        rig.loop._observer = rig.loop._session._observer = self._scraped.metrics
        rig.loop._session._sleep = self._sleep
        self._then, rig.on_poll = rig.on_poll, self._begin

    def firing(self) -> list[str]:
        labels = self._scraped.labels_of(self.metric)
        return [each["entity"] for each in labels if self._scraped.value(self.metric, **each) == 1]

    def _begin(self, consumer: FakeConsumer) -> None:
        broker = self.rig.broker
        if self.over:
            self._then(consumer)
        elif broker.committed == {source: len(records) for source, records in broker.records.items()}:
            broker.away = True
            broker.call("poll")

    def _sleep(self, _seconds: float) -> None:
        step_s = self._lasts_s / 100
        self.rig.clock.sleep(step_s)
        self._scraped.clock.now_s += step_s
        self.shown.append(self.firing())
        self.over = self.rig.clock.now_s > self._lasts_s
        self.rig.broker.away = not self.over


def test_an_open_alert_is_shown_all_through_an_outage(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30, anomalous=range(20, 30))})
    outage = Outage(Rig(broker, watcher), "detector_alert_firing", 120.0)
    outage.rig.loop.run()
    assert len(outage.shown) >= 100
    assert outage.shown == [["e"]] * len(outage.shown)
    assert outage.firing() == ["e"]
    assert [event["state"] for event in told(broker)] == ["firing"]


def test_an_alert_whose_partition_is_elsewhere_after_an_outage_is_shown_no_more(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30, anomalous=range(20, 30)), P1: telemetry(30, entity="calm")})
    rig = Rig(broker, watcher)
    outage = Outage(rig, "detector_alert_firing", 30.0)
    polls = []

    def without_it(consumer: FakeConsumer) -> None:
        consumer.assign([P1])
        polls.append(outage.firing())
        if len(polls) == 2:
            rig.loop.stop()

    outage._then = without_it
    rig.loop.run()
    assert outage.shown[-1] == ["e"]
    assert polls[1] == []


@pytest.mark.parametrize("lasts_s", [120.0, 2 * LASTS_S])
def test_an_absence_is_shown_through_an_outage_until_it_is_over_for_others(
    watcher: Detector, lasts_s: float
) -> None:
    records = minutes(range(20)) + minutes(range(20, 40), without=frozenset({"web-03"}))
    rig = Rig(FakeBroker({P0: records}), watcher, presence=Presence("hosts", AbsenceRules()))
    outage = Outage(rig, "detector_absence_firing", lasts_s)
    rig.loop.run()
    assert outage.shown[:50] == [["web-03"]] * 50
    assert outage.shown[-1] == ([] if lasts_s > LASTS_S else ["web-03"])


@pytest.mark.parametrize("reads_back", [True, False])
def test_a_restart_pages_nobody_for_a_level_that_became_normal(watcher: Detector, reads_back: bool) -> None:
    releasing = replace(watcher, rules=replace(watcher.rules, release_after_s=20.0))
    broker = FakeBroker({P0: telemetry(55, anomalous=range(10, 55))})
    first_until(broker, releasing, 40)
    [fired, over] = [event for event in told(broker) if event["state"] != "updated"]
    assert (over["resolved_because"], over["alert_id"]) == ("new_normal", fired["alert_id"])
    before = len(told(broker))
    rig = Rig(broker, releasing)
    (recalling(rig) if reads_back else rig).loop.run()
    assert len(rig.scores()) == 55
    assert (len(told(broker)) == before) == reads_back


def test_an_alert_that_is_back_after_a_restart_within_the_cooldown_is_the_same(watcher: Detector) -> None:
    cooling = replace(watcher, rules=replace(watcher.rules, cooldown_s=30.0))
    broker = FakeBroker({P0: telemetry(90, anomalous=[*range(10, 20), *range(40, 50)])})
    first_until(broker, cooling, 30)
    recalling(Rig(broker, cooling)).loop.run()
    states = [(event["state"], event["reopened"]) for event in told(broker) if event["state"] != "updated"]
    assert states == [("firing", 0), ("resolved", 0), ("firing", 1), ("resolved", 1)]
    assert len({event["alert_id"] for event in told(broker)}) == 1


def test_an_alert_goes_on_where_its_partition_went(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40)), P1: telemetry(60, entity="other")})
    first_until(broker, watcher, 30)
    rig = recalling(Rig(broker, watcher))
    polls = 0

    def comes_later(consumer: FakeConsumer) -> None:
        nonlocal polls
        polls += 1
        if polls == 1:
            consumer.assign([P1])
        if polls == 3:
            consumer.assign([P1, P0])
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = comes_later
    rig.loop.run()
    assert broker.log.count("recall") == 3
    assert [event["state"] for event in told(broker)] == ["firing", "updated", "resolved"]


def test_what_cannot_be_read_back_stops_nothing(watcher: Detector, caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    broker.fail_next["recall"] = [BrokerUnavailableError("away")]
    rig = recalling(Rig(broker, watcher))
    rig.loop.run()
    assert [event["state"] for event in told(broker)] == ["firing", "resolved"]
    assert "not known" in caplog.text
    assert len(rig.scores()) == 60


def read_back_late(broker: FakeBroker, watcher: Detector, fails: int) -> Rig:
    """Read all records, one a second, the alerts topic being readable from the attempt after some on."""
    broker.fail_next["recall"] = [AccessDeniedError("no READ on alerts")] * fails
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, max_poll_records=1)

    def a_second_passes(consumer: FakeConsumer) -> None:
        rig.clock.sleep(1.0)
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = a_second_passes
    recalling(rig).loop.run()
    return rig


def test_an_open_alert_goes_on_once_the_alerts_topic_can_be_read_again(watcher: Detector) -> None:
    slow = replace(watcher, rules=replace(watcher.rules, resolve_records=8))
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 30))})
    first_until(broker, slow, 30)
    [fired] = told(broker)
    broker.log = []
    rig = read_back_late(broker, slow, fails=2)
    # After two seconds, and after four more.
    assert broker.log.count("recall") == 3
    assert (rig.observer.untold[0], max(rig.observer.untold), rig.observer.untold[-1]) == (0, 1, 0)
    assert [event["state"] for event in told(broker) if event["state"] != "updated"] == ["firing", "resolved"]
    assert {event["alert_id"] for event in told(broker)} == {fired["alert_id"]}
    assert len(rig.scores()) == 60
    assert broker.committed == {P0: 60}


def test_what_opened_before_the_alerts_topic_could_be_read_goes_on_as_well(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(10, 40))})
    read_back_late(broker, watcher, fails=4)
    assert broker.log.count("recall") == 5
    assert [event["state"] for event in told(broker) if event["state"] != "updated"] == ["firing", "resolved"]
    assert len({event["alert_id"] for event in told(broker)}) == 1


def test_nothing_is_forgotten_where_the_alerts_topic_tells_nothing_in_the_end() -> None:
    # It needs one record of an entity's past.
    forecaster = detector(scoring_model(gmm(), predict=True)[0])
    broker = FakeBroker({P0: telemetry(30)})
    rig = read_back_late(broker, forecaster, fails=2)
    assert broker.log.count("recall") == 3
    assert [score["status"] for score in rig.scores()].count("warming_up") == 1


def test_partitions_that_come_are_read_back_at_once_and_others_when_it_is_their_turn(
    watcher: Detector,
) -> None:
    broker = FakeBroker({P0: telemetry(5), P1: telemetry(5, entity="other")})
    broker.fail_next["recall"] = [AccessDeniedError("no READ on alerts")] * 3
    rig = recalling(Rig(broker, watcher))
    polls: list[int] = []

    def comes_later(consumer: FakeConsumer) -> None:
        polls.append(broker.log.count("recall"))
        consumer.assign([P0, P1] if 3 <= len(polls) < 6 else [P0] if len(polls) < 6 else [])
        if len(polls) == 8:
            rig.loop.stop()

    rig.on_poll = comes_later
    rig.loop.run()
    assert polls == [0, 1, 1, 2, 2, 2, 2, 2]
    assert rig.observer.untold == [0, 1, 2, 0]


def test_records_of_a_topic_that_was_made_anew_are_decided(watcher: Detector) -> None:
    forgetful = replace(watcher, rules=replace(watcher.rules, cooldown_s=0.0))
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))})
    first_until(broker, forgetful, 60)
    broker.records[P0] = telemetry(40, anomalous=range(10, 20), start=100)
    broker.committed = {}
    recalling(Rig(broker, forgetful)).loop.run()
    assert [event["state"] for event in told(broker)] == ["firing", "resolved"] * 2


def test_an_incident_goes_on_and_its_members_are_told_of_as_such(watcher: Detector) -> None:
    grouped = replace(watcher, rules=replace(watcher.rules, incident=IncidentRules(within_s=5.0)))
    broker = FakeBroker({P0: fleet(anomalous=range(20, 30))})
    first_until(broker, grouped, 6 * 25)
    [fired] = told(broker, "incident")
    assert (fired["state"], fired["entities"]) == ("firing", 6)
    rig = recalling(Rig(broker, grouped))
    rig.made(OUTPUTS, max_poll_records=6)
    recalling(rig).loop.run()
    incidents = told(broker, "incident")
    assert [event["state"] for event in incidents if event["state"] != "updated"] == ["firing", "resolved"]
    assert {event["alert_id"] for event in incidents} == {fired["alert_id"]}
    assert incidents[-1]["entities"] == 6
    members = told(broker)
    # The first to fire were told of before it was known to be an incident.
    assert {event["incident_id"] for event in members if event["state"] != "firing"} == {fired["alert_id"]}
    assert len({event["alert_id"] for event in members}) == 6
    assert [event["state"] for event in members].count("resolved") == 6


@pytest.mark.parametrize("repeated", [False, True])
def test_an_absence_that_is_open_at_a_restart_ends_when_the_entity_returns(
    watcher: Detector, repeated: bool
) -> None:
    records = minutes(range(20)) + minutes(range(20, 40), without=frozenset({"web-03"}))
    later = minutes(range(40, 45), without=frozenset({"web-03"})) + minutes(range(45, 70))
    broker = FakeBroker({P0: records + later})

    def presence() -> Presence:
        return Presence("hosts", AbsenceRules(silence_after_s=30.0))

    first_until(broker, watcher, len(records), presence=presence())
    assert [event["state"] for event in told(broker, "absence")] == ["firing"]
    if repeated:
        broker.committed = {P0: 12 * 15}
    rig = recalling(Rig(broker, watcher, presence=presence()))
    absent = []

    def note(consumer: FakeConsumer) -> None:
        absent.append(rig.observer.absent_entities)
        rig.stop_when_all_is_read(consumer)

    rig.on_poll = note
    rig.loop.run()
    fired, over = told(broker, "absence")
    assert (over["state"], over["resolved_because"], over["alert_id"]) == (
        "resolved",
        "returned",
        fired["alert_id"],
    )
    assert over["end"] == time_text(TIME + 60.0 * 45 + 5.0 * 3)
    assert max(absent) == 1
    assert rig.observer.absent_entities == 0
