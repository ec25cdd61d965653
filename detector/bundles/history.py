"""Which versions became the champion of a detector, when and how: a file of JSON lines beside the alias.

A line is added after the alias has moved, so what it says has happened. An alias that is moved by other means
leaves none, but the next line says what it found.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

How = Literal["train", "bootstrap", "models promote", "models rollback"]

_LINES_KEPT = 1000


class Promotion(BaseModel):
    """A version that became the champion."""

    model_config = ConfigDict(frozen=True)

    time_s: float = Field(description="When, seconds since 1970.")
    version: str
    before: str | None = Field(None, description="The champion until then.")
    how: How
    overridden: tuple[str, ...] = Field((), description="What spoke against it, and was overridden.")


def read_history(path: Path) -> list[Promotion]:
    """Return the promotions in a file, oldest first; a line that is torn or damaged is left out.

    Raises:
        OSError: It is there, and cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Promotion.model_validate_json(line))
        except ValidationError:
            continue
    return found


def with_another(path: Path, promotion: Promotion) -> bytes:
    """Return what a file is to hold once there was another promotion: the newest thousand.

    Raises:
        OSError: It is there, and cannot be read.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    kept = [*lines[1 - _LINES_KEPT :], promotion.model_dump_json().encode()]
    return b"".join(line + b"\n" for line in kept)


def champion_before(history: Sequence[Promotion], champion: str) -> str | None:
    """Return which version a rollback leads to: the champion before this one; None where none is known."""
    return next(iter(champions_before(history, champion)), None)


def champions_before(history: Sequence[Promotion], champion: str) -> list[str]:
    """Return which versions rollbacks lead to, one after the other: the champions before this one.

    What was rolled back from is as if it had never been promoted, so rollbacks lead further and further back.
    """
    path: list[str] = []
    for promotion in history:
        path = _arrived(path, promotion.before)
        path = _arrived(path[:-1] if promotion.how == "models rollback" else path, promotion.version)
    return _arrived(path, champion)[:-1][::-1]


def _arrived(path: list[str], version: str | None) -> list[str]:
    return path if version is None or path[-1:] == [version] else [*path, version]
