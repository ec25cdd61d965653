"""A control record: somebody announces a window of maintenance, or ends or withdraws one."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import numpy as np

from detector.alerting.entity_patterns import EntityPatterns
from detector.stream.event_time import to_seconds
from detector.stream.maintenance import Kind, Selector, Window

MAX_CONTROL_BYTES = 1 << 16
LATEST_S = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""No window ends later: a number that says so counts something else than seconds or milliseconds."""


class ControlRecordError(ValueError):
    """A record of the control topic says nothing that can be followed; it is left out."""


_Some = Annotated[list[Annotated[str, msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]


class _Selector(msgspec.Struct, forbid_unknown_fields=True):
    entities: str | _Some | None = None
    detectors: str | _Some | None = None


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    selector: _Selector
    start: datetime | int | float = msgspec.field(name="from")
    until: datetime | int | float
    kind: Kind = "maintenance"


_decoder = msgspec.json.Decoder(_Record)


def decode_window(value: bytes) -> Window:
    """Return the window that a record announces.

    An unknown key is refused: a misspelt ``entities`` would silence everybody. Times are as in records: RFC
    3339 text, without a zone UTC, or numbers.

    Raises:
        ControlRecordError: It cannot be read, ends before it begins, or is not between 1970 and ``LATEST_S``.
    """
    if len(value) > MAX_CONTROL_BYTES:
        raise ControlRecordError(f"{len(value)} bytes; a window takes at most {MAX_CONTROL_BYTES}")
    try:
        record = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ControlRecordError(
            f"{error}; write it like "
            '{"selector": {"entities": "web-*"}, "from": "2026-12-01T02:00:00Z", '
            '"until": "2026-12-01T04:00:00Z", "kind": "deploy"}'
        ) from error
    from_s, until_s = (float(to_seconds([moment])[0]) for moment in (record.start, record.until))
    if not (np.isfinite(from_s) and np.isfinite(until_s) and from_s < until_s):
        raise ControlRecordError(f"from {from_s:.0f} until {until_s:.0f} seconds since 1970 is no window")
    if from_s < 0 or until_s > LATEST_S:
        raise ControlRecordError(
            f"from {from_s:.0f} until {until_s:.0f} seconds since 1970 is not between the years 1970 and "
            "2200; write RFC 3339 text, or a number of seconds, or of milliseconds, since 1970"
        )
    entities, detectors = _several(record.selector.entities), _several(record.selector.detectors)
    selector = Selector(
        None if entities is None else EntityPatterns(entities),
        None if detectors is None else frozenset(detectors),
    )
    return Window(selector, from_s, until_s, record.kind)


def _several(names: str | list[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)
