"""What is wrong with a configuration: every problem at once, each with a remedy."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]

# A value under a key with one of these words in it never reaches a message.
_SECRET_WORDS = ("password", "passwd", "passphrase", "pwd", "secret", "token", "credential", "jaas")
_SECRET_SECTIONS = ("security", "notify", "web")
"""Where these stand; what is unknown there may be one of them, mistyped."""
# Nor does a text that has one of these in it: ``password=...``, ``user:password@host``.
_SECRET_TEXT = re.compile(r"(password|passwd|secret|token|key)\s*=|:[^@\s]+@", re.IGNORECASE)


class ConfigError(Exception):
    """The configuration cannot be used. Its text lists every problem; nothing was started."""

    def __init__(self, file: str, problems: Iterable["Problem"]) -> None:
        self.file = file
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"{file}: {count}", *(f"  {p}" for p in self.problems)]))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change in a configuration."""

    key: KeyPath
    """Where: section names and list positions; empty for the file as a whole."""
    message: str
    """What is wrong, with which value, and what to write instead."""
    line: int | None = None
    """In the file, from 1; None where the key is absent or came from the environment."""

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line is not None else []
        place += [written(self.key)] if self.key else []
        return ": ".join([", ".join(place), self.message]) if place else self.message


def written(key: KeyPath) -> str:
    """Return a key path as people write it: ``detectors[0].alerting.budget``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(key: KeyPath, value: object) -> str:
    """Return a value for a message: short, on one line, and never a secret."""
    if holds_secret(key):
        return "(hidden)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and _SECRET_TEXT.search(value):
        return "(hidden)"
    # As YAML has it.
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown_unknown(key: KeyPath, value: object) -> str:
    """Return the value of a key that nothing is known of: it may be a secret under a mistyped name."""
    near_secrets = any(part in _SECRET_SECTIONS for part in key[:-1])
    words = re.split(r"[_.-]", str(key[-1]).lower())
    resembles = any(difflib.get_close_matches(word, _SECRET_WORDS, n=1, cutoff=0.7) for word in words)
    return "hidden" if near_secrets or resembles else shown(key, value)


def holds_secret(key: KeyPath) -> bool:
    """Return whether a value at a key path is a secret, going by its words."""
    return any(word in str(part).lower() for part in key for word in _SECRET_WORDS)


def shown_misshapen(key: KeyPath, value: object) -> str:
    """Return what stands where a mapping or a list belongs: all of a login may be in one text."""
    hidden = isinstance(value, str) and ("webhooks" in key or key[-1] in _SECRET_SECTIONS)
    return "(hidden)" if hidden else shown(key, value)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"write {close[0]!r}"
    return f"write one of: {', '.join(names)}" if names else "remove it"
