"""A second, slower look at a record that the typed decoder refused: missing after all, or bad, and why."""

import json
from datetime import datetime
from typing import Any, Literal

import msgspec

from detector.stream.reasons import Reason
from detector.stream.record_struct import Path


def second_look(
    value: bytes, struct: type[msgspec.Struct], time: Path | Literal["@timestamp"], error: Exception
) -> Any:
    """Return the record after all, where only a bare NaN was wrong; otherwise (reason, what was found).

    Infinities come through, to be rejected like every value that is not finite.

    Args:
        value: The bytes of the record.
        struct: What the schema reads.
        time: Where its time is.
        error: What the typed decoder said.
    """
    try:
        found = json.loads(value.decode(), parse_constant=_constant, parse_int=_integer)
        # Lone surrogates pass this parser, but could never be written again.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as cause:
        return Reason.MALFORMED_JSON, str(cause if isinstance(cause, UnicodeError) else error)
    if not isinstance(found, dict):
        return Reason.NOT_AN_OBJECT, str(error)
    try:
        return msgspec.convert(found, struct)
    except msgspec.ValidationError as mismatch:
        if time != "@timestamp" and _is_unreadable_time(found, time):
            return Reason.NO_TIME, f"the time is not RFC 3339: {mismatch}"
        return Reason.WRONG_TYPE, str(mismatch)


def _is_unreadable_time(found: Any, time: Path) -> bool:
    for key in time:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str):
        return False
    try:
        msgspec.convert(found, datetime)
    except msgspec.ValidationError:
        return True
    return False


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _integer(digits: str) -> int | float:
    # Longer ones fit no double, and Python refuses to read those beyond 4,300 digits.
    return int(digits) if len(digits) <= 310 else float("-inf" if digits.startswith("-") else "inf")
