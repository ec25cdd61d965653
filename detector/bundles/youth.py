"""How young a trained version is: what it could not learn yet, in records of an entity."""

import numpy as np

from detector.batch import IntArray
from detector.bundles.store import Bundle

# How far a single feature strays from its level changes with the season, so that few records mislead.
_ENOUGH_OF_ONE_FEATURE, _ENOUGH_OF_SEVERAL = 2000, 1000
# Entities share what they show of rare surprise; where one's own lies is its own.
_ENOUGH_OF_EACH = 300


def enough_rows(entities: int, features: int) -> int:
    """Return how many rows of so many features have to be held out of each of so many entities, on average.

    With fewer, averages of surprise are calibrated on while they are scored.
    """
    of_all = _ENOUGH_OF_ONE_FEATURE if features == 1 else _ENOUGH_OF_SEVERAL
    return max(-(-of_all // max(entities, 1)), _ENOUGH_OF_EACH)


def held_out_of_an_entity(bundle: Bundle) -> int:
    """Return how many records were held out of an entity, on average."""
    return bundle.manifest.training.calibration_records // max(len(bundle.held_out.lengths), 1)


def records_missing(bundle: Bundle) -> int:
    """Return how many held-out records of an entity a version lacks, 0 for one that has enough."""
    enough = enough_rows(len(bundle.held_out.lengths), len(bundle.manifest.features))
    return max(enough - held_out_of_an_entity(bundle), 0)


def youth(bundle: Bundle) -> str | None:
    """Return what to tell people of a version with too few held-out records, None for one with enough."""
    missing = records_missing(bundle)
    if missing == 0:
        return None
    held_out = held_out_of_an_entity(bundle)
    too_few = f"{missing} too few to know how rare large surprises are"
    known = f"{held_out} records of an entity are held out, {too_few}"
    if bundle.model.learns:
        return f"young: {known}; it goes on counting them while it scores"
    trained = bundle.manifest.training.records // max(len(bundle.held_out.lengths), 1)
    more = missing * trained // max(held_out, 1)
    return f"short of records: {known}; train again with some {more} more of each"


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
