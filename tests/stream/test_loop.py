"""Tests for detector.stream.loop: what survives, and what is never committed too early."""

import itertools
import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.alerting.event import AlertEvent
from detector.alerting.rules import AlertRules, IncidentRules
from detector.batch import Batch, IntArray, Scores, Source
from detector.pipeline.detector import Detector
from detector.scoring.time_scale import TimeScale
from detector.stream.answered import Outputs
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.input import Input
from detector.stream.loop import Loop
from detector.stream.port import (
    IDLE_PROBE_S,
    AccessDeniedError,
    BrokerUnavailableError,
    ClientFailedError,
    CommitError,
    DeliveryError,
    FetchError,
    InvalidTopicError,
    KafkaClientError,
    OffsetOutOfRangeError,
    TopicMissingError,
    UnreadableBatchError,
)
from detector.stream.presence import Presence
from detector.stream.reasons import Reason
from detector.stream.session import COMMITS_TRIED
from detector.stream.watch import Watch
from detector.stream.watchdog import Watchdog
from tests.made import batch, detector, gmm, scoring_model
from tests.stream.fakes import FakeBroker, FakeClock, FakeConsumer, FakeProducer, RecordingObserver
from tests.stream.records import NOW_S

P0, P1 = Source("telemetry", 0), Source("telemetry", 1)
OUTPUTS = Outputs("scores", "alerts", "dead", "group")
TIME = NOW_S - 10_000.0


class CrashError(Exception):
    """The process died here."""


@pytest.fixture(scope="module")
def watcher() -> Detector:
    model, _ = scoring_model(gmm())
    return detector(model, threshold=1e-3, rules=AlertRules(fire_m=2, fire_of=2, resolve_records=2))


@pytest.fixture(scope="module")
def forecaster() -> Detector:
    """Needs one record of an entity's past."""
    model, _ = scoring_model(gmm(), predict=True)
    return detector(model)


def telemetry(
    n: int, *, anomalous: Collection[int] = (), entity: str = "e", start: int = 0
) -> list[bytes | None]:
    rng = np.random.default_rng(n)
    x = gmm().sample(n, rng)
    for i in anomalous:
        x[i] += 40.0
    return [
        json.dumps(
            {
                "entity": entity,
                "time": TIME + start + i,
                "features": dict(zip(["f0", "f1", "f2"], row, strict=True)),
                "team": "shop",
            }
        ).encode()
        for i, row in enumerate(x.tolist())
    ]


class Rig:
    """A loop on a fake broker: run it, crash it, start it again."""

    def __init__(
        self,
        broker: FakeBroker,
        watcher: Detector,
        *,
        topics: tuple[str, ...] = ("telemetry",),
        presence: Presence | None = None,
    ) -> None:
        self.broker = broker
        self.watcher = watcher
        self.topics = topics
        self.presence = presence
        self.clock = FakeClock()
        self.observer = RecordingObserver()
        self.watch = Watch(watcher, "hosts", np.arange(3))
        self.consumers: list[FakeConsumer] = []
        self.on_poll: Callable[[FakeConsumer], None] = self.stop_when_all_is_read
        self.loop = self.made(OUTPUTS)

    def made(
        self,
        outputs: Outputs,
        max_poll_records: int = 10,
        commit_interval_s: float = 0.0,
        overlap: bool = True,
    ) -> Loop:
        schema = InputSchema(
            "hosts", tuple((f"f{i}", (f"f{i}",)) for i in range(3)), labels=(("team", ("team",)),)
        )
        self.loop = Loop(
            [Input("hosts", self.topics, JsonCodec(schema), [self.watch], self.presence)],
            outputs,
            self._consumer,
            self.broker.producer,
            self.observer,
            Watchdog(clock=self.clock),
            max_poll_records=max_poll_records,
            commit_interval_s=commit_interval_s,
            overlap=overlap,
            wall_clock=lambda: NOW_S,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        return self.loop

    def stop_when_all_is_read(self, consumer: FakeConsumer) -> None:
        if sum(consumer.lag().values()) == 0:
            self.loop.stop()

    def stop_when_all_is_committed(self, consumer: FakeConsumer) -> None:
        if all(self.broker.committed.get(s) == len(r) for s, r in self.broker.records.items()):
            self.loop.stop()

    def _consumer(self) -> FakeConsumer:
        consumer = self.broker.consumer()
        consumer.on_poll = lambda polled: self.on_poll(polled)
        self.consumers.append(consumer)
        return consumer

    def scores(self) -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self.broker.topic("scores")]

    def alert_ids(self) -> list[str]:
        return [dict(record.headers)["ce_id"].decode() for record in self.broker.topic("alerts")]


def test_every_record_is_scored_once_and_committed(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: telemetry(35), P1: telemetry(12, entity="other")}), watcher)
    rig.loop.run()
    origins = [(s["origin"]["partition"], s["origin"]["offset"]) for s in rig.scores()]
    assert sorted(origins) == [(0, i) for i in range(35)] + [(1, i) for i in range(12)]
    assert rig.broker.committed == {P0: 35, P1: 12}
    assert rig.observer.records == len(rig.observer.statuses) == 47
    assert rig.broker.opened == rig.broker.closed == 2
    assert rig.observer.behind.keys() == {P0, P1}


def fleet(*, anomalous: range, n: int = 40, entities: int = 6) -> list[bytes | None]:
    each = [telemetry(n, anomalous=anomalous, entity=f"e{i}") for i in range(entities)]
    return [record for step in zip(*each, strict=True) for record in step]


def test_entities_that_alarm_together_are_one_incident_with_members(watcher: Detector) -> None:
    quick = replace(watcher, rules=replace(watcher.rules, incident=IncidentRules(within_s=5.0)))
    rig = Rig(FakeBroker({P0: fleet(anomalous=range(20, 30))}), quick)
    rig.made(OUTPUTS, max_poll_records=5)
    rig.loop.run()
    alerts = [json.loads(record.value or b"") for record in rig.broker.topic("alerts")]
    incidents = [alert for alert in alerts if alert.get("kind") == "incident"]
    assert [incident["state"] for incident in incidents] == ["firing", "resolved"]
    assert rig.observer.incidents == [("watch", "firing"), ("watch", "resolved")]
    assert [(i["entities"], i["firing"]) for i in incidents] == [(6, 6), (6, 0)]
    members = [alert for alert in alerts if alert["kind"] == "anomaly"]
    assert len(members) == 12
    of = {
        state: [member["incident_id"] for member in members if member["state"] == state]
        for state in ("firing", "resolved")
    }
    # Four of them had been written when the fifth made it an incident.
    assert of["firing"] == [*[None] * 4, *[incidents[0]["alert_id"]] * 2]
    assert of["resolved"] == [incidents[0]["alert_id"]] * 6
    headers = dict(next(r for r in rig.broker.topic("alerts") if r.key == b"watch").headers)
    assert headers["ce_type"] == b"io.detector.incident.firing.v1"


def test_few_entities_that_alarm_together_are_no_incident(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: fleet(anomalous=range(20, 30), entities=4)}), watcher)
    rig.loop.run()
    assert rig.observer.incidents == []
    assert len(rig.broker.topic("alerts")) == 8


def test_offsets_are_committed_only_after_everything_sent_is_acknowledged(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: [*telemetry(30, anomalous=range(10, 20)), b"bad"]}), watcher)
    rig.loop.run()
    calls = [call for call in rig.broker.log if call in ("send", "flush", "commit")]
    unacknowledged = False
    for call in calls:
        unacknowledged = call == "send" or (unacknowledged and call != "flush")
        assert not (call == "commit" and unacknowledged)
    assert calls.count("commit") == 4


@pytest.mark.parametrize("call", ["send", "flush", "commit"])
def test_crash_before_commit_delivers_alerts_again_with_the_same_ids(
    call: str, watcher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker({P0: telemetry(40, anomalous=range(20, 30))})
    owner = FakeConsumer if call == "commit" else FakeProducer
    whole = getattr(owner, call)

    def crash(self: Any, *args: Any) -> None:
        # In the turn that fires: records 20 to 29.
        if broker.committed.get(P0) == 20:
            raise CrashError
        whole(self, *args)

    monkeypatch.setattr(owner, call, crash)
    first = Rig(broker, watcher)
    with pytest.raises(CrashError):
        first.loop.run()
    assert broker.committed == {P0: 20}
    alerts_before = first.alert_ids()
    assert len(alerts_before) == (1 if call == "commit" else 0)
    monkeypatch.undo()
    again = Rig(broker, watcher)
    again.loop.run()
    assert broker.committed == {P0: 40}
    assert {s["origin"]["offset"] for s in again.scores()} == set(range(40))
    ids = again.alert_ids()
    assert len(set(ids)) == 2
    assert ids[: len(alerts_before)] == ids[len(alerts_before) : 2 * len(alerts_before)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open consumer", BrokerUnavailableError("away")),
        ("open producer", AccessDeniedError("no")),
        ("subscribe", TopicMissingError("no topic")),
        ("poll", BrokerUnavailableError("away")),
        ("send", BrokerUnavailableError("queue full")),
        ("flush", DeliveryError("refused", refused=1, pending=0)),
        ("seek", BrokerUnavailableError("away")),
    ],
)
def test_any_failure_of_kafka_starts_anew_from_the_committed_offsets(
    call: str, error: KafkaClientError, watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    broker.fail_next[call] = [error, error]
    if call == "seek":
        broker.fail_next["commit"] = [CommitError("rebalance"), CommitError("rebalance")]
    rig = Rig(broker, watcher)
    rig.loop.run()
    assert broker.committed == {P0: 30}
    assert {s["origin"]["offset"] for s in rig.scores()} == set(range(30))
    assert broker.opened == broker.closed
    assert rig.observer.reachable[0] is False
    assert rig.observer.reachable[-1] is True
    warnings = [r for r in caplog.records if r.levelname == "WARNING" and "Kafka fails" in r.message]
    assert len(warnings) == 1
    assert str(error) in warnings[0].message
    # Waiting longer the second time.
    assert sum(rig.clock.slept) == pytest.approx(0.25 + 0.5, abs=1e-3)


def test_missing_output_topics_are_named_before_anything_is_read(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30)}, missing_topics={"alerts", "dead"})
    rig = Rig(broker, watcher)
    sleep = rig.clock.sleep

    def create_later(seconds: float) -> None:
        sleep(seconds)
        assert rig.observer.reachable[-1] is False
        assert "alerts, dead do not exist" in rig.observer.problem
        assert "poll" not in broker.log
        if rig.clock.now_s > 100:
            broker.missing_topics = set()

    rig.loop._session._sleep = create_later
    rig.loop.run()
    # Asked less and less often: 0.25 s, 0.5 s, ... up to 10 s apart.
    assert broker.log.count("open producer") <= 16
    assert broker.committed == {P0: 30}
    assert rig.observer.reachable[-1] is True
    assert rig.observer.problem == ""


def test_an_output_topic_that_is_deleted_is_named_soon(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    broker.fail_next["flush"] = [DeliveryError("unacknowledged", refused=0, pending=1)] * 100
    rig = Rig(broker, watcher)
    failed_s: list[float] = []

    def a_second_waited(name: str, call: Callable[[str], None] = broker.call) -> None:
        if name == "flush":
            rig.clock.now_s += 1.0
            broker.missing_topics = {"scores"}
        call(name)

    def create_later(seconds: float) -> None:
        failed_s.append(rig.clock.now_s)
        assert "scores do not exist" in rig.observer.problem
        assert rig.observer.reachable[-1] is False
        broker.missing_topics = set()
        broker.fail_next.clear()
        rig.clock.sleep(seconds)

    broker.call = a_second_waited  # type: ignore[method-assign]
    rig.loop._session._sleep = create_later
    rig.loop.run()
    assert failed_s[0] < 10.0
    assert broker.committed == {P0: 30}


@pytest.mark.parametrize("call", ["send", "flush", "commit"])
def test_polls_that_work_do_not_end_an_outage_of_writing(
    call: str, watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broker = FakeBroker({P0: telemetry(10)})
    fails: KafkaClientError = DeliveryError("refused", refused=1, pending=0)
    if call == "commit":
        fails = BrokerUnavailableError("away")
    broker.fail_next[call] = [fails] * 6
    rig = Rig(broker, watcher)
    polls: dict[int, int] = {}

    def forming(consumer: FakeConsumer) -> None:
        # As after each opening: first nothing is assigned, then the partition, with nothing fetched yet.
        polls[id(consumer)] = n = polls.get(id(consumer), 0) + 1
        if n == 1:
            consumer._position = {}
        if n == 2:
            consumer._position = {P0: len(broker.records[P0])}
        if n == 3:
            consumer.seek_to_committed()
        assert n > 3 or not rig.observer.reachable or not rig.observer.reachable[-1] or not fails_so_far()
        rig.stop_when_all_is_committed(consumer)

    def fails_so_far() -> int:
        return 6 - len(broker.fail_next[call])

    rig.on_poll = forming
    rig.loop.run()
    assert broker.committed == {P0: 10}
    assert sum("Kafka fails" in r.message for r in caplog.records) == 1
    assert sum("Kafka works again" in r.message for r in caplog.records) == 1
    assert sum(rig.clock.slept) == pytest.approx(0.25 * (2**6 - 1), abs=1e-2)
    assert rig.observer.reachable[-1] is True


def test_polls_that_bring_nothing_do_not_end_an_outage_of_reading(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broker = FakeBroker({P0: telemetry(10)})
    rig = Rig(broker, watcher)
    polls: dict[int, int] = {}

    def denied(consumer: FakeConsumer) -> None:
        # As confluent-kafka tells it: a group is joined, a partition comes, and fetching is refused.
        polls[id(consumer)] = n = polls.get(id(consumer), 0) + 1
        consumer._position = {} if n == 1 else {P0: 10}
        if n == 4 and len(rig.consumers) <= 6:
            raise AccessDeniedError("no READ")
        if n == 4:
            consumer.seek_to_committed()
        assert n == 1 or n > 4 or len(rig.consumers) == 1 or rig.observer.reachable[-1] is False
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = denied
    rig.loop.run()
    assert broker.committed == {P0: 10}
    assert sum("Kafka fails" in r.message for r in caplog.records) == 1
    assert sum("Kafka works again" in r.message for r in caplog.records) == 1
    assert sum(rig.clock.slept) == pytest.approx(0.25 * (2**6 - 1), abs=1e-2)
    assert rig.observer.reachable[-1] is True


def test_an_outage_is_over_where_nothing_comes_for_a_while_and_nothing_fails(watcher: Detector) -> None:
    broker = FakeBroker({P0: []})
    broker.fail_next["poll"] = [BrokerUnavailableError("away")]
    rig = Rig(broker, watcher)
    reachable: list[bool] = []

    def quiet(_consumer: FakeConsumer) -> None:
        reachable.append(rig.observer.reachable[-1])
        rig.clock.sleep(1.0)
        if len(reachable) == 6:
            rig.loop.stop()

    rig.on_poll = quiet
    rig.loop.run()
    # The partition comes with the first poll.
    assert reachable == [False] * 4 + [True] * 2


def test_what_could_not_be_written_is_no_matter_where_somebody_else_reads_it(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10), P1: []})
    broker.fail_next["flush"] = [DeliveryError("refused", refused=1, pending=0)]
    rig = Rig(broker, watcher)

    def given_to_another(consumer: FakeConsumer) -> None:
        if len(rig.consumers) == 2:
            assert P0 not in consumer.assigned() or rig.observer.reachable[-1] is False
            consumer.assign([P1])
            rig.clock.sleep(IDLE_PROBE_S)
            if rig.observer.reachable[-1]:
                rig.loop.stop()

    rig.on_poll = given_to_another
    rig.loop.run()
    assert rig.observer.reachable.count(False) == 1
    assert rig.observer.reachable[-1] is True


def test_state_ahead_of_the_committed_offsets_is_dropped_after_a_failure(forecaster: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    rig = Rig(broker, forecaster)

    def fail_once_in_the_second_turn(consumer: FakeConsumer) -> None:
        if sum(consumer.lag().values()) == 20 and not rig.observer.gone:
            broker.fail_next["commit"] = [CommitError("rebalance")]
        rig.stop_when_all_is_read(consumer)

    rig.on_poll = fail_once_in_the_second_turn
    rig.loop.run()
    assert rig.observer.gone == ["e"]
    status = [(s["origin"]["offset"], s["status"]) for s in rig.scores()]
    # The first ten were written when their commit failed, the second ten were processed and not written.
    assert [offset for offset, _ in status] == [*range(10), *range(30)]
    # The first record of all, and the first after the failure, have no past; none of them is late.
    assert [i for i, (_, text) in enumerate(status) if text == "warming_up"] == [0, 10]
    assert {text for _, text in status} == {"warming_up", "scored"}


def test_a_commit_that_fails_as_a_partition_goes_hides_not_that_it_went(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30), P1: telemetry(30, entity="f")})
    rig = Rig(broker, watcher)
    turns = itertools.count(1)

    def taken_in_the_second_turn(consumer: FakeConsumer) -> None:
        if next(turns) == 2:
            consumer.assign([P0])
            broker.fail_next["commit"] = [CommitError("rebalance")]
        rig.stop_when_all_is_read(consumer)

    rig.on_poll = taken_in_the_second_turn
    rig.loop.run()
    assert rig.observer.partitions == 1


def test_commit_that_fails_does_not_leave_the_group(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    broker.fail_next["commit"] = [CommitError("rebalance")] * (COMMITS_TRIED - 1)
    rig = Rig(broker, watcher)
    rig.on_poll = rig.stop_when_all_is_committed
    rig.loop.run()
    assert len(rig.consumers) == 1
    assert broker.committed == {P0: 10}
    assert sum("entity state starting afresh" in r.message for r in caplog.records) == COMMITS_TRIED - 1


def test_commits_that_go_on_failing_open_new_clients(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    broker.fail_next["commit"] = [CommitError("rebalance")] * COMMITS_TRIED
    rig = Rig(broker, watcher)
    rig.on_poll = rig.stop_when_all_is_committed
    rig.loop.run()
    assert len(rig.consumers) == 2
    assert broker.committed == {P0: 10}


def test_slow_acknowledgement_is_waited_for(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    broker.fail_next["flush"] = [DeliveryError("slow", refused=0, pending=7)] * 5
    rig = Rig(broker, watcher)
    rig.loop.run()
    assert len(rig.scores()) == 10
    assert len(rig.consumers) == 1


def test_while_nothing_is_acknowledged_for_long_the_daemon_is_not_ready(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broker = FakeBroker({P0: telemetry(10)})
    rig = Rig(broker, watcher)
    ready: list[bool] = []

    def nothing_for_eight_seconds(name: str, call: Callable[[str], None] = broker.call) -> None:
        call(name)
        if name == "flush" and rig.clock.now_s < 8.0:
            rig.clock.now_s += 1.0
            ready.append(rig.observer.reachable[-1:] != [False])
            raise DeliveryError("10 unacknowledged", refused=0, pending=10)

    broker.call = nothing_for_eight_seconds  # type: ignore[method-assign]
    rig.on_poll = rig.stop_when_all_is_committed
    rig.loop.run()
    # After three seconds.
    assert ready == [True] * 3 + [False] * (len(ready) - 3)
    assert not ready[-1]
    assert rig.observer.reachable[-1] is True
    assert len(rig.consumers) == 1
    assert broker.committed == {P0: 10}
    told = [r.message for r in caplog.records if "10 unacknowledged" in r.message]
    assert told == ["Kafka is slow, or gone: 10 unacknowledged. Not ready until what was written is there"]
    assert "what was written is acknowledged" in caplog.messages


def test_an_alert_that_its_topic_refuses_for_its_size_has_less_in_it(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))}, limits={"alerts": 1100})
    rig = Rig(broker, watcher)
    rig.loop.run()
    alerts = [json.loads(record.value or b"") for record in broker.topic("alerts")]
    assert [alert["state"] for alert in alerts] == ["firing", "resolved"]
    assert [(alert["labels"], alert["reasons"]) for alert in alerts] == [({}, [])] * 2
    assert broker.topic("dead") == []
    assert rig.observer.refused_by == []
    assert broker.committed == {P0: 60}


def test_an_alert_that_its_topic_refuses_all_the_same_is_a_dead_letter(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(20, 40))}, limits={"alerts": 100})
    rig = Rig(broker, watcher)
    rig.loop.run()
    assert broker.topic("alerts") == []
    letters = broker.topic("dead")
    assert [json.loads(letter.value or b"")["state"] for letter in letters] == ["firing", "resolved"]
    headers = dict(letters[0].headers)
    assert (headers["detector.reason"], headers["detector.topic"]) == (b"refused_for_size", b"alerts")
    assert headers["ce_type"] == b"io.detector.alert.firing.v1"
    assert rig.observer.refused_by == ["alerts"] * 2
    assert "alerts refuses 1 records for their size, which are dead letters" in caplog.text
    assert len(rig.scores()) == 60
    assert len(rig.consumers) == 1
    assert broker.committed == {P0: 60}


def test_what_no_topic_takes_is_counted_and_stops_nothing(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    records = [*telemetry(30), b"no json " * 20, *telemetry(10, entity="long" * 60)]
    broker = FakeBroker({P0: records}, limits={"dead": 100, "scores": 500})
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, max_poll_records=41)
    rig.loop.run()
    # Of a dead letter the headers say what is wrong.
    assert [letter.value for letter in broker.topic("dead")] == [b""]
    assert len(rig.scores()) == 30
    assert rig.observer.refused_by == ["scores"] * 10
    assert "scores refuses 10 records for their size, which are lost; raise its max" in caplog.text
    assert "dead refuses 1 records for their size, which have less in them" in caplog.text
    assert broker.committed == {P0: 41}


@pytest.mark.parametrize("error", [InvalidTopicError("bad topic"), ClientFailedError("fenced")])
def test_error_that_no_retry_can_mend_ends_the_loop(error: KafkaClientError, watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    broker.fail_next["subscribe"] = [error]
    with pytest.raises(type(error)):
        Rig(broker, watcher).loop.run()
    assert broker.opened == broker.closed


def test_bad_records_become_dead_letters_and_their_neighbours_are_scored(watcher: Detector) -> None:
    good = telemetry(6)
    values = [
        good[0],
        b"{oops",
        good[1],
        None,
        good[2],
        good[3],
        b'{"entity":"e","time":5}',
        good[4],
        good[5],
    ]
    rig = Rig(FakeBroker({P0: values}), watcher)
    rig.loop.run()
    assert [s["origin"]["offset"] for s in rig.scores()] == [0, 2, 4, 5, 7, 8]
    letters = rig.broker.topic("dead")
    assert [letter.value for letter in letters] == [b"{oops", b"", b'{"entity":"e","time":5}']
    assert [letter.key for letter in letters] == [b"key"] * 3
    headers = [dict(letter.headers) for letter in letters]
    assert [h["__connect.errors.offset"] for h in headers] == [b"1", b"3", b"6"]
    assert [h["detector.reason"] for h in headers] == [b"malformed_json", b"empty", b"no_features"]
    assert rig.observer.reasons == {Reason.MALFORMED_JSON: 1, Reason.EMPTY: 1, Reason.NO_FEATURES: 1}
    assert rig.broker.committed == {P0: 9}


def test_poll_of_bad_records_alone_is_committed(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: [b"x"] * 12}), watcher)
    rig.loop.run()
    assert len(rig.broker.topic("dead")) == 12
    assert rig.broker.committed == {P0: 12}


def test_incident_fires_and_resolves_on_the_alerts_topic(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: telemetry(60, anomalous=range(30, 40))}), watcher)
    rig.loop.run()
    alerts = [json.loads(record.value or b"") for record in rig.broker.topic("alerts")]
    assert [alert["state"] for alert in alerts] == ["firing", "resolved"]
    assert alerts[0]["labels"] == {"team": "shop"}
    assert alerts[0]["origin"]["first_offset"] == 30
    assert [event.transition for event in rig.observer.events] == ["firing", "resolved"]


def test_scores_are_not_written_without_a_topic_for_them(watcher: Detector) -> None:
    rig = Rig(FakeBroker({P0: telemetry(60, anomalous=range(30, 40))}), watcher)
    rig.made(Outputs(None, "alerts", "dead", "group")).run()
    assert {record.topic for record in rig.broker.written} == {"alerts"}
    assert rig.observer.records == 60


def test_revoked_partition_forgets_its_entities_and_no_others(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30), P1: telemetry(30, entity="other")})
    rig = Rig(broker, watcher)
    polls = 0

    def revoke_midway(consumer: FakeConsumer) -> None:
        nonlocal polls
        polls += 1
        if polls == 6:
            consumer.assign([P0])
        rig.stop_when_all_is_read(consumer)

    rig.on_poll = revoke_midway
    rig.loop.run()
    assert rig.observer.gone == ["other"]
    assert rig.observer.partitions == 1
    assert broker.committed[P0] == 30
    assert broker.committed[P1] < 30


def test_partition_that_comes_back_starts_afresh(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    rig = Rig(broker, watcher)
    polls = 0

    def away_and_back(consumer: FakeConsumer) -> None:
        nonlocal polls
        polls += 1
        if polls == 2:
            consumer.assign([])
            consumer.assign([P0])
        rig.stop_when_all_is_read(consumer)

    rig.on_poll = away_and_back
    rig.loop.run()
    assert rig.observer.gone == ["e"]
    # What was written and not yet committed when it went is written again: somebody else may have read it.
    assert [s["origin"]["offset"] for s in rig.scores()] == [*range(10), *range(30)]


def test_entity_on_two_partitions_is_reported_once_and_scored_on_both(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(FakeBroker({P0: telemetry(30), P1: telemetry(30, start=5)}), watcher)
    rig.loop.run()
    assert rig.observer.on_two_sources == 1
    assert len(rig.scores()) == 60
    assert {s["status"] for s in rig.scores()} == {"scored"}
    assert sum("second partition" in r.message for r in caplog.records) == 1


def test_stop_finishes_the_turn_and_closes_in_order(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(35)})
    rig = Rig(broker, watcher)
    rig.on_poll = lambda consumer: rig.loop.stop()
    rig.loop.run()
    assert broker.committed == {P0: 10}
    assert len(rig.scores()) == 10
    assert broker.closed == 2


def test_stop_is_heard_while_the_broker_is_away(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10)}, away=True)
    rig = Rig(broker, watcher)
    sleep = rig.clock.sleep

    def stop_later(seconds: float) -> None:
        sleep(seconds)
        if rig.clock.now_s > 100:
            rig.loop.stop()

    rig.loop._session._sleep = stop_later
    rig.loop.run()
    assert 100 < rig.clock.now_s < 102
    assert max(rig.clock.slept) <= 1.0
    # Asked less and less often: 0.25 s, 0.5 s, ... up to 10 s apart.
    assert 10 <= broker.log.count("open producer") <= 16


def test_stop_while_an_output_is_unacknowledged_gives_up_after_seconds(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    rig = Rig(broker, watcher)
    flushes = 0

    def never(self: FakeProducer, timeout_s: float) -> None:
        nonlocal flushes
        flushes += 1
        rig.clock.sleep(timeout_s)
        if flushes == 3:
            rig.loop.stop()
        raise DeliveryError("slow", refused=0, pending=10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeProducer, "flush", never)
        rig.loop.run()
    assert rig.clock.now_s < 8
    assert broker.committed == {}


def test_lost_records_and_unreadable_batches_are_logged_and_polling_goes_on(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker({P0: telemetry(10)})
    broker.fail_next["poll"] = [
        OffsetOutOfRangeError("telemetry[0]@7 is gone", {P0: 5}),
        FetchError("bad batch"),
    ]
    rig = Rig(broker, watcher)
    rig.loop.run()
    assert broker.committed == {P0: 10}
    assert len(rig.consumers) == 1
    errors = [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 2
    assert "telemetry[0]@7 is gone" in errors[0]
    assert rig.observer.lost_records == 5


def test_a_batch_that_cannot_be_read_is_a_dead_letter_and_the_group_goes_on_behind_it(
    watcher: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    rig = Rig(broker, watcher)
    committed: list[int] = []

    def break_down_once(consumer: FakeConsumer) -> None:
        if consumer.lag()[P0] == 20 and 17 not in committed:
            consumer.seek({P0: 17})
            raise UnreadableBatchError("passed over telemetry[0] from offset 10 to 16", {P0: range(10, 17)})
        committed.append(broker.committed.get(P0, 0))
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = break_down_once
    rig.loop.run()
    # At once, before anything behind it was read.
    assert committed[:2] == [0, 17]
    assert [s["origin"]["offset"] for s in rig.scores()] == [*range(10), *range(17, 30)]
    (letter,) = broker.topic("dead")
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (None, b"")
    assert headers["detector.reason"] == b"unreadable"
    assert headers["detector.records"] == b"7"
    assert headers["__connect.errors.offset"] == b"10"
    assert rig.observer.lost_records == 7
    assert "passed over telemetry[0]" in caplog.text


def test_a_bad_batch_of_a_partition_that_went_is_left_to_its_new_owner(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10), P1: telemetry(10)})
    rig = Rig(broker, watcher)
    failed: list[bool] = []

    def break_down_once(consumer: FakeConsumer) -> None:
        if not failed:
            failed.append(True)
            consumer.assign([P0])
            raise UnreadableBatchError("passed over telemetry[1]", {P1: range(3)})
        if broker.committed.get(P0) == 10:
            rig.loop.stop()

    rig.on_poll = break_down_once
    rig.loop.run()
    assert broker.committed == {P0: 10}
    assert broker.topic("dead") == []
    assert rig.observer.lost_records == 0


def test_polls_are_as_large_as_can_be_processed_in_good_time(
    watcher: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker({P0: telemetry(6000)})
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, max_poll_records=2000)
    polled: list[int] = []
    seconds_each = 0.0

    def process(batch: Batch, slots: IntArray) -> tuple[Scores, list[AlertEvent]]:
        polled.append(len(batch))
        rig.clock.sleep(seconds_each * len(batch))
        return answer(batch, slots)

    def dearer_at_last(consumer: FakeConsumer) -> None:
        nonlocal seconds_each
        seconds_each = 0.02 if sum(polled) >= 3500 else 0.0
        rig.stop_when_all_is_committed(consumer)

    answer = rig.watch.process
    monkeypatch.setattr(rig.watch, "process", process)
    rig.on_poll = dearer_at_last
    rig.loop.run()
    assert polled[:3] == [500, 1000, 2000]
    # 40 s for 2000 of them, and then no more than 5 s at once.
    assert polled[3] == 2000
    assert all(240 <= records <= 250 for records in polled[4:6])
    assert sum(polled) == 6000


def test_missing_values_are_counted_per_feature(watcher: Detector) -> None:
    rig = Rig(
        FakeBroker({P0: [b'{"entity":"e","time":%d,"features":{"f0":1}}' % (TIME + i) for i in range(3)]}),
        watcher,
    )
    rig.loop.run()
    assert rig.observer.missing_values == {"f1": 3, "f2": 3}


def test_topics_of_two_inputs_share_one_consumer_and_keep_apart(watcher: Detector) -> None:
    other = Source("metrics", 0)
    broker = FakeBroker({P0: telemetry(15), other: [b"bad", *telemetry(5)]})
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, max_poll_records=100)
    schema = InputSchema("more", tuple((f"f{i}", (f"f{i}",)) for i in range(3)))
    second = Input("more", ("metrics",), JsonCodec(schema), [Watch(watcher, "more", np.arange(3))])
    rig.loop._inputs.append(second)
    rig.loop._input_of["metrics"] = second
    rig.loop.run()
    assert sorted(rig.observer.batches) == [("hosts", 15), ("more", 6)]
    assert sorted((s["origin"]["topic"], s["origin"]["offset"]) for s in rig.scores()) == [
        *(("metrics", i) for i in range(1, 6)),
        *(("telemetry", i) for i in range(15)),
    ]
    letter = dict(broker.topic("dead")[0].headers)
    assert (letter["__connect.errors.topic"], letter["detector.input"]) == (b"metrics", b"more")
    assert broker.committed == {P0: 15, other: 6}


def test_records_read_again_after_a_rebalance_that_changed_nothing_are_answered_once(
    forecaster: Detector,
) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    rig = Rig(broker, forecaster)
    rewound: list[dict[Source, int]] = []

    def rewind_once(consumer: FakeConsumer) -> None:
        # As a client does when its partitions are taken and given straight back.
        if not rewound and sum(consumer.lag().values()) == 10:
            rewound.append(dict(broker.committed))
            consumer.seek_to_committed()
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = rewind_once
    rig.loop.run()
    assert rewound == [{P0: 10}]
    assert [s["origin"]["offset"] for s in rig.scores()] == list(range(30))
    assert [s["status"] for s in rig.scores()].count("warming_up") == 1
    assert broker.committed == {P0: 30}


def test_commits_are_a_while_apart_where_records_wait_and_at_once_where_none_do(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(50)})
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, commit_interval_s=1.0)

    def check(consumer: FakeConsumer) -> None:
        if sum(consumer.lag().values()) > 0:
            # The first commit is due at once, the next in a second that does not pass here.
            assert broker.committed.get(P0, 0) <= 10
        rig.stop_when_all_is_committed(consumer)

    rig.on_poll = check
    rig.loop.run()
    assert broker.log.count("commit") == 2
    assert broker.committed == {P0: 50}
    assert len(rig.scores()) == 50


def test_outputs_in_flight_are_settled_before_the_loop_ends(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(30)})
    rig = Rig(broker, watcher)

    def stop_in_the_second_turn(consumer: FakeConsumer) -> None:
        if sum(consumer.lag().values()) == 20:
            rig.loop.stop()

    rig.on_poll = stop_in_the_second_turn
    rig.loop.run()
    assert broker.committed == {P0: 20}
    assert [s["origin"]["offset"] for s in rig.scores()] == list(range(20))
    assert rig.observer.records == 20


def test_without_overlap_every_poll_is_committed_before_the_next(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(50)})
    rig = Rig(broker, watcher)
    rig.made(OUTPUTS, commit_interval_s=1.0, overlap=False)
    rig.loop.run()
    calls = [call for call in broker.log if call in ("poll", "send", "flush", "commit")]
    assert calls == ["poll", "send", "flush", "commit"] * 5 + ["poll"]
    assert broker.committed == {P0: 50}


class FakeArrivals:
    """Brings a watch once enough records were seen."""

    def __init__(self, after: int, watch: Watch) -> None:
        self.after = after
        self.watch: Watch | None = watch
        self.records = 0
        self.forgotten: list[int] = []

    def seen(self, slots: IntArray) -> None:
        self.records += len(slots)

    def forget(self, slots: IntArray) -> None:
        self.forgotten += slots.tolist()

    def arrived(self) -> Watch | None:
        watch = self.watch
        if self.records < self.after:
            return None
        self.watch = None
        return watch


def bootstrapped(rig: Rig, watches: list[Watch], arrivals: FakeArrivals) -> Rig:
    loop = rig.made(OUTPUTS, overlap=False)
    only = loop._inputs[0]
    loop._inputs[0] = Input(only.name, only.topics, only.codec, watches, arrivals=[arrivals])
    loop._input_of = dict.fromkeys(only.topics, loop._inputs[0])
    return rig


def test_records_are_scored_from_the_batch_after_the_arrival_of_a_version(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(45)})
    arrivals = FakeArrivals(20, Watch(watcher, "hosts", np.arange(3)))
    rig = bootstrapped(Rig(broker, watcher), [], arrivals)
    rig.loop.run()
    assert [score["origin"]["offset"] for score in rig.scores()] == list(range(20, 45))
    assert rig.observer.records == arrivals.records == 45
    assert broker.committed == {P0: 45}


def test_an_episode_goes_on_under_the_version_that_replaces_another(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(60, anomalous=range(15, 25))})
    (member,) = watcher.model.members
    averages = replace(watcher.model, members=(replace(member, time_scale=TimeScale(0.9)),))
    new = Watch(replace(watcher, version="v2", model=averages), "hosts", np.arange(3))
    arrivals = FakeArrivals(20, new)
    rig = bootstrapped(Rig(broker, watcher), [Watch(watcher, "hosts", np.arange(3))], arrivals)
    rig.loop.run()
    assert [score["version"] for score in rig.scores()] == ["v1"] * 20 + ["v2"] * 40
    events = [json.loads(record.value or b"") for record in broker.topic("alerts")]
    assert [(event["state"], event["version"]) for event in events] == [("firing", "v1"), ("resolved", "v2")]
    assert len({event["alert_id"] for event in events}) == 1
    assert events[1]["records"] > 5
    assert events[1]["peak"] == events[0]["peak"]
    assert events[1]["member"] == member.name != averages.members[0].name
    assert new.firing().size == 0


def test_an_inherited_episode_of_an_entity_that_went_elsewhere_is_forgotten(watcher: Detector) -> None:
    before, new = (Watch(watcher, "hosts", np.arange(3)) for _ in range(2))
    x = gmm().sample(4, np.random.default_rng(0))
    x[2:] += 40.0
    before.process(batch(x), np.full(4, 7))
    new.inherit(before)
    assert new.firing().tolist() == [7]
    new.forget(np.array([7]), ["e"])
    assert new.firing().size == 0


def test_an_inherited_episode_names_the_member_that_raised_its_peak(watcher: Detector) -> None:
    (member,) = watcher.model.members
    gone, stays, other = (replace(member, time_scale=TimeScale(weight)) for weight in (0.5, 0.3, 0.1))
    both = replace(watcher.model, members=(gone, stays))
    before = Watch(replace(watcher, model=both), "hosts", np.arange(3))
    before._grow(2)
    before._state.alert["peak_member"][:2] = 0, 1
    for names, expected in (((other,), [1, 2]), ((other, stays), [2, 1]), ((stays, gone), [1, 0])):
        new = Watch(replace(watcher, model=replace(both, members=names)), "hosts", np.arange(3))
        new.inherit(before)
        numbers = new._state.alert["peak_member"][:2].tolist()
        assert numbers == expected
        assert [new.detector.member_names[k] for k in numbers] == [gone.name, stays.name]


def test_counts_of_entities_that_went_elsewhere_are_forgotten(watcher: Detector) -> None:
    broker = FakeBroker({P0: telemetry(10), P1: telemetry(10, entity="other")})
    arrivals = FakeArrivals(1000, Watch(watcher, "hosts", np.arange(3)))
    rig = bootstrapped(Rig(broker, watcher), [], arrivals)
    rig.loop.run()
    rig.loop.forget()
    assert sorted(arrivals.forgotten) == [0, 1]
