"""Per-entity metrics: kept in arrays, and made into series when somebody scrapes."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detector.alerting.event import AlertEvent
from detector.batch import Batch, IntArray, Scores, Source, Status
from detector.web.entity_scores import EntityScores
from detector.web.firing import FiringAlerts, firing_family
from detector.web.histogram import ColumnHistogram

_DELAY_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21600, 86400)
_SCORES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10)


class PerEntity(Collector):
    """Scores, firing alerts, delays, behind one lock: the loop's thread writes, the web server's reads."""

    def __init__(self, cap: int, clock: Callable[[], float]) -> None:
        """Set the largest number of score series, and a monotonic clock: it decides how long series stay."""
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
        """Take one detector's answer to a batch, arguments as those of ``Observer.scored``."""
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

    def still_firing(
        self, detector: str, sources: Collection[Source], alerts: Sequence[tuple[AlertEvent, float]]
    ) -> None:
        """Set what another process told of, arguments as those of ``Observer.still_firing``."""
        with self._lock:
            self._firing.told(detector, sources, alerts, self._clock())

    def interrupted(self) -> None:
        """Keep what fires, although all entities are forgotten next."""
        with self._lock:
            self._firing.interrupted()

    def forget(self, detector: str, slots: IntArray) -> None:
        """Drop the series of these slots."""
        with self._lock:
            self._entity_scores.forget(detector, slots)
            self._firing.forget(detector, slots.tolist())

    def collect(self) -> Iterator[Metric]:
        """Yield what is known now."""
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
        """Return the same without series, for the registry to know the names."""
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


def _slot_of(event: AlertEvent, batch: Batch, slots: IntArray) -> int | None:
    """Return the slot of the record that caused an event; None where the batch does not hold it."""
    for row in np.flatnonzero(batch.offset == event.last_offset).tolist():
        if batch.sources[batch.source[row]] == event.source and batch.entity[row] == event.entity:
            return int(slots[row])
    return None
