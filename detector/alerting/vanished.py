"""When a feature that an entity's records used to have is gone from them: too many in a row to be chance.

Of each entity and feature two numbers are kept: the decayed share of records that had it, up to the last one
that did, and how many came since. Were it missing as now and then before, a run of r records without it would
have probability (1 - share)^r: so a sparse feature may be missing for long, and one that always came is
missed soon. Shares begin at 0, so that a feature has to come for some time before it is missed at all.
"""

from typing import NamedTuple

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import starts_of

FEWEST_RECORDS = 5
"""In a row without the feature, even where it was never missing before."""
NATS = 20.0
"""A run less probable than exp(-20) is no chance; of a feature that half of the records have, 29 in a row."""
SUSPECTED_AT = 0.6
"""Share of such a run from which on a feature may have vanished together with that of other entities."""
_DECAY = 1.0 - 1.0 / 64.0
_LARGEST_SHARE = 1.0 - 1e-6


class Presence(NamedTuple):
    """What is known of D features of E entities."""

    share: FloatArray
    """Shape (E, D)."""
    run: IntArray
    """Records since the last one that had the feature, shape (E, D)."""
    began: IntArray
    """Which record of this call began the run, shape (E, D); -1 where it began before, or there is none."""


def after_records(share: FloatArray, run: IntArray, present: BoolArray, lengths: IntArray) -> Presence:
    """Return what is known after N more records.

    Args:
        share: Known before, shape (E, D).
        run: Known before, shape (E, D).
        present: Which features each record has, shape (N, D), entity after entity, each entity's in order.
        lengths: Records of each entity, shape (E,), each >= 1.
    """
    counts = lengths[:, None]
    if present.all():
        kept = _DECAY ** (run + counts)
        return Presence(share * kept + (1.0 - _DECAY**counts), np.zeros_like(run), np.full_like(run, -1))
    starts = starts_of(lengths)
    position = np.arange(len(present)) - np.repeat(starts, lengths)
    last = np.maximum.reduceat(np.where(present, position[:, None], -1), starts, axis=0)
    ago = np.repeat(last, lengths, axis=0) - position[:, None]
    weight = np.where(present & (ago >= 0), (1.0 - _DECAY) * _DECAY ** np.maximum(ago, 0), 0.0)
    came = last >= 0
    known = share * _DECAY ** (run + last + 1) + np.add.reduceat(weight, starts, axis=0)
    after = np.where(came, counts - 1 - last, run + counts)
    began = np.where((after > 0) & (came | (run == 0)), starts[:, None] + last + 1, -1)
    return Presence(np.where(came, known, share), after, began)


def vanished(share: FloatArray, run: IntArray, part: float = 1.0) -> BoolArray:
    """Return which features have vanished, or have gone ``part`` of the way there; any shape."""
    nats = -run * np.log1p(-np.minimum(share, _LARGEST_SHARE))
    gone: BoolArray = (run >= part * FEWEST_RECORDS) & (nats >= part * NATS)
    return gone
