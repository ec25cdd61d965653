"""When a silent entity counts as absent: from the gaps that it usually leaves between its records.

Gaps are measured on the clock of the stream, so that a consumer that stands still sees no silence. Of each
entity three decayed sums are kept: how many gaps, their sum, the sum of their squares. Gaps that were met
long ago count for little, so an entity that begins to send less often is known to do so after a few alerts.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import starts_of

Severity = Literal["critical", "warning", "info"]

USUAL_INTERVALS = 4.0
"""A silence of so many usual intervals is too long, whatever their spread. The fifth is for noticing it."""
SPREADS = 15.0
"""What a silence may exceed the usual interval by, in standard deviations of the gaps. Of records that come
at random (exponential gaps) so long a silence is met once in nine million; of regular ones that jitter by a
fifth it is no longer than four intervals."""
FEWEST_GAPS = 10
"""Known of an entity before its silence means anything."""
_DECAY = 1.0 - 1.0 / 64.0

SUSPECTED_AT = 0.6
"""Share of its patience after which an entity is suspected of having stopped together with one that is over:
entities that send in turns stop within one interval of each other."""
MANY = 10
"""Absent entities are one incident from so many on, where they are half of those alive; or all of them."""


@dataclass(frozen=True, slots=True)
class AbsenceRules:
    """What an operator wants to know of silence on one input."""

    after_s: float | None = None
    """Silence that is too long; None: learnt from each entity's gaps."""
    severity: Severity = "warning"
    silence_after_s: float = 60.0
    """By the wall clock, before an input from which nothing comes at all counts as silent."""
    features: bool = True
    """Whether features that vanish from an entity's records are missed, too."""


def initial_gaps(n: int) -> FloatArray:
    """Return what is known of n entities never seen, shape (n, 3)."""
    return np.zeros((n, 3))


def taught(gaps: FloatArray, gap_s: FloatArray, lengths: IntArray) -> FloatArray:
    """Return what is known after more gaps, shape (E, 3).

    Args:
        gaps: Known before, shape (E, 3).
        gap_s: New gaps, entity after entity, each entity's in order, shape (N,).
        lengths: How many of them are each entity's, shape (E,), each >= 1.
    """
    starts = starts_of(lengths)
    after = np.repeat(starts + lengths, lengths) - np.arange(1, len(gap_s) + 1)
    weight = _DECAY**after
    new = np.column_stack((weight, weight * gap_s, weight * gap_s * gap_s))
    known: FloatArray = gaps * (_DECAY**lengths)[:, None] + np.add.reduceat(new, starts, axis=0)
    return known


def usual_interval_s(gaps: FloatArray) -> FloatArray:
    """Return the mean gap of each entity, shape (E,); NaN where none is known."""
    with np.errstate(invalid="ignore"):
        interval: FloatArray = gaps[:, 1] / gaps[:, 0]
    return interval


def patience_s(gaps: FloatArray, rules: AbsenceRules) -> FloatArray:
    """Return how long each entity may be silent, shape (E,); infinite where too little is known of it."""
    if rules.after_s is not None:
        return np.full(len(gaps), rules.after_s)
    known = gaps[:, 0] >= (1.0 - _DECAY**FEWEST_GAPS) / (1.0 - _DECAY) * (1.0 - 1e-9)
    count = np.where(known, gaps[:, 0], 1.0)
    mean = gaps[:, 1] / count
    spread = np.sqrt(np.maximum(gaps[:, 2] / count - mean * mean, 0.0))
    patience = np.maximum(USUAL_INTERVALS * mean, mean + SPREADS * spread)
    return np.where(known, patience, np.inf)


def stopped_together(overdue: BoolArray, suspected: BoolArray, alive: int) -> bool:
    """Say whether entities that are overdue are part of one incident.

    Args:
        overdue: Shape (E,), silent for too long.
        suspected: Shape (E,), silent for ``SUSPECTED_AT`` of that at least, the overdue ones among them.
        alive: How many entities were sending until now.
    """
    if not overdue.any():
        return False
    stopped = int(suspected.sum())
    return stopped >= 2 and (stopped >= alive or (stopped >= MANY and 2 * stopped >= alive))
