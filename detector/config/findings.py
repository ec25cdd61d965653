"""Pydantic's findings in our words: the key, the value, and what to write instead."""

from datetime import datetime
from pathlib import Path
from typing import get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, BeforeValidator, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from detector.config.problem import KeyPath, Problem, shown, shown_misshapen, shown_unknown, suggestion
from detector.config.root import Config
from detector.config.section import Section, parse_duration


def problems_found(error: ValidationError) -> list[Problem]:
    """Return one problem per finding of validating a ``Config``."""
    # A list whose entries are all bad is not short, though pydantic says so too.
    found = error.errors(include_url=False)
    return [
        _problem(details) for details in found if not (details["type"] == "too_short" and details["input"])
    ]


def _problem(error: ErrorDetails) -> Problem:
    """Translate one of pydantic's findings into key, value, and what to write instead."""
    key: KeyPath = tuple(error["loc"])
    kind, value = error["type"], shown(error["loc"], error["input"])
    field = _field_at(key)
    if kind == "extra_forbidden":
        section = _section_at(key[:-1])
        known = [f.alias or name for name, f in section.model_fields.items()] if section else []
        value = shown_unknown(key, error["input"])
        return Problem(key, f"unknown key (value {value}); {suggestion(str(key[-1]), known)}")
    if kind == "missing":
        return Problem(key, f"is missing; add it: {field}" if field else "is missing; add it")
    if kind == "literal_error":
        choices = [c.strip(" '") for c in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        close = suggestion(str(error["input"]), choices)
        known_ones = "" if "one of" in close else f"; known are {', '.join(choices)}"
        return Problem(key, f"{value} is not known; {close}{known_ones}")
    if kind == "value_error":
        message = str(error["ctx"]["error"])
        whole = isinstance(error["input"], dict | list | tuple | BaseModel)
        return Problem(key, message if whole or message.startswith("'") else f"{value} {message}")
    message = error["msg"][0].lower() + error["msg"][1:]
    shape = _SHAPES.get(kind)
    if shape is not None:
        value = shown_misshapen(key, error["input"])
        is_what = f"{value}: {message}" if kind == "too_short" else f"{value} is not {shape}"
        return Problem(key, f"{is_what}; write {_example_of(key) or field}")
    instead = _example_of(key) or _accepted_at(key)
    return Problem(key, f"{value}: {message}" + (f"; write {instead}" if instead else ""))


_SHAPES = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "a list with entries",
}
"""Pydantic's words for a value that has another shape than what belongs there, and ours."""
_KINDS: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    SecretStr: "text",
    Path: "a path",
    datetime: "a time like 2026-11-20T15:00:00Z",
}
"""What a field takes, in words."""


def _section_at(key: KeyPath) -> type[Section] | None:
    """Return the model that a key path leads to."""
    section: type[Section] | None = Config
    for part in key:
        if isinstance(part, int) or section is None:
            continue
        named = {f.alias or name: f for name, f in section.model_fields.items()}
        section = _model_in(named[part].annotation) if part in named else None
    return section


def _model_in(annotation: object) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _field_at(key: KeyPath) -> str:
    """Return the description of the field that a key path ends in, with an example where there is one."""
    _, field = _named_field(key)
    if field is None:
        return ""
    example = f" For example {field.examples[0]}." if field.examples else ""
    return f"{field.description or ''}{example}".strip()


def _example_of(key: KeyPath) -> str:
    """Return the field that a key path ends in, as a file could have it, whole; empty without an example."""
    name, field = _named_field(key)
    return f"{name}: {field.examples[0]}" if field is not None and field.examples else ""


def _accepted_at(key: KeyPath) -> str:
    """Return what the field that a key path ends in takes, with its range; empty where none is known."""
    _, field = _named_field(key)
    if field is None:
        return ""
    types = [get_origin(part) or part for part in (field.annotation, *get_args(field.annotation))]
    kind, unit = next((_KINDS[part] for part in types if part in _KINDS), ""), ""
    if any(isinstance(item, BeforeValidator) and item.func is parse_duration for item in field.metadata):
        kind, unit = "a duration", "s"
    above = [item.gt for item in field.metadata if isinstance(item, Gt)]
    least = [item.ge for item in field.metadata if isinstance(item, Ge)]
    most = [item.le for item in field.metadata if isinstance(item, Le)]
    if least and most:
        return f"{kind} from {least[0]}{unit} to {most[0]}{unit}"
    limits = [f"above {limit}{unit}" for limit in above]
    limits += [f"of at least {limit}{unit}" for limit in least]
    limits += [f"of at most {limit}{unit}" for limit in most]
    return " ".join([kind, " and ".join(limits)]).strip()


def _named_field(key: KeyPath) -> tuple[str, FieldInfo | None]:
    """Return name and field that a key path ends in; of an entry of a list, the list's."""
    names = [part for part in key if isinstance(part, str)]
    section = _section_at(tuple(names[:-1])) if names else None
    for name, field in section.model_fields.items() if section else ():
        if names[-1] == (field.alias or name):
            return names[-1], field
    return "", None
