"""Alertmanager's API version 2: alerts are posted while they fire, again and again, and once they are over.

Alertmanager knows an alert by its labels alone, so posting the same one again changes nothing. It forgets
alerts when it restarts and takes silence for recovery, so what fires has to be repeated before its
``endsAt``, and what is over for a while as well. Prometheus does the same (rules/manager.go).
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from detector.batch import Source
from detector.delivery.notification import Notification, common, time_text

PATH = "/api/v2/alerts"
RESOLVED_REPEATED_S = 900.0
"""As Prometheus does: an Alertmanager that restarts within that time still tells that it is over."""
LASTS_INTERVALS = 4.0
"""A firing alert is posted as ending so many intervals ahead: a dead deliverer's alerts end then."""
ALERTS_PER_POST = 64

_encoder = msgspec.json.Encoder()


class AlertmanagerChannel:
    """What one Alertmanager is posted."""

    def __init__(self, resend_s: float) -> None:
        """Set the time between two repetitions of a firing alert."""
        self._resend_s = resend_s

    def wants(self, notification: Notification) -> bool:
        """Return True: news that wake nobody change annotations here."""
        return True

    def request(self, notification: Notification, now_s: float) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a POST.

        Args:
            notification: What to tell.
            now_s: Wall clock, seconds since 1970.
        """
        return self.request_many([notification], now_s), {}

    def request_many(self, notifications: Sequence[Notification], now_s: float) -> bytes:
        """Return the body of a POST of several alerts."""
        return _encoder.encode([self._alert(notification, now_s) for notification in notifications])

    def _alert(self, notification: Notification, now_s: float) -> dict[str, object]:
        # A start ahead of the clock, as an entity's own clock may have it, would put off the end as well.
        starts_s = min(notification.starts_at_s, now_s)
        if notification.ends_at_s is None:
            ends_s = now_s + LASTS_INTERVALS * self._resend_s
        else:
            # An end ahead of the clock would be one that is still firing.
            ends_s = min(notification.ends_at_s, now_s)
        alert = common(notification) | {
            "startsAt": time_text(starts_s),
            "endsAt": time_text(max(ends_s, starts_s)),
        }
        if not notification.generator_url:
            # An empty one is no URI, which the API refuses.
            del alert["generatorURL"]
        return alert


class Standing:
    """What an Alertmanager is to know of every set of labels, to be told again and again. Not locked."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Source, Notification, float]] = {}
        """By fingerprint; the time is when the last repetition of an end is due at the latest."""

    def tell(self, source: Source, notification: Notification, now_s: float = 0.0) -> None:
        """Remember that this is how it is.

        Args:
            source: Where its events come from.
            notification: What is repeated from now on.
            now_s: An end is repeated for a while from then on, or from when it was, whichever is later.
        """
        until_s = float("inf")
        if notification.ends_at_s is not None:
            until_s = max(notification.ends_at_s, now_s) + RESOLVED_REPEATED_S
        self._told[notification.fingerprint] = source, notification, until_s

    def forget(self, sources: Collection[Source]) -> None:
        """Leave these sources' alerts to somebody else."""
        self._told = {key: told for key, told in self._told.items() if told[0] not in sources}

    def repeated(self, now_s: float) -> list[list[Notification]]:
        """Return what to tell again now, in portions; what has been over for long is dropped."""
        self._told = {key: told for key, told in self._told.items() if now_s < told[2]}
        known = [notification for _, notification, _ in self._told.values()]
        return [known[i : i + ALERTS_PER_POST] for i in range(0, len(known), ALERTS_PER_POST)]
