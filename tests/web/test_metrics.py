"""Tests for detector.web.metrics: what a scrape says after the loop reported."""

import inspect
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from detector.alerting.absence_event import kept_alive, resolved
from detector.alerting.event import Transition
from detector.batch import OperatorRule, Source, Status
from detector.stream.observer import Observer
from detector.stream.reasons import Reason
from detector.web.firing import RESOLVED_STAYS_S
from detector.web.health import Health
from detector.web.metrics import Metrics
from tests.web.made_up import (
    FACTS,
    LASTS_S,
    SOURCE,
    Clock,
    absence_of,
    batch_of,
    event_of,
    everything_reported,
    scores_of,
    slots_of,
)

HOSTILE_NAMES = ['quote"', "line\nbreak", "back\\slash", "🔥", "\x00\x1f", "", "a" * 256, "{}=,"]


class Scraped:
    """Metrics with a registry and a clock of their own."""

    def __init__(self, entity_series: int = 1000) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.health = Health(clock=self.clock)
        self.metrics = Metrics(self.registry, self.health, entity_series, self.clock)
        self.metrics.detector_loaded(FACTS)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def labels_of(self, name: str) -> list[dict[str, str]]:
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return [sample.labels for family in families for sample in family.samples if sample.name == name]

    def score(self, entities: list[str], scores: list[float], now_s: float = 1.8e9) -> None:
        slots = slots_of(*range(len(entities)))
        self.metrics.scored(batch_of(entities), slots, scores_of(scores), [], now_s)


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def openmetrics(registry: CollectorRegistry) -> bytes:
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    return bytes(encode(registry))


def test_it_is_an_observer_of_the_loop(scraped: Scraped) -> None:
    observer: Observer = scraped.metrics
    for name, promised in inspect.getmembers(Observer, inspect.isfunction):
        if not name.startswith("_"):
            kept = inspect.signature(getattr(type(observer), name))
            assert list(kept.parameters) == list(inspect.signature(promised).parameters), name


def test_promtool_finds_nothing_to_improve(promtool: str) -> None:
    page = generate_latest(everything_reported(HOSTILE_NAMES))
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert done.stdout + done.stderr == b""


def test_hostile_names_survive_a_scrape_in_both_formats() -> None:
    registry = everything_reported(HOSTILE_NAMES)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    entities = {s.labels["entity"] for f in families for s in f.samples if s.name == "detector_alert_firing"}
    assert {'quote"', "line\nbreak", "back\\slash", "🔥", "\x00\x1f", "{}=,"} <= entities
    assert openmetrics(registry).decode().endswith("# EOF\n")


def test_no_created_series() -> None:
    assert b"_created" not in generate_latest(everything_reported(HOSTILE_NAMES))
    assert b"_created" not in openmetrics(everything_reported(HOSTILE_NAMES))


def test_records_are_counted_by_outcome_when_the_batch_is_done(scraped: Scraped) -> None:
    scraped.metrics.polled("telegraf", 10)
    scraped.metrics.rejected("telegraf", Reason.NO_TIME, 3)
    scraped.metrics.batch_done("telegraf", 10, 0.02)
    assert scraped.value("detector_records_total", input="telegraf", outcome="decoded") == 7
    assert scraped.value("detector_records_total", input="telegraf", outcome="dead_letter") == 3
    assert scraped.value("detector_dead_letters_total", input="telegraf", reason="no_time") == 3
    assert scraped.value("detector_batch_duration_seconds_count", input="telegraf") == 1


def test_an_input_that_nothing_comes_from_has_counters_that_stand_at_0(scraped: Scraped) -> None:
    scraped.metrics.input_added("telegraf", Reason)
    for outcome in ("decoded", "dead_letter"):
        assert scraped.value("detector_records_total", input="telegraf", outcome=outcome) == 0
    for reason in Reason:
        assert scraped.value("detector_dead_letters_total", input="telegraf", reason=str(reason)) == 0
    assert scraped.value("detector_entities_on_two_partitions_total", input="telegraf") == 0


def test_records_are_counted_by_status(scraped: Scraped) -> None:
    scraped.score(["a", "b", "c"], [0.5, np.nan, 1.5])
    assert scraped.value("detector_scored_records_total", detector="hosts", status="scored") == 2
    assert scraped.value("detector_scored_records_total", detector="hosts", status="warming_up") == 1


def test_scores_and_delays_fill_cumulative_buckets(scraped: Scraped) -> None:
    scraped.score(["a", "b", "c"], [0.5, 1.0, 99.0], now_s=1.8e9 + 0.75)
    buckets = {
        le: scraped.value("detector_anomaly_score_bucket", detector="hosts", le=le) for le in ("0.5", "1")
    }
    assert buckets == {"0.5": 1, "1": 2}
    assert scraped.value("detector_anomaly_score_bucket", detector="hosts", le="+Inf") == 3
    assert scraped.value("detector_anomaly_score_sum", detector="hosts") == pytest.approx(100.5)
    assert scraped.value("detector_event_delay_seconds_bucket", detector="hosts", le="0.5") == 0
    assert scraped.value("detector_event_delay_seconds_bucket", detector="hosts", le="1") == 3


def test_a_record_from_the_future_has_no_negative_delay(scraped: Scraped) -> None:
    scraped.score(["a"], [0.5], now_s=1.8e9 - 100)
    assert scraped.value("detector_event_delay_seconds_sum", detector="hosts") == 0


def test_firing_is_one_then_zero_for_minutes_then_gone(scraped: Scraped) -> None:
    labels = {"detector": "hosts", "entity": "a", "severity": "warning"}
    scraped.metrics.scored(
        batch_of(["a"]), slots_of(4), scores_of([2.0]), [event_of("a", "firing", 0)], 1.8e9
    )
    assert scraped.value("detector_alert_firing", **labels) == 1
    scraped.clock.now_s += LASTS_S - 1
    assert scraped.value("detector_alert_firing", **labels) == 1
    resolved = batch_of(["a"], first_offset=1)
    scraped.metrics.scored(resolved, slots_of(4), scores_of([0.1]), [event_of("a", "resolved", 1)], 1.8e9)
    assert scraped.value("detector_alert_firing", **labels) == 0
    scraped.clock.now_s += RESOLVED_STAYS_S - 1
    assert scraped.value("detector_alert_firing", **labels) == 0
    scraped.clock.now_s += 1
    assert scraped.value("detector_alert_firing", **labels) is None
    for transition in ("firing", "resolved"):
        assert scraped.value("detector_alerts_total", detector="hosts", transition=transition) == 1


@pytest.mark.parametrize("transition", ["updated", "resolved"])
def test_an_alert_from_before_a_restart_fires_until_its_first_event(
    scraped: Scraped, transition: Transition
) -> None:
    labels = {"detector": "hosts", "entity": "a", "severity": "critical"}
    told = event_of("a", "firing", 0, severity="critical")
    scraped.metrics.still_firing("hosts", [SOURCE], [(told, LASTS_S)])
    assert scraped.value("detector_alert_firing", **labels) == 1
    # Neither a record without an event nor another partition's news changes that.
    scraped.score(["a"], [2.0])
    scraped.metrics.still_firing("hosts", [Source("telemetry", 7)], [])
    assert scraped.value("detector_alert_firing", **labels) == 1
    event = event_of("a", transition, 1, severity="warning")
    scraped.metrics.scored(batch_of(["a"], first_offset=1), slots_of(4), scores_of([2.0]), [event], 1.8e9)
    assert scraped.value("detector_alert_firing", **labels) is None
    now = scraped.value("detector_alert_firing", **{**labels, "severity": "warning"})
    assert now == (transition == "updated")


def test_an_alert_from_before_a_restart_of_a_silent_entity_fires_until_it_expires(scraped: Scraped) -> None:
    labels = {"detector": "hosts", "entity": "a", "severity": "warning"}
    scraped.metrics.still_firing("hosts", [SOURCE], [(event_of("a", "firing", 0), 100.0)])
    scraped.clock.now_s += 99
    assert scraped.value("detector_alert_firing", **labels) == 1
    scraped.clock.now_s += 1
    assert scraped.value("detector_alert_firing", **labels) == 0
    scraped.clock.now_s += RESOLVED_STAYS_S
    assert scraped.value("detector_alert_firing", **labels) is None


def test_an_alert_from_before_a_restart_is_forgotten_with_its_partition(scraped: Scraped) -> None:
    other = event_of("b", "firing", 0, Source("telemetry", 1))
    both = [(event_of("a", "firing", 0), LASTS_S), (other, LASTS_S)]
    scraped.metrics.still_firing("hosts", [SOURCE, other.source], both)
    scraped.metrics.still_firing("hosts", [SOURCE], [])
    assert [labels["entity"] for labels in scraped.labels_of("detector_alert_firing")] == ["b"]


def test_an_outage_ends_no_alert_that_nobody_says_is_over(scraped: Scraped) -> None:
    labels = {"detector": "hosts", "entity": "a", "severity": "warning"}
    scraped.metrics.scored(
        batch_of(["a"]), slots_of(4), scores_of([2.0]), [event_of("a", "firing", 0)], 1.8e9
    )
    scraped.metrics.interrupted()
    scraped.metrics.forgotten("hosts", slots_of(4), ["a"])
    scraped.clock.now_s += LASTS_S - 1
    assert scraped.value("detector_alert_firing", **labels) == 1
    # It goes on, on the slot of another entity of before.
    event = event_of("a", "updated", 1)
    scraped.metrics.scored(batch_of(["a"], first_offset=1), slots_of(9), scores_of([2.0]), [event], 1.8e9)
    scraped.clock.now_s += LASTS_S - 1
    scraped.metrics.interrupted()
    assert scraped.value("detector_alert_firing", **labels) == 1
    scraped.clock.now_s += 1
    assert scraped.value("detector_alert_firing", **labels) == 0
    scraped.clock.now_s += RESOLVED_STAYS_S
    assert scraped.value("detector_alert_firing", **labels) is None


def test_an_alert_from_before_an_outage_vanishes_with_its_partition(scraped: Scraped) -> None:
    other = Source("telemetry", 1)
    for slot, source in enumerate((SOURCE, other)):
        event = event_of(str(source.partition), "firing", 0, source)
        batch = batch_of([event.entity], source=source)
        scraped.metrics.scored(batch, slots_of(slot), scores_of([2.0]), [event], 1.8e9)
    scraped.metrics.interrupted()
    scraped.metrics.still_firing("hosts", [SOURCE], [])
    assert [labels["entity"] for labels in scraped.labels_of("detector_alert_firing")] == ["1"]


def test_an_entity_that_falls_silent_while_it_fires_fires_until_that_expires(scraped: Scraped) -> None:
    batches = [batch_of(["a"], first_offset=offset) for offset in (0, 1)]
    labels = {"detector": "hosts", "entity": "a", "severity": "warning"}
    transitions: tuple[Transition, ...] = ("firing", "updated")
    for batch, transition in zip(batches, transitions, strict=True):
        event = event_of("a", transition, int(batch.offset[0]))
        scraped.metrics.scored(batch, slots_of(4), scores_of([2.0]), [event], 1.8e9)
        scraped.clock.now_s += LASTS_S - 1
    assert scraped.value("detector_alert_firing", **labels) == 1
    scraped.clock.now_s += 1
    assert scraped.value("detector_alert_firing", **labels) == 0
    scraped.clock.now_s += RESOLVED_STAYS_S
    assert scraped.value("detector_alert_firing", **labels) is None


def test_the_series_of_a_severity_that_rose_vanishes(scraped: Scraped) -> None:
    events = [event_of("a", "firing", 0), event_of("a", "updated", 1, severity="critical")]
    scraped.metrics.scored(batch_of(["a", "a"]), slots_of(4, 4), scores_of([2.0, 2.0]), events, 1.8e9)
    assert scraped.labels_of("detector_alert_firing") == [
        {"detector": "hosts", "entity": "a", "severity": "critical"}
    ]
    assert scraped.value("detector_alert_firing", detector="hosts", entity="a", severity="critical") == 1


def test_alerts_that_fire_again_are_among_those_that_fired(scraped: Scraped) -> None:
    events = [event_of("a", "firing", 0), event_of("a", "firing", 1, reopened=1)]
    scraped.metrics.scored(batch_of(["a", "a"]), slots_of(4, 4), scores_of([2.0, 2.0]), events, 1.8e9)
    assert scraped.value("detector_alerts_total", detector="hosts", transition="firing") == 2
    assert scraped.value("detector_alerts_reopened_total", detector="hosts") == 1


def test_firing_entities_beyond_the_cap_keep_both_series() -> None:
    scraped = Scraped(entity_series=2)
    quiet = [f"host-{i}" for i in range(50)]
    scraped.score(quiet, [3.0] * 50)
    batch = batch_of(["ill"], first_offset=60)
    scraped.metrics.scored(batch, slots_of(50), scores_of([1.1]), [event_of("ill", "firing", 60)], 1.8e9)
    shown = {labels["entity"] for labels in scraped.labels_of("detector_entity_anomaly_score")}
    assert "ill" in shown
    assert len(shown) == 2
    assert scraped.value("detector_entity_series_dropped") == 49
    assert scraped.labels_of("detector_alert_firing") == [
        {"detector": "hosts", "entity": "ill", "severity": "warning"}
    ]


def test_forgotten_entities_have_no_series(scraped: Scraped) -> None:
    events = [event_of("a", "firing", 0)]
    scraped.metrics.scored(batch_of(["a", "b"]), slots_of(0, 1), scores_of([2.0, 0.1]), events, 1.8e9)
    scraped.metrics.forgotten("hosts", slots_of(0), ["a"])
    assert scraped.labels_of("detector_alert_firing") == []
    assert scraped.labels_of("detector_entity_anomaly_score") == [{"detector": "hosts", "entity": "b"}]
    assert scraped.value("detector_entities", detector="hosts") == 1


def test_an_entity_on_two_partitions_has_one_series(scraped: Scraped) -> None:
    for slot, partition in enumerate((0, 1)):
        source = Source("telemetry", partition)
        event = event_of("a", "firing", 0, source)
        batch = batch_of(["a"], source=source)
        scraped.metrics.scored(batch, slots_of(slot), scores_of([2.0 + slot]), [event], 1.8e9)
    resolved = event_of("a", "resolved", 1, SOURCE)
    scraped.metrics.scored(batch_of(["a"], first_offset=1), slots_of(0), scores_of([0.1]), [resolved], 1.8e9)
    assert scraped.value("detector_alert_firing", detector="hosts", entity="a", severity="warning") == 1
    assert len(scraped.labels_of("detector_alert_firing")) == 1
    assert scraped.value("detector_entity_anomaly_score", detector="hosts", entity="a") == 3.0


def test_the_budget_grows_with_the_time_watched_over_all_entities(scraped: Scraped) -> None:
    for minute in range(61):
        batch = batch_of(["a", "b"], time_s=1.8e9 + 60 * minute)
        scraped.metrics.scored(batch, slots_of(0, 1), scores_of([0.1, 0.1]), [], 1.8e9)
    budget, aimed = (2 * 3600 * rate for rate in (FACTS.threshold.budget_rate, FACTS.threshold.aimed_rate))
    assert scraped.value("detector_budget_episodes_total", detector="hosts") == pytest.approx(budget)
    assert scraped.value("detector_expected_episodes_total", detector="hosts") == pytest.approx(aimed)


def test_budget_and_expected_rate_are_per_entity_and_day(scraped: Scraped) -> None:
    assert scraped.value("detector_budget_episodes_per_entity_day", detector="hosts") == pytest.approx(1.0)
    expected = scraped.value("detector_expected_episodes_per_entity_day", detector="hosts")
    assert expected == pytest.approx(0.7)


def test_small_p_values_that_come_too_often_show_unless_they_are_alerts(scraped: Scraped) -> None:
    entities = [str(i) for i in range(20_000)]
    p_value = np.linspace(0.0, 1.0, 20_000) ** 2
    scores = replace(scores_of([0.1] * 20_000), p_value=p_value)
    assert np.isnan(scraped.value("detector_calibration_ratio", detector="hosts") or np.nan)
    scraped.metrics.scored(batch_of(entities), np.arange(20_000), scores, [], 1.8e9)
    found = scraped.value("detector_calibration_ratio", detector="hosts")
    assert found == pytest.approx(10.0, rel=0.1)
    scraped.metrics.detector_loaded(FACTS)
    in_alerts = replace(scores, alert=p_value < 0.25)
    scraped.metrics.scored(batch_of(entities), np.arange(20_000), in_alerts, [], 1.8e9)
    left_out = scraped.value("detector_calibration_ratio", detector="hosts")
    assert left_out is not None
    assert left_out < 1


def test_maintenance_says_nothing_of_calibration(scraped: Scraped) -> None:
    n = 20_000
    rule = np.full(n, OperatorRule.MAINTENANCE, dtype=np.int8)
    scores = replace(scores_of([0.1] * n), p_value=np.full(n, 1e-3), rule=rule)
    scraped.metrics.scored(batch_of([str(i) for i in range(n)]), np.arange(n), scores, [], 1.8e9)
    assert np.isnan(scraped.value("detector_calibration_ratio", detector="hosts") or np.nan)


def test_late_records_add_no_watched_time_and_no_score(scraped: Scraped) -> None:
    scraped.metrics.scored(batch_of(["a"]), slots_of(0), scores_of([0.1]), [], 1.8e9)
    late = scores_of([np.nan])
    late.status[:] = Status.LATE
    scraped.metrics.scored(batch_of(["a"], time_s=1.8e9 + 60), slots_of(0), late, [], 1.8e9)
    assert scraped.value("detector_budget_episodes_total", detector="hosts") == 0
    assert scraped.value("detector_scored_records_total", detector="hosts", status="late") == 1
    assert scraped.value("detector_anomaly_score_count", detector="hosts") == 1


def test_lag_of_a_partition_that_moved_away_vanishes(scraped: Scraped) -> None:
    scraped.metrics.lag({SOURCE: 7, Source("telemetry", 1): 3})
    scraped.metrics.lag({SOURCE: 5})
    assert scraped.labels_of("detector_consumer_lag_records") == [{"topic": "telemetry", "partition": "0"}]
    assert scraped.value("detector_consumer_lag_records", topic="telemetry", partition="0") == 5


def test_another_version_replaces_the_model_info(scraped: Scraped) -> None:
    scraped.metrics.detector_loaded(
        replace(FACTS, family="hmm", version="v2", trained_time_s=1.8e9, young_records_missing=1910)
    )
    assert [labels["version"] for labels in scraped.labels_of("detector_model_info")] == ["v2"]
    assert scraped.value("detector_model_trained_timestamp_seconds", detector="hosts") == 1.8e9
    assert scraped.value("detector_model_young_records_missing", detector="hosts") == 1910


def test_watched_time_goes_by_the_interval_of_the_version_that_serves(scraped: Scraped) -> None:
    now_s, rate = 1.8e9, FACTS.threshold.budget_rate

    def budget_after_an_hour(version: str, interval_s: float) -> float | None:
        scraped.metrics.detector_loaded(replace(FACTS, version=version, interval_s=interval_s))
        nonlocal now_s
        now_s += 3600.0
        scraped.metrics.scored(batch_of(["a"], time_s=now_s), slots_of(0), scores_of([0.1]), [], now_s)
        return scraped.value("detector_budget_episodes_total", detector="hosts")

    assert budget_after_an_hour("v1", 60.0) == 0.0
    assert budget_after_an_hour("v2", 3600.0) == pytest.approx(3600 * rate)
    assert budget_after_an_hour("v3", 60.0) == pytest.approx((3600 + 3 * 60) * rate)


def test_bootstrapping_is_counted_until_there_is_nothing_to_wait_for(scraped: Scraped) -> None:
    scraped.metrics.growing("hosts", 312, 500, "bootstrapping: 312 of 500 records of an entity")
    scraped.metrics.training_ended("hosts", "failed")
    assert scraped.value("detector_bootstrap_records", detector="hosts") == 312
    assert scraped.value("detector_bootstrap_records_needed", detector="hosts") == 500
    assert scraped.value("detector_bootstrap_trainings_total", detector="hosts", outcome="failed") == 1
    assert scraped.health.notes == {"hosts": "bootstrapping: 312 of 500 records of an entity"}
    scraped.metrics.growing("hosts", 500, 2000, "")
    assert scraped.health.notes == {}
    scraped.metrics.grown("hosts")
    assert scraped.labels_of("detector_bootstrap_records") == []


def test_health_hears_of_broker_partitions_and_heartbeat(scraped: Scraped) -> None:
    scraped.health.models_loaded = True
    assert set(scraped.health.missing()) == {"broker", "partitions"}
    scraped.metrics.broker(True)
    scraped.metrics.assigned(2)
    assert scraped.health.missing() == {}
    scraped.clock.now_s += 100
    assert not scraped.health.alive()
    assert scraped.value("detector_loop_heartbeat_age_seconds") == 100
    scraped.metrics.heartbeat(scraped.clock.now_s)
    assert scraped.health.alive()


def test_an_empty_batch_changes_nothing(scraped: Scraped) -> None:
    before = generate_latest(scraped.registry).splitlines()
    scraped.metrics.scored(batch_of([]), slots_of(), scores_of([]), [], 1.8e9)
    after = generate_latest(scraped.registry).splitlines()
    assert [line for line in after if line.startswith(b"detector_")] == [
        line for line in before if line.startswith(b"detector_")
    ]


def test_records_are_counted_by_the_rule_that_decided() -> None:
    scraped = Scraped()
    rules = [rule for rule in OperatorRule for _ in range(int(rule) + 1)]
    batch = batch_of([f"e{i}" for i in range(len(rules))])
    scores = replace(scores_of([0.5] * len(rules)), rule=np.array(rules, dtype=np.int8))
    scraped.metrics.scored(batch, slots_of(*range(len(rules))), scores, [], 1.8e9)
    value = scraped.value
    assert value("detector_records_muted_total", detector="hosts", reason="deviation") == 2
    assert value("detector_records_stuck_total", detector="hosts") == 3
    assert value("detector_records_out_of_range_total", detector="hosts") == 4
    assert value("detector_records_muted_total", detector="hosts", reason="entity") == 5
    assert value("detector_records_in_maintenance_total", detector="hosts", kind="maintenance") == 6
    assert value("detector_records_in_maintenance_total", detector="hosts", kind="deploy") == 7


def test_absences_are_counted_and_shown_while_they_last(scraped: Scraped) -> None:
    fired = [absence_of("web-1"), absence_of("web-2")]
    goes_on = kept_alive(fired[1], 1.8e9 + 1800.0)
    over = resolved(fired[0], 1.8e9 + 2000.0, "returned")
    for event in (*fired, goes_on, over):
        scraped.metrics.absence(event)
    scraped.metrics.absent("telegraf", 2, fired)
    scraped.metrics.absent("telegraf", 1, [goes_on])
    labels = {"input": "telegraf", "kind": "absence"}
    assert scraped.value("detector_absences_total", **labels, transition="firing") == 2
    assert scraped.value("detector_absences_total", **labels, transition="resolved") == 1
    assert scraped.value("detector_absent_entities", input="telegraf") == 1
    assert scraped.labels_of("detector_absence_firing") == [
        {**labels, "entity": "web-2", "severity": "warning"}
    ]


def test_what_alerts_do_not_go_by_is_no_entity_score_and_spends_no_budget() -> None:
    scraped = Scraped()
    texts = ["none", "deviation", "muted", "deploy", "out_of_range", "stuck"]
    rules = [OperatorRule[text.upper()] for text in texts]
    names, rule = [rule.text for rule in rules], np.array(rules, dtype=np.int8)
    for time_s in (1.8e9, 1.8e9 + FACTS.interval_s):
        scores = replace(scores_of([3.0, 3.0, 3.0, 3.0, 0.2, 0.2]), rule=rule)
        scraped.metrics.scored(batch_of(names, time_s), slots_of(*range(6)), scores, [], time_s)
    series = "detector_entity_anomaly_score"
    shown = [scraped.value(series, detector="hosts", entity=name) for name in names]
    assert shown == [3.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    watched_s = 5 * FACTS.interval_s
    assert scraped.value("detector_budget_episodes_total", detector="hosts") == pytest.approx(
        watched_s * FACTS.threshold.budget_rate
    )
    # The histogram is of what the model says.
    assert scraped.value("detector_anomaly_score_sum", detector="hosts") == pytest.approx(2 * 12.4)
