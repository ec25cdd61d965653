"""Which loud records led up to another, for committees that average surprise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.batch import BoolArray, IntArray
from detector.models.sequences import starts_of
from detector.pipeline.reasons import Explainer
from detector.scoring.lead_up import LED_UP, Loud


@dataclass(frozen=True, slots=True)
class Leads:
    """The loud records before others, for committees that average surprise.

    A record is loud that is not calm and does not fire. What led up to a record are the loud ones directly
    before it, no more than ``LED_UP``, be they of this batch or of one before.
    """

    explainer: Explainer
    members: list[int]
    """Those that average."""
    before: NDArray[np.object_]
    """Of each entity, as in ``EntityState``."""
    with_scores: IntArray
    """Entities that have scored rows."""
    lengths: IntArray
    """Their scored rows."""
    position: IntArray
    """Of each of the M scored rows among the rows."""
    loud: BoolArray
    """Shape (M,)."""

    def after(self) -> NDArray[np.object_]:
        """Return what led up to the records of the next batch; the last that rows may be asked for."""
        if not self.members:
            return self.before
        last = starts_of(self.lengths) + self.lengths - 1
        led_up = self.before.copy()
        led_up[self.with_scores] = None
        for i in np.flatnonzero(self.loud[last]).tolist():
            led_up[self.with_scores[i]] = self.up_to(int(last[i]) + 1, i)
        return led_up

    def up_to(self, at: int, i: int) -> tuple[Loud, ...]:
        """Return what led up to scored row ``at`` of the i-th entity with scores."""
        if not self.members:
            return ()
        start, first = int(self.lengths[:i].sum()), at
        while first > start and at - first < LED_UP and self.loud[first - 1]:
            first -= 1
        of_batch = [self.explainer.loud(int(self.position[row]), self.members) for row in range(first, at)]
        earlier = (self.before[self.with_scores[i]] or ()) if first == start else ()
        return (*earlier, *of_batch)[-LED_UP:]
