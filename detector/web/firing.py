"""Which entities are firing: 1 while they do, 0 for some minutes after, then no series at all.

An alert of which nothing more is heard ends when it expires, as it does for those who read its events: an
entity that falls silent while it fires would fire for ever.
"""

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from detector.alerting.event import AlertEvent
from detector.batch import Source

RESOLVED_STAYS_S = 300.0
"""A scrape interval is shorter, so every scraper sees the 0."""


@dataclass(slots=True)
class _Episode:
    source: Source
    entity: str
    severity: str
    fires_until_s: float
    gone_at_s: float
    """When the series vanishes."""


class FiringAlerts:
    """Episodes by detector and slot. The cap on series does not count here. Not locked: its owner is."""

    def __init__(self) -> None:
        self._episodes: dict[str, dict[int, _Episode]] = {}
        self._told: dict[str, dict[tuple[Source, str], _Episode]] = {}
        """Of entities that have no slot, yet or any more; dropped with the first event of their own."""

    def update(self, detector: str, events: Sequence[tuple[int, AlertEvent]], now_s: float) -> None:
        """Take the events of a batch, each with its entity's slot, in order.

        Where the severity of an alert rises, the series of the old one vanishes at once.
        """
        episodes = self._episodes.setdefault(detector, {})
        told = self._told.get(detector, {})
        for slot, event in events:
            told.pop((event.source, event.entity), None)
            # How long, not when: records may lag behind the clock, and their alerts are no less alive.
            lasts_s = 0.0 if event.expires_at is None else event.expires_at - event.time
            until_s = now_s + lasts_s
            episodes[slot] = _episode(event, until_s)

    def told(
        self,
        detector: str,
        sources: Collection[Source],
        alerts: Sequence[tuple[AlertEvent, float]],
        now_s: float,
    ) -> None:
        """Replace what another process told of entities of these partitions, each with its seconds left."""
        others = self._told.get(detector, {}).items()
        told = {key: episode for key, episode in others if key[0] not in sources}
        for event, left_s in alerts:
            until_s = now_s + left_s
            told[event.source, event.entity] = _episode(event, until_s)
        self._told[detector] = told

    def interrupted(self) -> None:
        """Keep all series although the slots are forgotten: their partitions may come back."""
        for detector, episodes in self._episodes.items():
            told = self._told.setdefault(detector, {})
            told |= {(episode.source, episode.entity): episode for episode in episodes.values()}
            episodes.clear()

    def forget(self, detector: str, slots: Sequence[int]) -> None:
        """Drop the series of these slots, firing or not: somebody else watches their entities now."""
        episodes = self._episodes.get(detector, {})
        for slot in slots if episodes else ():
            episodes.pop(slot, None)

    def slots(self, now_s: float) -> dict[str, AbstractSet[int]]:
        """Return the slots that are firing, by detector."""
        return {
            detector: {slot for slot, episode in episodes.items() if now_s < episode.fires_until_s}
            for detector, episodes in self._episodes.items()
        }

    def collect(self, now_s: float) -> Iterator[GaugeMetricFamily]:
        """Yield the metric family."""
        value: dict[tuple[str, str, str], int] = {}
        all_episodes: list[tuple[str, dict[Any, _Episode]]] = [*self._episodes.items(), *self._told.items()]
        for detector, episodes in all_episodes:
            for place, episode in list(episodes.items()):
                if now_s >= episode.gone_at_s:
                    del episodes[place]
                    continue
                key = detector, episode.entity, episode.severity
                # An entity on two partitions has two episodes and one series.
                value[key] = max(value.get(key, 0), int(now_s < episode.fires_until_s))
        family = firing_family()
        for (detector, entity, severity), firing in value.items():
            family.add_metric([detector, entity, severity], firing)
        yield family


def _episode(event: AlertEvent, until_s: float) -> _Episode:
    return _Episode(event.source, event.entity, event.severity, until_s, until_s + RESOLVED_STAYS_S)


def firing_family() -> GaugeMetricFamily:
    """Return the family without samples."""
    return GaugeMetricFamily(
        "detector_alert_firing",
        "Whether an alert of the entity is firing (1) or resolved lately (0).",
        labels=["detector", "entity", "severity"],
    )
