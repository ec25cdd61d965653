"""All metrics of the daemon in one object: what the loop reports, counted once per batch, from arrays."""

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detector import __version__
from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.budget import Threshold
from detector.alerting.event import AlertEvent
from detector.batch import Batch, BoolArray, IntArray, OperatorRule, Scores, Source, Status
from detector.web.calibration_health import CalibrationHealth
from detector.web.entity_scores import EntityScores
from detector.web.firing import FiringAlerts, firing_family
from detector.web.health import Health
from detector.web.histogram import ColumnHistogram
from detector.web.watched_time import WatchedTime

_DAY_S = 86400.0
_BATCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELAY_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21600, 86400)
_SCORES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10)


TRAINING_OUTCOMES = ("trained", "too_few_records", "failed")
"""What becomes of a job that bootstrapping starts."""


@dataclass(frozen=True, slots=True)
class DetectorFacts:
    """What is known of a detector once its bundle is loaded."""

    name: str
    family: str
    predictor: str
    version: str
    role: str
    trained_time_s: float
    interval_s: float
    """The usual time between two records of an entity."""
    threshold: Threshold
    young_records_missing: int
    """Held-out records of an entity that a young version lacks; 0 for one that is not young."""


class Metrics:
    """The loop's observer on Prometheus metrics. Written by the loop's thread, read by the web server's."""

    def __init__(
        self,
        registry: CollectorRegistry,
        health: Health,
        entity_series: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Register every metric.

        Args:
            registry: Where; a test has its own.
            health: Told of heartbeat, broker and assignment.
            entity_series: Largest number of per-entity score series.
            clock: Monotonic seconds; decides how long series stay.
        """
        # Process-wide, and wanted everywhere: a second series for each counter says nothing here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._health = health
        self._polled: Tally[str] = Tally()
        self._rejected: Tally[str] = Tally()
        self._lag_labels: set[Source] = set()
        self._absence_labels: dict[str, set[tuple[str, str, str, str]]] = {}
        self._facts: dict[str, DetectorFacts] = {}
        self._watched: dict[str, WatchedTime] = {}
        self._calibration: dict[str, CalibrationHealth] = {}

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        self._records = counter(
            "detector_records_total", "Records read, by what became of them.", "input", "outcome"
        )
        self._dead_letters = counter(
            "detector_dead_letters_total", "Records that could not be read, by reason.", "input", "reason"
        )
        self._missing = counter(
            "detector_missing_values_total", "Features that decoded records did not have.", "input", "feature"
        )
        self._two_sources = counter(
            "detector_entities_on_two_partitions_total",
            "Entities found on a second partition, where the order of their records is not defined.",
            "input",
        )
        self._statuses = counter(
            "detector_scored_records_total", "Records that a detector saw, by status.", "detector", "status"
        )
        self._muted = counter(
            "detector_records_muted_total",
            "Suspicious records that no alert came of, because of a rule of the operator.",
            "detector",
            "reason",
        )
        self._out_of_range = counter(
            "detector_records_out_of_range_total",
            "Records with a value outside its valid range.",
            "detector",
        )
        self._in_maintenance = counter(
            "detector_records_in_maintenance_total",
            "Records inside a window in which nothing fires and nothing is learnt.",
            "detector",
            "kind",
        )
        self._control_records = counter(
            "detector_control_records_total",
            "Records of the control topic, by what became of them; again after a reconnection.",
            "outcome",
        )
        # From 0 on, or the first one refused would be no increase.
        for outcome in ("window", "withdrawn", "refused"):
            self._control_records.labels(outcome)
        self._alerts = counter(
            "detector_alerts_total", "Alert events, by what happened.", "detector", "transition"
        )
        self._reopened = counter(
            "detector_alerts_reopened_total",
            "Alerts that fired again within the cooldown; they are among those that fired.",
            "detector",
        )
        self._incidents = counter(
            "detector_incidents_total",
            "Incidents, in which many entities fire together, that began, changed or resolved.",
            "detector",
            "transition",
        )
        self._absences = counter(
            "detector_absences_total",
            "Absences of entities, or of a feature, that were noticed or are over.",
            "input",
            "kind",
            "transition",
        )
        self._absent = gauge(
            "detector_absent_entities", "Entities that stopped sending, as far as known.", "input"
        )
        self._absence = gauge(
            "detector_absence_firing",
            "What is absent now; always 1. Entity * stands for many that stopped together.",
            "input",
            "kind",
            "entity",
            "severity",
        )
        self._borne = counter(
            "detector_budget_episodes_total",
            "Episodes that the budget allowed for the event time watched so far, over all entities.",
            "detector",
        )
        self._expected = counter(
            "detector_expected_episodes_total",
            "Episodes of normal traffic that the threshold led one to expect in that time.",
            "detector",
        )
        self._budget = gauge(
            "detector_budget_episodes_per_entity_day",
            "The budget: episodes of normal traffic that an entity may have in a day.",
            "detector",
        )
        self._aim = gauge(
            "detector_expected_episodes_per_entity_day",
            "Episodes of normal traffic to be expected of an entity in a day at the threshold.",
            "detector",
        )
        self._calibration_ratio = gauge(
            "detector_calibration_ratio",
            "How many times as often as they should small p-values came in the last days; 1 is as promised.",
            "detector",
        )
        self._batch_seconds = Histogram(
            "detector_batch_duration_seconds",
            "From poll to commit.",
            ["input"],
            buckets=_BATCH_SECONDS,
            registry=registry,
        )
        self._lag = gauge(
            "detector_consumer_lag_records", "Records behind the high watermark.", "topic", "partition"
        )
        self._partitions = gauge("detector_assigned_partitions", "Partitions that this process owns.")
        self._broker = gauge("detector_broker_reachable", "Whether the broker answered last time.")
        self._threshold = gauge(
            "detector_p_value_threshold", "A record with a p-value at most this is suspicious.", "detector"
        )
        self._steered = gauge(
            "detector_steered_entities",
            "Entities whose own threshold is above the detector's: they are louder than the budget bears.",
            "detector",
        )
        self._model = gauge(
            "detector_model_info",
            "The bundle that scores, as labels; always 1.",
            "detector",
            "family",
            "predictor",
            "version",
            "role",
        )
        self._trained = gauge(
            "detector_model_trained_timestamp_seconds", "When the bundle was trained.", "detector"
        )
        self._young = gauge(
            "detector_model_young_records_missing",
            "Held-out records of an entity that a young version lacks; 0 for one that is not young.",
            "detector",
        )
        self._history = gauge(
            "detector_bootstrap_records", "Records of an entity known to be in the topics.", "detector"
        )
        self._goal = gauge(
            "detector_bootstrap_records_needed",
            "Records of an entity with which the next version is trained.",
            "detector",
        )
        self._trainings = counter(
            "detector_bootstrap_trainings_total",
            "Jobs that bootstrapping started, by what came of them.",
            "detector",
            "outcome",
        )
        build = gauge("detector_build_info", "The running version, as a label; always 1.", "version")
        build.labels(__version__).set(1)
        gauge("detector_start_time_seconds", "When the process started.").set(time.time())
        age = gauge("detector_loop_heartbeat_age_seconds", "Time since the loop last made progress.")
        age.set_function(health.heartbeat_age_s)
        ProcessCollector(registry=registry)
        self._per_entity = _PerEntity(entity_series, clock)
        registry.register(self._per_entity)

    def detector_loaded(self, facts: DetectorFacts) -> None:
        """Export a detector's model, threshold and budget; again when another version takes over."""
        old = self._facts.get(facts.name)
        if old is not None:
            self._model.remove(old.name, old.family, old.predictor, old.version, old.role)
        self._facts[facts.name] = facts
        self._model.labels(facts.name, facts.family, facts.predictor, facts.version, facts.role).set(1)
        self._trained.labels(facts.name).set(facts.trained_time_s)
        self._threshold.labels(facts.name).set(facts.threshold.p_value)
        self._young.labels(facts.name).set(facts.young_records_missing)
        self._watched.setdefault(facts.name, WatchedTime(facts.interval_s))
        self._calibration[facts.name] = CalibrationHealth(facts.threshold.p_value)
        self._calibration_ratio.labels(facts.name).set(np.nan)
        self._budget.labels(facts.name).set(facts.threshold.budget_rate * _DAY_S)
        self._aim.labels(facts.name).set(facts.threshold.aimed_rate * _DAY_S)
        self._borne.labels(facts.name)
        self._expected.labels(facts.name)
        for transition in ("firing", "updated", "resolved"):
            self._alerts.labels(facts.name, transition)
            self._incidents.labels(facts.name, transition)
        self._reopened.labels(facts.name)
        self._per_entity.detectors.add(facts.name)

    # --- bootstrapping -------------------------------------------------------------------------

    def growing(self, detector: str, records: int, goal: int, note: str) -> None:
        """Set how many records of an entity there are, and with how many the next version is trained."""
        self._history.labels(detector).set(records)
        self._goal.labels(detector).set(goal)
        # From 0 on, or the first of them would be no increase to Prometheus.
        for outcome in TRAINING_OUTCOMES:
            self._trainings.labels(detector, outcome)
        self._health.note(detector, note)

    def grown(self, detector: str) -> None:
        """Drop both."""
        for series in (self._history, self._goal):
            with suppress(KeyError):
                series.remove(detector)
        self._health.note(detector, "")

    def training_ended(self, detector: str, outcome: str) -> None:
        """Count a training job."""
        self._trainings.labels(detector, outcome).inc()

    def control_record(self, outcome: str) -> None:
        """Count a record of the control topic; may be called from any thread."""
        self._control_records.labels(outcome).inc()

    # --- the loop's observer ------------------------------------------------------------------

    def polled(self, input: str, records: int) -> None:
        """Count records read, good and bad; their outcome follows with ``batch_done``."""
        self._polled[input] += records

    def rejected(self, input: str, reason: str, records: int) -> None:
        """Count dead letters."""
        self._rejected[input] += records
        self._dead_letters.labels(input, str(reason)).inc(records)

    def missing(self, input: str, missing_per_feature: Mapping[str, int]) -> None:
        """Count missing values."""
        for feature, count in missing_per_feature.items():
            self._missing.labels(input, feature).inc(count)

    def scored(
        self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent], now_s: float
    ) -> None:
        """Take one detector's answer to a batch of N records; ``slots`` has shape (N,)."""
        if len(batch) == 0:
            return
        detector = scores.detector
        for status, count in enumerate(np.bincount(scores.status, minlength=len(Status)).tolist()):
            if count:
                self._statuses.labels(detector, Status(status).text).inc(count)
        if scores.rule is not None:
            self._ruled(detector, np.bincount(scores.rule, minlength=len(OperatorRule)).tolist())
        for event in events:
            self._alerts.labels(detector, event.transition).inc()
            if event.transition == "firing" and event.reopened:
                self._reopened.labels(detector).inc()
        in_order = (scores.status != Status.LATE) & (scores.status != Status.DUPLICATE)
        if scores.rule is not None:
            # Nothing can fire there, so no budget is spent.
            in_order &= scores.rule < OperatorRule.MAINTENANCE
        facts = self._facts.get(detector)
        if facts is not None:
            watched_s = self._watched[detector].add(slots[in_order], batch.time[in_order])
            self._borne.labels(detector).inc(watched_s * facts.threshold.budget_rate)
            self._expected.labels(detector).inc(watched_s * facts.threshold.aimed_rate)
            health = self._calibration[detector]
            health.add(scores.p_value, _ordinary(scores), float(batch.time.max()))
            self._calibration_ratio.labels(detector).set(health.ratio)
        self._per_entity.take(batch, slots, scores, events, now_s)

    def incident(self, detector: str, transition: str) -> None:
        """Count an event of an incident."""
        self._incidents.labels(detector, transition).inc()

    def _ruled(self, detector: str, records: Sequence[int]) -> None:
        """Count records by ``OperatorRule``."""
        series = {
            OperatorRule.DEVIATION: self._muted.labels(detector, "deviation"),
            OperatorRule.OUT_OF_RANGE: self._out_of_range.labels(detector),
            OperatorRule.MUTED: self._muted.labels(detector, "entity"),
            OperatorRule.MAINTENANCE: self._in_maintenance.labels(detector, "maintenance"),
            OperatorRule.DEPLOY: self._in_maintenance.labels(detector, "deploy"),
        }
        for rule, child in series.items():
            child.inc(records[rule])

    def steered(self, detector: str, entities: int) -> None:
        """Set how many entities have a threshold of their own."""
        self._steered.labels(detector).set(entities)

    def absence(self, event: AbsenceEvent) -> None:
        """Count an absence that begins or ends."""
        if event.transition != "updated":
            self._absences.labels(event.input, event.kind, event.transition).inc()

    def absent(self, input: str, entities: int, firing: Sequence[AbsenceEvent]) -> None:
        """Set what is absent from an input now."""
        self._absent.labels(input).set(entities)
        before = self._absence_labels.get(input, set())
        after: set[tuple[str, str, str, str]] = {
            (event.input, event.kind, event.entity, event.severity) for event in firing
        }
        for labels in before - after:
            self._absence.remove(*labels)
        for labels in after - before:
            self._absence.labels(*labels).set(1)
        self._absence_labels[input] = after

    def forgotten(self, detector: str, slots: IntArray, entities: Sequence[str]) -> None:
        """Drop the series of these slots."""
        self._per_entity.forget(detector, slots)
        if detector in self._watched:
            self._watched[detector].forget(slots)

    def batch_done(self, input: str, records: int, seconds: float) -> None:
        """Observe a batch, and settle the outcomes of its records."""
        bad, read = self._rejected.pop(input, 0), self._polled.pop(input, 0)
        self._records.labels(input, "dead_letter").inc(bad)
        self._records.labels(input, "decoded").inc(max(read - bad, 0))
        self._batch_seconds.labels(input).observe(seconds)

    def lag(self, lag: Mapping[Source, int]) -> None:
        """Replace the lag of the assigned partitions."""
        for source in self._lag_labels - lag.keys():
            self._lag.remove(source.topic, str(source.partition))
        for source, records in lag.items():
            self._lag.labels(source.topic, str(source.partition)).set(records)
        self._lag_labels = set(lag)

    def entity_on_two_sources(self, input: str, entities: int) -> None:
        """Count entities newly seen on a second partition."""
        self._two_sources.labels(input).inc(entities)

    def assigned(self, partitions: int) -> None:
        """Set how many partitions this process owns."""
        self._partitions.set(partitions)
        self._health.assigned_partitions = partitions

    def broker(self, reachable: bool) -> None:
        """Set whether the broker answered last time."""
        self._broker.set(reachable)
        self._health.broker_reachable = reachable

    def heartbeat(self, monotonic_s: float) -> None:
        """Note that the loop is alive."""
        self._health.heartbeat(monotonic_s)


class _PerEntity(Collector):
    """What is kept in arrays and becomes series at a scrape, behind one lock."""

    def __init__(self, cap: int, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._entity_scores = EntityScores(cap)
        self._firing = FiringAlerts()
        self._delay = ColumnHistogram(
            "detector_event_delay_seconds",
            "From a record's event time to its score.",
            "detector",
            _DELAY_SECONDS,
        )
        self._score = ColumnHistogram(
            "detector_anomaly_score", "Anomaly scores; 1 is the threshold.", "detector", _SCORES
        )
        self.detectors: set[str] = set()

    def take(
        self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent], now_s: float
    ) -> None:
        detector = scores.detector
        located = ((_slot_of(event, batch, slots), event) for event in events)
        placed = [(slot, event) for slot, event in located if slot is not None]
        anomaly_score = scores.anomaly_score[scores.status == Status.SCORED]
        delay = np.maximum(now_s - batch.time, 0.0)
        monotonic_s = self._clock()
        with self._lock:
            self._delay.observe(detector, delay)
            self._score.observe(detector, anomaly_score)
            self._entity_scores.update(detector, slots, batch.entity, scores.judged, monotonic_s)
            self._firing.update(detector, placed, monotonic_s)

    def forget(self, detector: str, slots: IntArray) -> None:
        with self._lock:
            self._entity_scores.forget(detector, slots)
            self._firing.forget(detector, slots.tolist())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            now_s = self._clock()
            series, dropped = self._entity_scores.series(self._firing.slots(now_s), now_s)
            known = self._entity_scores.entities()
            families: list[Metric] = [
                *self._firing.collect(now_s),
                *self._delay.collect(),
                *self._score.collect(),
            ]
        entity_score, left_out, entities = _families()
        for (detector, entity), value in series.items():
            entity_score.add_metric([detector, entity], value)
        left_out.add_metric([], dropped)
        for detector in sorted(self.detectors | known.keys()):
            entities.add_metric([detector], known.get(detector, 0))
        yield from (*families, entity_score, left_out, entities)

    def describe(self) -> Iterable[Metric]:
        return [firing_family(), *self._delay.describe(), *self._score.describe(), *_families()]


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "detector_entity_anomaly_score",
            "Largest anomaly score of the last one to two minutes, else the last; 1 is the threshold. "
            "0 where a rule of the operator silences.",
            labels=["detector", "entity"],
        ),
        GaugeMetricFamily(
            "detector_entity_series_dropped", "Entities with a score that have no series of their own."
        ),
        GaugeMetricFamily("detector_entities", "Entities whose state is kept.", labels=["detector"]),
    )


def _ordinary(scores: Scores) -> BoolArray:
    """Return which records are in no alert, and in no maintenance window, shape (N,)."""
    if scores.rule is None:
        return ~scores.alert
    windows = (OperatorRule.MAINTENANCE, OperatorRule.DEPLOY)
    return np.asarray(~(scores.alert | np.isin(scores.rule, windows)))


def _slot_of(event: AlertEvent, batch: Batch, slots: IntArray) -> int | None:
    """Return the slot of the record that caused an event; None where the batch does not hold it."""
    for row in np.flatnonzero(batch.offset == event.last_offset).tolist():
        if batch.sources[batch.source[row]] == event.source and batch.entity[row] == event.entity:
            return int(slots[row])
    return None
