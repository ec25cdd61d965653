"""Times for people, in UTC."""

import time


def time_text(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-11-20 15:00:00 UTC``."""
    return f"{plain_time_text(seconds)} UTC"


def plain_time_text(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-11-20 15:00:00``, for where UTC is said nearby."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
