"""Running a detector over rows, without a stream."""

import numpy as np

from detector.alerting.event import AlertEvent
from detector.batch import Batch, FloatArray, Scores
from detector.pipeline.detector import Detector
from detector.stream.watch import Watch
from tests.made import batch


def watch(detector: Detector) -> Watch:
    return Watch(detector, "telemetry", np.arange(detector.model.n_features))


def scores_of(detector: Detector, rows: FloatArray, entity: list[str] | None = None) -> Scores:
    """Score rows in one batch."""
    return outcome_of(detector, batch(rows, entity=entity))[0]


def outcome_of(detector: Detector, records: Batch) -> tuple[Scores, list[AlertEvent]]:
    return watch(detector).process(records, slots_of(records))


def slots_of(records: Batch) -> np.ndarray:
    names = sorted(set(records.entity))
    return np.array([names.index(entity) for entity in records.entity], dtype=np.int64)
