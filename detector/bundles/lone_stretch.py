"""Whether what a version takes for rare was a single stretch of its held-out records: an incident, perhaps.

Held-out records are taken for normal. An incident among them is what is rarest in them, so that nothing
weaker than it is news: the version is deaf, and only its records can tell.
"""

from datetime import UTC, datetime

import numpy as np

from detector.alerting.budget import HeldOut

_RAREST, _FEWEST = 0.02, 36
_MOST_OF_THEM, _SHORT = 0.8, 0.2


def lone_stretch(held_out: HeldOut) -> str | None:
    """Return what to tell people where a fifth of the records holds four in five of the rarest, or None."""
    p_value, lengths = held_out.p_value, held_out.lengths
    rarest = np.flatnonzero(p_value <= np.quantile(p_value, _RAREST))
    if rarest.size < _FEWEST:
        return None
    entity = np.repeat(np.arange(len(lengths)), lengths)[rarest]
    most = int(np.ceil(_MOST_OF_THEM * rarest.size)) - 1
    span = rarest[most:] - rarest[: rarest.size - most] + 1
    span = np.where(entity[most:] == entity[: rarest.size - most], span, p_value.size)
    first = int(np.argmin(span))
    if span[first] > _SHORT * p_value.size:
        return None
    rows = rarest[first], rarest[first + most]
    begin, end = (
        datetime.fromtimestamp(float(held_out.time[row]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for row in rows
    )
    return (
        f"one stretch, {begin} to {end}, has {_MOST_OF_THEM:.0%} of the rarest held-out records: if "
        "that was an incident, label it or leave it out, or only what is worse will be news"
    )
