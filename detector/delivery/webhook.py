"""Webhooks: Alertmanager's body, which receivers exist for everywhere, signed as Standard Webhooks says."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

import msgspec

from detector.delivery.notification import Notification, common, time_text

_NEVER = "0001-01-01T00:00:00Z"
"""Alertmanager's end of an alert that has none."""

_encoder = msgspec.json.Encoder()


class WebhookChannel:
    """What one webhook is posted: one event a request, with an id that stays the same over retries."""

    def __init__(self, receiver: str, external_url: str, keys: Sequence[bytes]) -> None:
        """Args:
        receiver: Its name, told in the body.
        external_url: Where people look next, told in the body; may be empty.
        keys: Of the signatures, each made with one of them; none leave the request unsigned.
        """
        self._receiver, self._external_url, self._keys = receiver, external_url, tuple(keys)

    def wants(self, notification: Notification) -> bool:
        """Say whether to send it at all: what wakes nobody is not sent."""
        return not notification.quiet

    def request(self, notification: Notification, now_s: float) -> tuple[bytes, Mapping[str, str]]:
        """Return body and headers of a POST.

        Args:
            notification: What to tell.
            now_s: Wall clock, seconds since 1970; receivers refuse old ones.
        """
        body = self._body(notification)
        headers = {"webhook-id": notification.id, "webhook-timestamp": str(int(now_s))}
        if self._keys:
            headers["webhook-signature"] = " ".join(
                signature(key, notification.id, int(now_s), body) for key in self._keys
            )
        return body, headers

    def _body(self, notification: Notification) -> bytes:
        labels, annotations = dict(notification.labels), dict(notification.annotations)
        ends_s = notification.ends_at_s
        alert = {
            "status": notification.status,
            **common(notification),
            "endsAt": _NEVER if ends_s is None else time_text(ends_s),
            "fingerprint": notification.fingerprint,
        }
        group = ", ".join(f'{name}="{_quoted(text)}"' for name, text in sorted(labels.items()))
        return _encoder.encode(
            {
                "version": "4",
                "groupKey": f"{{}}:{{{group}}}",
                "truncatedAlerts": 0,
                "status": notification.status,
                "receiver": self._receiver,
                "groupLabels": labels,
                "commonLabels": labels,
                "commonAnnotations": annotations,
                "externalURL": self._external_url,
                "alerts": [alert],
            }
        )


def signature(key: bytes, id: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature: HMAC-SHA256 of id, time and body, joined by dots.

    References:
        Standard Webhooks 1.0, "Symmetric" signature scheme.
    """
    signed = b"%b.%d.%b" % (id.encode(), timestamp_s, body)
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
