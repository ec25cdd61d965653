"""How long to wait before trying again: longer each time, never in step with others."""

import math
import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with jitter. The generator is passed in, so a test can have its own."""

    first_s: float = 1.0
    longest_s: float = 30.0

    def delay_s(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after so many failures in a row (at least one): half of it by chance."""
        full_s = min(self.first_s * 2.0 ** min(failures - 1, 40), self.longest_s)
        return full_s * rng.uniform(0.5, 1.0)


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for; None where it asks for nothing readable.

    Args:
        text: A number of seconds, or an HTTP date.
        now_s: Wall clock, seconds since 1970.

    References:
        RFC 9110, section 10.2.3.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 10 else math.inf
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
