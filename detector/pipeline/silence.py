"""How long an entity has been heard of: what lasts is measured in that, and not in its silence.

Nobody knows what an entity did while it sent nothing. So a gap counts for no longer than an alert lives
without news: one suspicious record and a day of silence after it are no incident of a day.
"""

from typing import NamedTuple

import numpy as np

from detector.alerting.event import LASTS_KEEP_ALIVES
from detector.batch import FloatArray, IntArray
from detector.models.sequences import lagged, starts_of


class Heard(NamedTuple):
    """What gaps mean for n rows of E entities."""

    usual_s: FloatArray
    """Usual time between two records of the entity of each row, seconds, shape (n,)."""
    clock: FloatArray
    """Time of each row less all silence before it, seconds, shape (n,)."""
    gap_s: FloatArray
    """After the rows: the newest gap of each entity, shape (E,), NaN before its second record."""
    silence_s: FloatArray
    """After the rows: how much of the entity's gaps counts for nothing, whole seconds, shape (E,)."""


def heard(
    time: FloatArray,
    gap_s: FloatArray,
    gap_before_s: FloatArray,
    silence_before_s: FloatArray,
    interval_s: float,
    keep_alive_s: float,
    lengths: IntArray,
) -> Heard:
    """Tell silence from what was heard of entities.

    Of the last two gaps the shorter one is usual, so that neither one long nor one short one is; of all
    entities the usual interval is the least.

    Args:
        time: Seconds since 1970 UTC, shape (n,), entity after entity, each in time order.
        gap_s: Seconds since the entity's record before, shape (n,); NaN for its first ever.
        gap_before_s: Of each entity's record before these, shape (E,), as ``Heard.gap_s``.
        silence_before_s: Of each entity, shape (E,), as ``Heard.silence_s``.
        interval_s: Usual time between two records of any entity.
        keep_alive_s: How often more is told of an alert.
        lengths: Rows of each entity, shape (E,), each >= 1.
    """
    starts = starts_of(lengths)
    ends = starts + lengths - 1
    before = lagged(gap_s, gap_before_s, starts)
    usual_s = np.fmax(interval_s, np.fmin(gap_s, before))
    longest = LASTS_KEEP_ALIVES * np.fmax(max(keep_alive_s, interval_s), before)
    # In whole seconds, so that sums are exact, in whatever order they are made.
    excess = np.floor(np.fmax(0.0, gap_s - longest))
    total = np.cumsum(excess)
    silence = total - np.repeat(total[starts] - excess[starts] - silence_before_s, lengths)
    return Heard(usual_s, time - silence, gap_s[ends], silence[ends])
