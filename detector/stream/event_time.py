"""When a record happened: RFC 3339 text or epoch numbers to seconds since 1970, and which times are believed.

The rules, the same for every input:

- text is RFC 3339; without a zone it is UTC; fractions are kept to the microsecond;
- a number below 1e11 counts seconds (until the year 5138), one from there on milliseconds (from March 1973);
- accepted are times from 2000-01-01 until the clock plus the input's ``max_future``.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from detector.batch import BoolArray, FloatArray

MILLISECONDS_FROM = 1e11
EARLIEST_S = datetime(2000, 1, 1, tzinfo=UTC).timestamp()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = datetime | int | float | None


def to_seconds(times: Sequence[Time]) -> FloatArray:
    """Return seconds since 1970 UTC, shape (N,): NaN where there is no time, infinite where it is absurd."""
    try:
        return _scaled(np.array(times, dtype=np.float64))
    except (TypeError, OverflowError):
        pass
    try:
        # Fails on a number, on None and on a time without a zone: then one by one.
        return np.array([(time - _EPOCH).total_seconds() for time in times], dtype=np.float64)  # type: ignore[operator, union-attr]
    except (TypeError, AttributeError):
        return np.array([_one(time) for time in times], dtype=np.float64)


def believed(seconds: FloatArray, now_s: float, max_future_s: float) -> BoolArray:
    """Say which times are neither absurdly old nor ahead of the clock, shape (N,); NaN is not."""
    return (seconds >= EARLIEST_S) & (seconds <= now_s + max_future_s)


def to_datetimes(seconds: FloatArray) -> list[datetime]:
    """Return times of shape (N,) as UTC datetimes, rounded to the microsecond."""
    since: list[timedelta] = np.rint(seconds * 1e6).astype("timedelta64[us]").tolist()
    return [_EPOCH + microseconds for microseconds in since]


def _scaled(numbers: FloatArray) -> FloatArray:
    return np.where(np.abs(numbers) >= MILLISECONDS_FROM, numbers / 1e3, numbers)


def _one(time: Time) -> float:
    if time is None:
        return np.nan
    if isinstance(time, datetime):
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    try:
        return float(_scaled(np.array(time, dtype=np.float64)))
    except OverflowError:
        return np.inf
