"""How young a trained version is: what it could not learn yet, in records of an entity."""

import numpy as np

from detector.batch import IntArray
from detector.bundles.store import Bundle

_ENOUGH_OF_ALL = 2000
# Entities share what they show of rare surprise; where one's own lies is its own.
_ENOUGH_OF_EACH = 300


def enough_rows(entities: int) -> int:
    """Return how many rows have to be held out of each of so many entities, on average.

    With fewer, averages of surprise are calibrated on while they are scored.
    """
    return max(-(-_ENOUGH_OF_ALL // max(entities, 1)), _ENOUGH_OF_EACH)


def held_out_of_an_entity(bundle: Bundle) -> int:
    """Return how many records were held out of an entity, on average."""
    return bundle.manifest.training.calibration_records // max(len(bundle.held_out.lengths), 1)


def records_missing(bundle: Bundle) -> int:
    """Return how many held-out records of an entity a young version lacks, 0 for one that is not young."""
    return max(enough_rows(len(bundle.held_out.lengths)) - held_out_of_an_entity(bundle), 0)


def youth(bundle: Bundle) -> str | None:
    """Return what to tell people of a young version, None for one that is not young."""
    missing = records_missing(bundle)
    if missing == 0:
        return None
    held_out = held_out_of_an_entity(bundle)
    known = f"young: {held_out} records of an entity are held out, {missing} too few to know how rare large "
    if bundle.model.learns:
        return f"{known}surprises are; it goes on counting them while it scores"
    trained = bundle.manifest.training.records // max(len(bundle.held_out.lengths), 1)
    return f"{known}surprises are; train again with some {missing * trained // max(held_out, 1)} more of each"


def records_of_an_entity(counts: IntArray) -> int:
    """Return how many records an entity usually has: half of all records are of entities with as many.

    Entities that come and go after a few records hardly count.

    Args:
        counts: Of each entity, shape (E,); 0 without any entity.
    """
    descending = np.sort(counts)[::-1]
    if descending.size == 0 or descending[0] == 0:
        return 0
    total = np.cumsum(descending)
    return int(descending[np.searchsorted(total, total[-1] / 2)])
