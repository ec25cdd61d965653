"""What a receiver is told: that an episode fires, or that it is over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from detector.delivery.alert import ABSENCES, Alert

Status = Literal["firing", "resolved"]

ALERT_NAME = "DetectorAnomaly"
INCIDENT_NAME = "DetectorIncident"
ABSENCE_NAME = "DetectorAbsence"
_NAMES = {"incident": INCIDENT_NAME} | dict.fromkeys(ABSENCES, ABSENCE_NAME)
_NOT_IN_LABEL_NAMES = re.compile(r"[^A-Za-z0-9_]")
_FIRST_S = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST_S = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell. Times are seconds since 1970 UTC."""

    id: str
    """The same whenever the same thing is told again."""
    status: Status
    labels: Mapping[str, str]
    """What the alert is told by: stable for a whole episode, and few."""
    annotations: Mapping[str, str]
    """What people read; ``summary`` and ``description`` among them."""
    starts_at_s: float
    ends_at_s: float | None
    """None while firing."""
    generator_url: str = ""
    quiet: bool = False
    """Known to be firing already, and nothing that should wake anybody changed."""

    @property
    def fingerprint(self) -> str:
        """What Alertmanager calls the set of labels."""
        return fingerprint(self.labels)


def labels_of(alert: Alert) -> dict[str, str]:
    """Return the labels that an alert is told by.

    Carried labels get names that Prometheus takes (``tags.region`` becomes ``tags_region``); the names of our
    own win over them, and a label without a value is none. An incident has no entity, but the partition on
    which it began: each has one reader, so incidents of two replicas are two alerts, and few labels exist.
    So it is with an absence of many. An absence has its input, and the features that vanished, if any.
    """
    carried = {_label_name(name): text for name, text in sorted(alert.labels.items(), reverse=True)}
    own = {
        "alertname": _NAMES.get(alert.kind, ALERT_NAME),
        "detector": alert.detector,
        "entity": alert.entity,
        "severity": alert.severity,
    }
    if alert.kind in ABSENCES:
        own |= {"input": alert.input, "feature": ", ".join(shared.feature for shared in alert.features)}
    if (alert.kind == "incident" or alert.entity == "*") and alert.origin is not None:
        own["partition"] = f"{alert.origin.topic}/{alert.origin.partition}"
    return {name: text for name, text in sorted((carried | own).items()) if text}


def _label_name(name: str) -> str:
    plain = _NOT_IN_LABEL_NAMES.sub("_", name) or "_"
    return f"_{plain}" if plain[0].isdigit() else plain


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Alertmanager's fingerprint of a set of labels: 64-bit FNV-1a over names and values.

    References:
        prometheus/common, model/signature.go: names in order, each text followed by the byte 255.
    """
    state = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in b"%b\xff%b\xff" % (name.encode(), labels[name].encode()):
            state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def generator_url(template: str, alert: Alert) -> str:
    """Fill ``{entity}``, ``{detector}`` and ``{alert_id}`` into a link, quoted."""
    for name in ("entity", "detector", "alert_id"):
        template = template.replace(f"{{{name}}}", quote(getattr(alert, name), safe=""))
    return template


def time_text(seconds: float) -> str:
    """Return RFC 3339 text of seconds since 1970, of the years 1 to 9999 at most."""
    seconds = min(max(seconds, _FIRST_S), _LAST_S)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def common(notification: Notification) -> dict[str, Any]:
    """Return the fields that Alertmanager's API and its webhook have in common."""
    return {
        "labels": dict(notification.labels),
        "annotations": dict(notification.annotations),
        "startsAt": time_text(notification.starts_at_s),
        "generatorURL": notification.generator_url,
    }
