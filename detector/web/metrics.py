"""All metrics of the daemon in one object: what the loop reports, counted once per batch, from arrays."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from detector import __version__
from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.batch import Batch, IntArray, Scores, Source
from detector.web.consumer_metrics import ConsumerMetrics
from detector.web.detector_metrics import DetectorFacts, DetectorMetrics
from detector.web.health import Health
from detector.web.per_entity import PerEntity

_BATCH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


TRAINING_OUTCOMES = ("trained", "too_few_records", "failed")
"""What becomes of a job that bootstrapping starts."""


class Metrics(ConsumerMetrics):
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
        self._polled: Tally[str] = Tally()
        self._rejected: Tally[str] = Tally()
        self._absence_labels: dict[str, set[tuple[str, str, str, str]]] = {}

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

        super().__init__(
            health,
            lag=gauge(
                "detector_consumer_lag_records", "Records behind the high watermark.", "topic", "partition"
            ),
            partitions=gauge("detector_assigned_partitions", "Partitions that this process owns."),
            broker=gauge(
                "detector_broker_reachable", "Whether the broker answers and takes what is written."
            ),
        )
        self._records = counter(
            "detector_records_total", "Records read, by what became of them.", "input", "outcome"
        )
        self._lost = counter(
            "detector_records_lost_total",
            "Records removed before they were read, or unreadable.",
            "input",
        )
        self._dead_letters = counter(
            "detector_dead_letters_total", "Records that could not be read, by reason.", "input", "reason"
        )
        self._refused = counter(
            "detector_outputs_refused_total",
            "Records that an output topic refused for their size; alerts are dead letters then.",
            "topic",
        )
        self._missing = counter(
            "detector_missing_values_total", "Features that decoded records did not have.", "input", "feature"
        )
        self._two_sources = counter(
            "detector_entities_on_two_partitions_total",
            "Entities found on a second partition, where the order of their records is not defined.",
            "input",
        )
        self._control_records = counter(
            "detector_control_records_total",
            "Records of the control topic, by what became of them; not those from long before the start.",
            "outcome",
        )
        # From 0 on, or the first one refused would be no increase.
        for outcome in ("window", "withdrawn", "refused"):
            self._control_records.labels(outcome)
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
        self._not_recalled = gauge(
            "detector_partitions_not_recalled",
            "Partitions of which it is not known what alerts are open: the alerts topic cannot be read.",
        )
        self._batch_seconds = Histogram(
            "detector_batch_duration_seconds",
            "From poll to commit.",
            ["input"],
            buckets=_BATCH_SECONDS,
            registry=registry,
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
        self._detectors = DetectorMetrics(registry)
        self._per_entity = PerEntity(entity_series, clock)
        registry.register(self._per_entity)

    def input_added(self, input: str, reasons: Iterable[str]) -> None:
        """Let an input's counters begin at 0: the first one of each is an increase, and silence a rate of 0.

        Args:
            input: Its name.
            reasons: Those of dead letters.
        """
        for outcome in ("decoded", "dead_letter"):
            self._records.labels(input, outcome)
        for reason in reasons:
            self._dead_letters.labels(input, str(reason))
        self._two_sources.labels(input)
        self._lost.labels(input)

    def output_added(self, topic: str) -> None:
        """Let the counter of a topic that is written to begin at 0."""
        self._refused.labels(topic)

    def detector_loaded(self, facts: DetectorFacts) -> None:
        """Export a detector's model, threshold and budget; again when another version takes over."""
        self._detectors.loaded(facts)
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

    def version_refused(self, detector: str) -> None:
        """Count a version that became the champion and cannot be used."""
        self._detectors.version_refused(detector)

    def control_record(self, outcome: str) -> None:
        """Count a record of the control topic; may be called from any thread."""
        self._control_records.labels(outcome).inc()

    # --- the loop's observer ------------------------------------------------------------------

    def polled(self, input: str, records: int) -> None:
        """Count records read, good and bad; their outcome follows with ``batch_done``."""
        self._polled[input] += records

    def lost(self, input: str, records: int) -> None:
        """Count records that the broker removed before they were read."""
        self._lost.labels(input).inc(records)

    def rejected(self, input: str, reason: str, records: int) -> None:
        """Count dead letters."""
        self._rejected[input] += records
        self._dead_letters.labels(input, str(reason)).inc(records)

    def refused(self, topic: str) -> None:
        """Count a record that an output topic refused for its size."""
        self._refused.labels(topic).inc()

    def missing(self, input: str, missing_per_feature: Mapping[str, int]) -> None:
        """Count missing values."""
        for feature, count in missing_per_feature.items():
            self._missing.labels(input, feature).inc(count)

    def scored(
        self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent], now_s: float
    ) -> None:
        """Take one detector's answer to a batch of N records; ``slots`` has shape (N,)."""
        if len(batch):
            self._detectors.scored(batch, slots, scores, events)
            self._per_entity.take(batch, slots, scores, events, now_s)

    def still_firing(
        self, detector: str, sources: Collection[Source], alerts: Sequence[tuple[AlertEvent, float]]
    ) -> None:
        """Set what fires of entities of these partitions that sent nothing yet."""
        self._per_entity.still_firing(detector, sources, alerts)

    def not_recalled(self, partitions: int, problem: str = "") -> None:
        """Set of how many partitions it is not known what alerts are open, and why."""
        self._not_recalled.set(partitions)
        note = f"open alerts of {partitions} partitions are not known, and may be raised anew: {problem}"
        self._health.note("outputs.alerts_topic", note if partitions else "")

    def interrupted(self) -> None:
        """Keep what fires, although all entities are forgotten next."""
        self._per_entity.interrupted()

    def incident(self, detector: str, transition: str) -> None:
        """Count an event of an incident."""
        self._detectors.incident(detector, transition)

    def steered(self, detector: str, entities: int) -> None:
        """Set how many entities have a threshold of their own."""
        self._detectors.steered(detector, entities)

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
        self._detectors.forgotten(detector, slots)

    def batch_done(self, input: str, records: int, seconds: float) -> None:
        """Observe a batch, and settle the outcomes of its records."""
        bad, read = self._rejected.pop(input, 0), self._polled.pop(input, 0)
        self._records.labels(input, "dead_letter").inc(bad)
        self._records.labels(input, "decoded").inc(max(read - bad, 0))
        self._batch_seconds.labels(input).observe(seconds)

    def entity_on_two_sources(self, input: str, entities: int) -> None:
        """Count entities newly seen on a second partition."""
        self._two_sources.labels(input).inc(entities)
