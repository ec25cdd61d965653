"""The newest of the records that are read for training, so that memory does not grow with what there is."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.batch import Batch, IntArray, Source
from detector.models.sequences import rows_of_each

_ROOM = 1.5
"""Times what is kept in the end, before older records are dropped."""


class NewestRecords:
    """Takes batches of one input, and keeps the newest records of each entity: so many of all at most.

    Entities with few records keep them all, the others keep equally many, at least one.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._batches: list[Batch] = []
        self._held = 0
        self._number: dict[str, int] = {}
        """Of each entity, in the order in which they came."""
        self._seen: list[int] = []
        """Records of each that came, by its number."""

    @property
    def seen(self) -> int:
        """How many records came."""
        return sum(self._seen)

    def add(self, batch: Batch) -> None:
        """Take further records, in any order."""
        if len(batch) == 0:
            return
        for entity in batch.entity:
            number = self._number.setdefault(entity, len(self._number))
            if number == len(self._seen):
                self._seen.append(0)
            self._seen[number] += 1
        self._batches.append(batch)
        self._held += len(batch)
        if self._held > _ROOM * self._most:
            self._drop_older()

    def batch(self) -> Batch:
        """Return what is kept, in the order in which it came; of nothing there is no batch.

        Raises:
            ValueError: No record came.
        """
        if self._held > self._most:
            self._drop_older()
        return concatenated(self._batches)

    def _drop_older(self) -> None:
        held = concatenated(self._batches)
        names = list(self._number)
        number = np.fromiter(map(self._number.__getitem__, held.entity), np.int64, len(held))
        each = _most_each(np.array(self._seen, dtype=np.int64), self._most)
        kept = np.zeros(len(held), dtype=np.bool_)
        by_time = np.argsort(held.time, kind="stable")
        for rows in rows_of_each(number[by_time], len(names)):
            kept[by_time[rows[-each:]]] = True
        # Every record came with a text of its own for its entity.
        shared = [names[i] for i in number.tolist()]
        self._batches = [replace(held, entity=shared).take(kept)]
        self._held = len(self._batches[0])


def _most_each(records: IntArray, most: float) -> int:
    """Return how many records each entity keeps at most, if all of them keep so many; at least 1."""
    fewest_first = np.sort(records)
    keep_all = np.concatenate(([0], np.cumsum(fewest_first)[:-1]))
    # If the fewest keep all that they have, the others share the rest.
    share = (most - keep_all) // np.arange(len(records), 0, -1)
    unequal = np.flatnonzero(fewest_first > share)
    return max(1, int(share[unequal[0]])) if unequal.size else int(fewest_first[-1])


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of one input, in order, as one batch."""
    sources: dict[Source, int] = {}
    for batch in batches:
        for source in batch.sources:
            sources.setdefault(source, len(sources))
    renumbered = [
        np.array([sources[source] for source in batch.sources], dtype=np.int64)[batch.source]
        for batch in batches
    ]
    # Successive batches of one codec share most of their texts, or all.
    texts = {id(batch.category_texts): batch.category_texts for batch in batches}
    return Batch(
        input=batches[0].input,
        feature_names=batches[0].feature_names,
        sources=tuple(sources),
        source=np.concatenate(renumbered),
        offset=np.concatenate([batch.offset for batch in batches]),
        entity=[entity for batch in batches for entity in batch.entity],
        time=np.concatenate([batch.time for batch in batches]),
        values=np.concatenate([batch.values for batch in batches]),
        labels={
            name: [text for batch in batches for text in batch.labels[name]] for name in batches[0].labels
        },
        category_texts={code: text for each in texts.values() for code, text in each.items()},
    )
