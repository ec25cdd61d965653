"""Metrics of detectors: which bundle scores, what it said of records, whether budget and p-values hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from detector.alerting.budget import Threshold
from detector.alerting.event import AlertEvent, Transition
from detector.batch import Batch, BoolArray, IntArray, OperatorRule, Scores, Status
from detector.web.calibration_health import CalibrationHealth
from detector.web.watched_time import WatchedTime

_DAY_S = 86400.0


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


class DetectorMetrics:
    """One label ``detector`` on everything. The loop's thread writes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register every metric."""
        self._facts: dict[str, DetectorFacts] = {}
        self._watched: dict[str, WatchedTime] = {}
        self._calibration: dict[str, CalibrationHealth] = {}

        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(name, documentation, labels, registry=registry)

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
        self._stuck = counter(
            "detector_records_stuck_total",
            "Records with a value that has stayed the same for too long.",
            "detector",
        )
        self._in_maintenance = counter(
            "detector_records_in_maintenance_total",
            "Records inside a window in which nothing fires and nothing is learnt.",
            "detector",
            "kind",
        )
        self._alerts = counter(
            "detector_alerts_total", "Alert events, by what happened.", "detector", "transition"
        )
        self._reopened = counter(
            "detector_alerts_reopened_total",
            "Alerts that fired again within the cooldown; they are among those that fired.",
            "detector",
        )
        self._refused = counter(
            "detector_versions_refused_total",
            "Champions that cannot be used, or are gone from the store; again with every attempt.",
            "detector",
        )
        self._incidents = counter(
            "detector_incidents_total",
            "Incidents, in which many entities fire together, that began, changed or resolved.",
            "detector",
            "transition",
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
        self._threshold = gauge(
            "detector_p_value_threshold", "A record with a p-value at most this is suspicious.", "detector"
        )
        self._steered = gauge(
            "detector_steered_entities",
            "Entities with a threshold of their own: they are louder, or calmer, than the budget bears.",
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

    def loaded(self, facts: DetectorFacts) -> None:
        """Export a detector's model, threshold and budget; again when another version takes over."""
        old = self._facts.get(facts.name)
        if old is not None:
            self._model.remove(old.name, old.family, old.predictor, old.version, old.role)
        self._facts[facts.name] = facts
        self._model.labels(facts.name, facts.family, facts.predictor, facts.version, facts.role).set(1)
        self._trained.labels(facts.name).set(facts.trained_time_s)
        self._threshold.labels(facts.name).set(facts.threshold.p_value)
        self._young.labels(facts.name).set(facts.young_records_missing)
        # Entities are the same ones under another version.
        self._watched.setdefault(facts.name, WatchedTime(facts.interval_s)).interval_s = facts.interval_s
        self._calibration[facts.name] = CalibrationHealth(facts.threshold.p_value)
        self._calibration_ratio.labels(facts.name).set(np.nan)
        self._budget.labels(facts.name).set(facts.threshold.budget_rate * _DAY_S)
        self._aim.labels(facts.name).set(facts.threshold.aimed_rate * _DAY_S)
        self._borne.labels(facts.name)
        self._expected.labels(facts.name)
        for transition in get_args(Transition):
            self._alerts.labels(facts.name, transition)
            self._incidents.labels(facts.name, transition)
        self._reopened.labels(facts.name)
        self._refused.labels(facts.name)

    def version_refused(self, detector: str) -> None:
        """Count a version that cannot be used."""
        self._refused.labels(detector).inc()

    def scored(self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent]) -> None:
        """Take one detector's answer to a batch of N >= 1 records; ``slots`` has shape (N,)."""
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

    def _ruled(self, detector: str, records: Sequence[int]) -> None:
        """Count records by ``OperatorRule``."""
        series = {
            OperatorRule.DEVIATION: self._muted.labels(detector, "deviation"),
            OperatorRule.STUCK: self._stuck.labels(detector),
            OperatorRule.OUT_OF_RANGE: self._out_of_range.labels(detector),
            OperatorRule.MUTED: self._muted.labels(detector, "entity"),
            OperatorRule.MAINTENANCE: self._in_maintenance.labels(detector, "maintenance"),
            OperatorRule.DEPLOY: self._in_maintenance.labels(detector, "deploy"),
        }
        for rule, child in series.items():
            child.inc(records[rule])

    def incident(self, detector: str, transition: str) -> None:
        """Count an event of an incident."""
        self._incidents.labels(detector, transition).inc()

    def steered(self, detector: str, entities: int) -> None:
        """Set how many entities have a threshold of their own."""
        self._steered.labels(detector).set(entities)

    def forgotten(self, detector: str, slots: IntArray) -> None:
        """Watch the entities of these slots no longer."""
        if detector in self._watched:
            self._watched[detector].forget(slots)


def _ordinary(scores: Scores) -> BoolArray:
    """Return which records are in no alert, and in no maintenance window, shape (N,)."""
    if scores.rule is None:
        return ~scores.alert
    windows = (OperatorRule.MAINTENANCE, OperatorRule.DEPLOY)
    return np.asarray(~(scores.alert | np.isin(scores.rule, windows)))
