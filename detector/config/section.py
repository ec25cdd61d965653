"""What all sections share: unknown keys refused, values frozen, durations with a unit."""

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_settings import NoDecode

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)"
_DURATION = re.compile(f"(?:{_PART})+")
DURATION_PATTERN = f"^({_PART})+$"
"""A duration in a JSON Schema."""


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def parse_duration(value: object) -> float:
    """Return the seconds of ``30s``, ``15m``, ``1h30m``, ``7d``; units are ms, s, m, h, d and w.

    Raises:
        ValueError: No unit, not a duration, or not above zero.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"has no unit; write it like {value}s, or with ms, m, h, d or w")
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError("is not a duration; write it like 30s, 15m, 1h30m or 7d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, value))
    if not 0 < seconds < math.inf:
        raise ValueError("must be longer than nothing; write it like 30s, 15m or 7d")
    return seconds


def duration_text(seconds: float) -> str:
    """Return a duration in its largest whole unit: ``7d``, ``90m``, ``0.5s``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def one_or_several(value: object) -> object:
    """Return a text as a list of one."""
    return [value] if isinstance(value, str) else value


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def split_path(value: object) -> object:
    """Return a field path as a tuple: ``a.b`` is b inside a; a list is taken as it is."""
    if isinstance(value, str):
        if not value or any(not part for part in value.split(".")):
            raise ValueError("is not a field path; write it like 'cpu' or 'system.cpu'")
        return tuple(value.split("."))
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) and part for part in value):
        return tuple(value)
    raise ValueError("is not a field path; write it like 'cpu', 'system.cpu' or [system, 'cpu.total']")


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


_LIST_OF_TEXT = {"type": "array", "items": {"type": "string"}}

Duration = Annotated[float, BeforeValidator(parse_duration), _schema(type="string", pattern=DURATION_PATTERN)]
"""Seconds; written with a unit."""

FieldPath = Annotated[
    tuple[str, ...], BeforeValidator(split_path), _schema(anyOf=[{"type": "string"}, _LIST_OF_TEXT])
]
"""Where in a record: the names of nested objects, outermost first."""

Names = Annotated[
    tuple[str, ...], BeforeValidator(one_or_several), _schema(anyOf=[{"type": "string"}, _LIST_OF_TEXT])
]
"""One name or several."""

CommaSeparated = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_comma_separated),
    _schema(anyOf=[{"type": "string"}, _LIST_OF_TEXT]),
]
"""A list, or text with commas, as an environment variable holds it."""
