"""Names and labels as text: what producers write as text, number or boolean, in one form."""

import math
from typing import Any


def entity_texts(values: list[Any]) -> list[str]:
    """Return names, "" where there is none."""
    if set(map(type, values)) <= {str}:
        return values
    return [value if isinstance(value, str) else _number_text(value) or "" for value in values]


def label_texts(values: list[Any]) -> list[str | None]:
    """Return texts, None where there is none."""
    if set(map(type, values)) <= {str, type(None)}:
        return values
    return [value if isinstance(value, str) else _number_text(value) for value in values]


def category_text(value: Any) -> str | None:
    """Return the text that a value of a categorical feature counts as, None where it is missing.

    Of a number that is whole there is one text, however it was written: 200 and 200.0 are "200".
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) else _number_text(value)
    return text or None


def _number_text(value: Any) -> str | None:
    """Return a number or a boolean as JSON writes it; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return repr(value) if isinstance(value, float) and math.isfinite(value) else None


def key_texts(keys: list[bytes | None]) -> list[str]:
    """Return Kafka keys as names, "" for one that is absent or not UTF-8."""
    try:
        return [key.decode() for key in keys]  # type: ignore[union-attr]
    except (AttributeError, UnicodeDecodeError):
        return [_key_text(key) for key in keys]


def _key_text(key: bytes | None) -> str:
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return ""
