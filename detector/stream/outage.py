"""How long Kafka has been failing: logged once, then rarely, and asked less and less often."""

import logging
from collections.abc import Callable

from detector.stream.port import KafkaClientError

FIRST_BACK_OFF_S = 0.25
LONGEST_BACK_OFF_S = 10.0
REMIND_AFTER_S = 60.0
"""While an outage lasts it is logged this often."""

_log = logging.getLogger(__name__)


class Outage:
    """From the first failure to the first turn that works."""

    def __init__(self, clock: Callable[[], float], consequence: str = "") -> None:
        """Args:
        clock: Monotonic seconds.
        consequence: What else it means, for the log.
        """
        self._clock = clock
        self._consequence = consequence
        self._failures = 0
        self._began_s = 0.0
        self._logged_s = 0.0
        self._logged = ""

    @property
    def lasts(self) -> bool:
        return self._failures > 0

    def failed(self, error: KafkaClientError) -> None:
        """Count a failure, and log it when it is new or lasts."""
        now = self._clock()
        if not self._failures:
            self._began_s = now
        self._failures += 1
        kind = type(error).__name__
        if self._failures == 1 or kind != self._logged or now - self._logged_s > REMIND_AFTER_S:
            _log.warning(
                "Kafka fails (%s): %s. Not ready; retrying until it works, from the committed offsets%s",
                kind,
                error,
                self._consequence,
            )
            self._logged_s, self._logged = now, kind
        else:
            _log.debug("Kafka still fails: %s", error)

    def over(self) -> None:
        """Note a turn that worked."""
        if self._failures:
            _log.info("Kafka works again after %.1f s", self._clock() - self._began_s)
            self._failures = 0

    def back_off_s(self) -> float:
        """Return how long to wait before the next attempt."""
        return min(FIRST_BACK_OFF_S * 2.0 ** (min(self._failures, 20) - 1), LONGEST_BACK_OFF_S)
