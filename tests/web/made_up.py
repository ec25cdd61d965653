"""Made-up batches and answers, as the loop would report them."""

from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.budget import Threshold
from detector.alerting.event import AlertEvent, Transition, alert_id, event_id
from detector.batch import Batch, IntArray, Scores, Source, Status
from detector.stream.reasons import Reason
from detector.web.detector_metrics import DetectorFacts
from detector.web.health import Health
from detector.web.metrics import Metrics
from detector.web.notify_metrics import NotifyMetrics

SOURCE = Source("telemetry", 0)
LASTS_S = 3600.0
"""How long an alert of these fires of which nothing more is heard."""

FACTS = DetectorFacts(
    name="hosts",
    family="gmm",
    predictor="autoregressive",
    version="20261120T140000Z-3f9a",
    role="champion",
    trained_time_s=1.7e9,
    interval_s=60.0,
    threshold=Threshold(p_value=1e-4, budget_rate=1 / 86400, aimed_rate=0.7 / 86400, smallest_rate=1e-7),
    young_records_missing=0,
)


def batch_of(
    entities: Sequence[str], time_s: float = 1.8e9, first_offset: int = 0, source: Source = SOURCE
) -> Batch:
    """One record of each entity, in order."""
    n = len(entities)
    return Batch(
        input="telegraf",
        feature_names=("cpu",),
        sources=(source,),
        source=np.zeros(n, dtype=np.int64),
        offset=np.arange(first_offset, first_offset + n, dtype=np.int64),
        entity=list(entities),
        time=np.full(n, time_s),
        values=np.zeros((n, 1)),
    )


def scores_of(
    anomaly_scores: Sequence[float], status: Status = Status.SCORED, detector: str = "hosts"
) -> Scores:
    """What a detector says of a batch; NaN scores are warming up."""
    score = np.asarray(anomaly_scores, dtype=np.float64)
    statuses = np.where(np.isnan(score), Status.WARMING_UP, status).astype(np.int8)
    return Scores(
        detector=detector,
        role="champion",
        version="20261120T140000Z-3f9a",
        status=statuses,
        log_likelihood=-score,
        p_value=np.exp(-score * 9.2),
        anomaly_score=score,
        exceeds_threshold=score >= 1,
        alert=score >= 1,
    )


def event_of(
    entity: str,
    transition: Transition,
    offset: int,
    source: Source = SOURCE,
    *,
    severity: str = "warning",
    reopened: int = 0,
) -> AlertEvent:
    """An event of an alert, caused by one record."""
    episode = alert_id(source, 0, "hosts", entity)
    return AlertEvent(
        id=event_id(episode, transition, offset),
        alert_id=episode,
        transition=transition,
        detector="hosts",
        role="champion",
        version="20261120T140000Z-3f9a",
        entity=entity,
        severity=severity,
        reopened=reopened,
        time=1.8e9,
        expires_at=None if transition == "resolved" else 1.8e9 + LASTS_S,
        start=1.8e9,
        peak=1.8e9,
        end=None,
        last_suspicious=1.8e9,
        records=1,
        surprise_nats=20.0,
        p_value=1e-9,
        anomaly_score=2.0,
        log_likelihood=-30.0,
        return_period_s=1e9,
        side="unlikely",
        member="gmm on none",
        explained=1.8e9,
        reasons=(),
        regime=None,
        labels={},
        updated_because=None,
        resolved_because=None,
        source=source,
        first_offset=offset,
        last_offset=offset,
    )


def absence_of(entity: str) -> AbsenceEvent:
    """That an entity is absent."""
    return AbsenceEvent(
        kind="absence",
        alert_id=f"absence of {entity}",
        transition="firing",
        input="telegraf",
        entity=entity,
        entities=(entity,),
        absent=1,
        alive=12,
        features=(),
        severity="warning",
        time=1.8e9,
        told=0,
        start=1.8e9 - 300.0,
        end=None,
        usual_interval_s=60.0,
        labels={"team": "shop"},
        resolved_because=None,
        source=SOURCE,
        offset=7,
    )


def slots_of(*slots: int) -> IntArray:
    """Slots as the loop hands them over."""
    return np.array(slots, dtype=np.int64)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def everything_reported(entities: Sequence[str]) -> CollectorRegistry:
    """A registry after the loop made each of its reports once, these entities firing."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, Health())
    metrics.detector_loaded(FACTS)
    metrics.growing("hosts", 100, 400, "")
    metrics.polled("telegraf", 10)
    metrics.lost("telegraf", 3)
    for reason in Reason:
        metrics.rejected("telegraf", reason, 1)
    metrics.missing("telegraf", {"cpu": 3, "memory": 0})
    events = [event_of(entity, "firing", offset) for offset, entity in enumerate(entities)]
    slots = np.arange(len(entities))
    metrics.scored(batch_of(entities), slots, scores_of([2.0] * len(entities)), events, 1.8e9)
    metrics.batch_done("telegraf", 10, 0.02)
    metrics.lag({SOURCE: 7})
    metrics.entity_on_two_sources("telegraf", 1)
    for entity in entities:
        metrics.absence(absence_of(entity))
    metrics.absent("telegraf", len(entities), [absence_of(entity) for entity in entities])
    metrics.not_recalled(0)
    metrics.refused("telegraf.alerts")
    metrics.assigned(1)
    metrics.broker(True)
    return registry


def every_delivery_reported() -> CollectorRegistry:
    """A registry after the deliverer made each of its reports once."""
    registry = CollectorRegistry()
    metrics = NotifyMetrics(registry, Health())
    metrics.receiver_added("am", "am:9093")
    metrics.read("notified")
    metrics.expired()
    metrics.attempted("am", "am:9093", "delivered")
    metrics.finished("am", "am:9093", "delivered")
    metrics.waiting("am", "am:9093", 2, 7.0)
    metrics.open_episodes(1)
    metrics.lag({SOURCE: 7})
    metrics.assigned(1)
    metrics.broker(True)
    return registry
