"""When a time zone changes its offset from UTC: looked up once, so that scoring needs no files of zones."""

from datetime import UTC, datetime, tzinfo
from functools import cache

import numpy as np

from detector.config.time_zone import zone_of
from detector.models.local_time import LocalTime

_FIRST_S, _LAST_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1970, 2100))
_DAY_S = 86_400


@cache
def local_time(name: str) -> LocalTime:
    """Return the offsets of a zone from 1970 until 2100; the first and the last also hold before and after.

    Args:
        name: As in the configuration, ``Europe/Berlin``.
    """
    zone = zone_of(name)
    changes = [(_FIRST_S, _offset_s(zone, _FIRST_S))]
    for day_s in range(_FIRST_S, _LAST_S, _DAY_S):
        offset_s = _offset_s(zone, day_s + _DAY_S)
        # No zone changes twice within a day.
        if offset_s != changes[-1][1]:
            before_s, from_s = day_s, day_s + _DAY_S
            while from_s - before_s > 1:
                middle_s = (before_s + from_s) // 2
                if _offset_s(zone, middle_s) == offset_s:
                    from_s = middle_s
                else:
                    before_s = middle_s
            changes.append((from_s, offset_s))
    return LocalTime(*np.array(changes, dtype=np.float64).T)


def _offset_s(zone: tzinfo, time_s: int) -> float:
    offset = datetime.fromtimestamp(time_s, zone).utcoffset()
    return 0.0 if offset is None else offset.total_seconds()
