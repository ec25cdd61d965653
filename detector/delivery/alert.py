"""An alert event as the deliverer reads it back from the alerts topic."""

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec

from detector.alerting.absence_event import Kind
from detector.alerting.event import Transition
from detector.batch import Source
from detector.stream.port import Header

Time = Annotated[datetime, msgspec.Meta(tz=True)]

ABSENCES: tuple[str, ...] = get_args(Kind)
"""Kinds of alerts about what no longer comes."""

MAX_ALERT_BYTES = 1 << 20

# Ids become HTTP headers: nothing but these characters may be in one.
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class UnreadableAlertError(ValueError):
    """A record of the alerts topic is no alert event; its neighbours are unaffected."""


class Stuck(msgspec.Struct, frozen=True):
    """A value that has stayed the same for too long; see ``alerting.event.Stuck``."""

    since: Time
    for_s: float
    after_s: float


class Frequency(msgspec.Struct, frozen=True):
    """How often a value came of late; see ``alerting.event.Frequency``."""

    of: Literal["share", "mean"]
    actual: float
    expected: float
    records: int
    value: str | float | None = None


class Reason(msgspec.Struct, frozen=True):
    """One feature's part in an alert; see ``alerting.event.FeatureReason``."""

    feature: str
    actual: float | str | None = None
    expected: float | str | None = None
    std: float | None = None
    nats: float | None = None
    unit: str | None = None
    valid_range: tuple[float | None, float | None] | None = None
    stuck: Stuck | None = None
    frequency: Frequency | None = None


class Member(msgspec.Struct, frozen=True):
    """An entity's part in an incident."""

    entity: str
    alert_id: str = ""
    feature: str | None = None
    anomaly_score: float | None = None
    firing: bool | None = None


class Shared(msgspec.Struct, frozen=True):
    """A feature that surprised most in so many entities of an incident."""

    feature: str
    entities: int


class Origin(msgspec.Struct, frozen=True):
    """Where an episode's records are."""

    topic: str
    partition: int
    first_offset: int | None = None
    last_offset: int | None = None


class Regime(msgspec.Struct, frozen=True):
    """What the model takes for the cause, in words."""

    text: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says, as far as people are told of it; unknown fields are ignored."""

    kind: str = "anomaly"
    """``incident``: of many entities together; then ``entity`` is empty. One of ``ABSENCES``: something no
    longer comes; then ``detector`` is empty."""
    alert_id: str
    """The same for all events of one episode, or incident."""
    state: Transition
    detector: str
    input: str = ""
    """From which something is absent."""
    role: str = "champion"
    version: str = ""
    entity: str = ""
    severity: str
    labels: dict[str, str] = {}
    time: Time
    """Event time of the record that caused the event."""
    start: Time
    end: Time | None = None
    last_suspicious: Time | None = None
    records: int = 0
    anomaly_score: float | None = None
    return_period: str = ""
    side: str = "unlikely"
    member: str = ""
    """To which member of the committee the peak was most improbable."""
    reasons: tuple[Reason, ...] = ()
    regime: Regime | None = None
    reopened: int = 0
    """How often it fired again soon after it had resolved."""
    incident_id: str | None = None
    """Of what incident it is a part."""
    entities: int = 0
    """How many are in an incident, or absent."""
    alive: int = 0
    """Of how many they are absent."""
    usual_interval_s: float | None = None
    resolved_because: str | None = None
    members: tuple[Member, ...] = ()
    """The first of them."""
    features: tuple[Shared, ...] = ()
    origin: Origin | None = None
    expires_at: Time | None = None
    """When to take the episode for over unless more is heard of it, on the clock of ``time``."""

    def __post_init__(self) -> None:
        """Refuse an alert about nobody, or of no severity."""
        if not self.entity and self.kind != "incident":
            raise ValueError("there is no entity")
        if not self.severity:
            raise ValueError("there is no severity")


class AlertRecord(NamedTuple):
    """A record of the alerts topic as it came, for its dead letter."""

    source: Source
    offset: int
    key: bytes | None
    value: bytes
    headers: Sequence[Header]


_decoder = msgspec.json.Decoder(Alert)


def decode_alert(value: bytes) -> Alert:
    """Return what a record says.

    Raises:
        UnreadableAlertError: It is no alert event, or absurdly large.
    """
    if len(value) > MAX_ALERT_BYTES:
        raise UnreadableAlertError(f"{len(value)} bytes; an alert has at most {MAX_ALERT_BYTES}")
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableAlertError(str(error)) from error
    except RecursionError as error:
        raise UnreadableAlertError("nested too deeply") from error


def event_id(alert: Alert, headers: Sequence[Header]) -> str:
    """Return the event's own id, the same after a redelivery: ``ce_id``, or what it can be told by."""
    given = next((value for name, value in headers if name == "ce_id"), b"").decode(errors="replace")
    identity = given or f"{alert.alert_id}-{alert.state}"
    return identity if _PLAIN_ID.fullmatch(identity) else str(uuid.uuid5(uuid.NAMESPACE_URL, identity))
