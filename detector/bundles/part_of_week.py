"""Whether what calibrates a version is only a part of the week that it learnt: a weekend, say.

The newest records are held out. Of seven days that end on a Monday these are the weekend's, and a budget
counted in them is not kept on weekdays.
"""

import numpy as np

from detector.batch import FloatArray
from detector.bundles.store import Bundle

_DAY_S = 86400.0
_SATURDAY, _FIRST_DAY = 5, 3
"""Monday is 0; 1970 began with a Thursday."""
_FITTED, _HARDLY = 0.05, 0.3


def weekend_share(time: FloatArray) -> float:
    """Return the share of moments that are on a Saturday or Sunday, UTC.

    Args:
        time: Seconds since 1970, shape (N,), at least one.
    """
    day = (np.floor(time / _DAY_S) + _FIRST_DAY) % 7
    return float(np.mean(day >= _SATURDAY))


def part_of_week(bundle: Bundle) -> str | None:
    """Return what to tell people where hardly a weekday, or weekend, that was learnt is held out, or None."""
    fitted, held_out = bundle.manifest.training.weekend_share, weekend_share(bundle.held_out.time)
    for what, learnt, judged in (
        ("weekends", fitted, held_out),
        ("weekdays", 1 - fitted, 1 - held_out),
    ):
        # Not none at all: where it is another day than in UTC, a few hours of the other part are held out.
        if learnt > _FITTED and judged < _HARDLY * learnt:
            return (
                f"of {what} hardly a record is held out, though older ones are learnt from: the budget may "
                "not be kept then; train on whole weeks, at least two, better four"
            )
    return None
