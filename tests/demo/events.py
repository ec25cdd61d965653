"""Alert events and score records as the daemon writes them."""

from dataclasses import replace

import numpy as np

from detector.alerting.event import AlertEvent, FeatureReason, alert_id, event_id
from detector.batch import Batch, Scores, Source, Status
from detector.models.contract import Regime
from detector.stream.alert_record import encode_alert
from detector.stream.score_record import encode_scores

TOPIC = "demo.telemetry"


def alert_values(
    start: float, end: float, entity: str = "omi-1", detector: str = "gmm", anomaly_score: float = 2.0
) -> tuple[bytes, bytes]:
    """Return an episode's firing and its resolved event; it fires 300 s after its start."""
    source = Source(TOPIC, 1)
    alert = alert_id(source, int(start), detector, entity)
    firing = AlertEvent(
        id=event_id(alert, "firing", int(start) + 1),
        alert_id=alert,
        transition="firing",
        detector=detector,
        role="champion",
        version="v1",
        entity=entity,
        severity="warning",
        reopened=0,
        expires_at=None,
        time=start + 300.0,
        start=start,
        peak=start,
        end=None,
        last_suspicious=start + 300.0,
        records=2,
        surprise_nats=20.0,
        p_value=1e-5,
        anomaly_score=anomaly_score,
        log_likelihood=-50.0,
        return_period_s=23 * 86400.0,
        side="unlikely",
        member="gmm on none",
        explained=start,
        reasons=(FeatureReason("f07", 0.97, 0.31, 0.06, 40.0), FeatureReason("f02", None, 0.5, 0.1, 2.0)),
        regime=Regime("component", 1, 0.9),
        labels={},
        updated_because=None,
        resolved_because=None,
        source=source,
        first_offset=int(start),
        last_offset=int(start) + 1,
    )
    resolved = replace(
        firing,
        id=event_id(alert, "resolved", int(end) + 2),
        transition="resolved",
        time=end + 1500.0,
        end=end,
        reasons=(),
        regime=None,
    )
    return encode_alert(firing, "demo").value, encode_alert(resolved, "demo").value


def score_values(
    detector: str, offsets: range, topic: str = TOPIC, partition: int = 0, status: Status = Status.SCORED
) -> list[bytes]:
    """Return one detector's scores of a range of offsets of one partition."""
    n = len(offsets)
    batch = Batch(
        input="servers",
        feature_names=("f01",),
        sources=(Source(topic, partition),),
        source=np.zeros(n, dtype=np.int64),
        offset=np.array(offsets, dtype=np.int64),
        entity=["omi-1"] * n,
        time=np.linspace(0.0, 300.0, n),
        values=np.zeros((n, 1)),
    )
    score = np.full(n, 0.5 if status is Status.SCORED else np.nan)
    flags = np.zeros(n, dtype=bool)
    codes = np.full(n, status, dtype=np.int8)
    return encode_scores(batch, Scores(detector, "champion", "v1", codes, score, score, score, flags, flags))
