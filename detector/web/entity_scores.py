"""One score series per entity, as many as a cap allows: arrays while records flow, series at a scrape.

The value is the largest score of the last one to two minutes, so that no peak falls between two scrapes,
and the last score of an entity that was silent for longer. Where there are more entities than series,
half of the series go to the highest scores now and the others to entities that lately were among them,
so that a series does not come and go while a rule waits for it. Entities that are firing come first.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray

GENERATION_S = 60.0
STICKY_S = 600.0


class _Track:
    """One detector's scores over slots: struct of arrays, grown as slots appear."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.known: BoolArray = np.zeros(0, dtype=bool)
        self.last: FloatArray = np.zeros(0)
        """NaN before the first score."""
        self.current: FloatArray = np.zeros(0)
        """Largest in this generation; -inf without a score."""
        self.previous: FloatArray = np.zeros(0)
        self.on_top_s: FloatArray = np.zeros(0)
        """When it was last among the highest; -inf if never."""

    def grow_to(self, n_slots: int) -> None:
        """Make room for slots 0 .. n_slots - 1."""
        more = max(n_slots, 2 * len(self.names)) - len(self.names)
        self.names += [""] * more
        self.known = np.concatenate([self.known, np.zeros(more, dtype=bool)])
        self.last = np.concatenate([self.last, np.full(more, np.nan)])
        self.current = np.concatenate([self.current, np.full(more, -np.inf)])
        self.previous = np.concatenate([self.previous, np.full(more, -np.inf)])
        self.on_top_s = np.concatenate([self.on_top_s, np.full(more, -np.inf)])


class EntityScores:
    """The scores of all detectors' entities. Not locked: its owner is."""

    def __init__(self, cap: int) -> None:
        """Set the largest number of series, of all detectors together."""
        self._cap = cap
        self._tracks: dict[str, _Track] = {}
        self._generation_start_s = -np.inf

    def update(
        self, detector: str, slots: IntArray, entities: Sequence[str], scores: FloatArray, now_s: float
    ) -> None:
        """Take a batch of one detector.

        Args:
            detector: Its name.
            slots: Shape (N,), small integers.
            entities: Length N, the name of each slot's entity.
            scores: Anomaly scores, shape (N,), NaN where there is none; a slot's later ones below.
            now_s: Of a monotonic clock.
        """
        self._turn_generation(now_s)
        if len(slots) == 0:
            return
        track = self._tracks.setdefault(detector, _Track())
        if (needed := int(slots.max()) + 1) > len(track.names):
            track.grow_to(needed)
        unknown = np.flatnonzero(~track.known[slots])
        for row in unknown.tolist():
            track.names[slots[row]] = entities[row]
        track.known[slots[unknown]] = True
        scored = ~np.isnan(scores)
        if not scored.all():
            slots, scores = slots[scored], scores[scored]
        track.last[slots] = scores
        np.maximum.at(track.current, slots, scores)

    def forget(self, detector: str, slots: IntArray) -> None:
        """Drop what is known of these slots; others may use them next."""
        track = self._tracks.get(detector)
        if track is None:
            return
        slots = slots[slots < len(track.names)]
        track.known[slots] = False
        track.last[slots] = np.nan
        track.current[slots] = track.previous[slots] = track.on_top_s[slots] = -np.inf

    def entities(self) -> dict[str, int]:
        """Return how many entities each detector knows."""
        return {detector: int(track.known.sum()) for detector, track in self._tracks.items()}

    def series(
        self, firing: Mapping[str, AbstractSet[int]], now_s: float
    ) -> tuple[dict[tuple[str, str], float], int]:
        """Choose the entities that have a series.

        Args:
            firing: Slots that are firing, by detector.
            now_s: Of the clock that ``update`` was given.

        Returns:
            Score by (detector, entity), and how many entities with a score were left out.
        """
        self._turn_generation(now_s)
        detectors = list(self._tracks)
        tracks = [self._tracks[detector] for detector in detectors]
        if not tracks:
            return {}, 0
        sizes = [len(track.names) for track in tracks]
        # fmax: a slot without a score in these minutes shows its last one, one without any stays NaN.
        value = np.concatenate([np.fmax(t.last, np.maximum(t.current, t.previous)) for t in tracks])
        on_top_s = np.concatenate([t.on_top_s for t in tracks])
        pinned = np.zeros(len(value), dtype=bool)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for index, detector in enumerate(detectors):
            slots = [slot for slot in firing.get(detector, ()) if slot < sizes[index]]
            pinned[starts[index] + np.array(slots, dtype=np.int64)] = True
        has_score = np.concatenate([np.isfinite(t.last) for t in tracks])
        chosen, top = _chosen(
            np.where(has_score, value, -np.inf), has_score, pinned, on_top_s, self._cap, now_s
        )
        result: dict[tuple[str, str], float] = {}
        owner = np.searchsorted(starts, chosen, side="right") - 1
        for index, position in zip(owner.tolist(), chosen.tolist(), strict=True):
            key = detectors[index], tracks[index].names[position - int(starts[index])]
            # An entity on two partitions has two slots and one series.
            result[key] = max(result.get(key, -np.inf), float(value[position]))
        for index, track in enumerate(tracks):
            mine = top[(top >= starts[index]) & (top < starts[index + 1])] - starts[index]
            track.on_top_s[mine] = now_s
        return result, int(has_score.sum()) - len(chosen)

    def _turn_generation(self, now_s: float) -> None:
        age_s = now_s - self._generation_start_s
        if age_s < GENERATION_S:
            return
        for track in self._tracks.values():
            track.previous = (
                track.current if age_s < 2 * GENERATION_S else np.full_like(track.current, -np.inf)
            )
            track.current = np.full_like(track.current, -np.inf)
        self._generation_start_s = now_s


def _chosen(
    value: FloatArray, has_score: BoolArray, pinned: BoolArray, on_top_s: FloatArray, cap: int, now_s: float
) -> tuple[IntArray, IntArray]:
    """Return the positions that have a series, and those of them that are among the highest now."""
    candidates = np.flatnonzero(has_score)
    if len(candidates) <= cap:
        return candidates, candidates
    n_highest = cap // 2
    by_value = np.argpartition(value[candidates], len(candidates) - 1 - n_highest)
    highest = candidates[by_value[len(candidates) - n_highest :]]
    rank = np.zeros(len(value))
    lately = now_s - on_top_s[candidates] < STICKY_S
    # One key orders all: firing, then the highest, then those lately among them, then by score.
    rank[candidates] = lately * 1.0
    rank[highest] = 2.0
    rank[pinned & has_score] = 3.0
    order = np.lexsort((-value[candidates], -rank[candidates]))
    return candidates[order[:cap]], highest
