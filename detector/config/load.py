"""From a file and the environment to a valid ``Config``, or to the list of everything wrong with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from detector.config.detectors import DetectorConfig
from detector.config.inputs import InputConfig
from detector.config.kafka import KafkaConfig
from detector.config.outputs import OutputsConfig
from detector.config.problem import ConfigError, KeyPath, Problem, shown, suggestion
from detector.config.root import Config, cross_check
from detector.config.section import Section
from detector.config.yaml_file import read_config_file

ENV_PREFIX = "DETECTOR__"
_S = TypeVar("_S", bound=Section)


class _Environment(BaseSettings, Config):
    """``DETECTOR__SECTION__KEY`` variables, read as the sections they override."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid")


def load_config(path: Path | str) -> Config:
    """Read, complete and check a configuration; nothing is connected to.

    A variable such as ``DETECTOR__KAFKA__CLIENT=confluent`` beats the file, and the file beats the
    defaults.

    Raises:
        ConfigError: Anything is wrong; its text lists every problem with key, value and remedy.
    """
    path = Path(path)
    file = read_config_file(path, os.environ)
    overrides, problems = _from_environment()
    data = _merged(file.data, overrides)
    config: Config | None = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems += [_problem(details) for details in error.errors(include_url=False)]
    problems += _cross_problems(data)
    if problems or config is None:
        raise ConfigError(str(path), [_with_line(p, file.lines, overrides) for p in problems])
    return config


def _from_environment() -> tuple[dict[str, Any], list[Problem]]:
    problems = []
    for name in sorted(os.environ):
        section = name[len(ENV_PREFIX) :].partition("__")[0].lower()
        if name.upper().startswith(ENV_PREFIX) and section not in Config.model_fields:
            message = (
                f"environment variable {name} names no section; {suggestion(section, Config.model_fields)}"
            )
            problems.append(Problem((), message))
    try:
        return EnvSettingsSource(_Environment)(), problems
    except SettingsError as error:
        message = f"environment variable {ENV_PREFIX}...: {error}; write lists and mappings there as JSON"
        return {}, [*problems, Problem((), message)]


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, section by section; where they differ, the value above."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _cross_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Check what lies between sections, as far as the sections themselves are valid."""
    raw_inputs = data.get("inputs")
    names = [e.get("name") for e in raw_inputs if isinstance(e, dict)] if isinstance(raw_inputs, list) else []
    return cross_check(
        inputs=_valid_entries(InputConfig, raw_inputs),
        detectors=_valid_entries(DetectorConfig, data.get("detectors")),
        known_inputs=[name for name in names if isinstance(name, str)],
        kafka=_valid(KafkaConfig, data.get("kafka", {})),
        outputs=_valid(OutputsConfig, data.get("outputs", {})),
    )


def _valid_entries(section: type[_S], raw: object) -> list[tuple[int, _S]]:
    entries = raw if isinstance(raw, list) else []
    checked = ((i, _valid(section, entry)) for i, entry in enumerate(entries))
    return [(i, entry) for i, entry in checked if entry is not None]


def _valid(section: type[_S], raw: object) -> _S | None:
    try:
        return section.model_validate(raw)
    except ValidationError:
        return None


def _problem(error: ErrorDetails) -> Problem:
    """Translate one of pydantic's findings into key, value, and what to write instead."""
    key: KeyPath = tuple(error["loc"])
    kind, value = error["type"], shown(error["loc"], error["input"])
    field = _field_at(key)
    if kind == "extra_forbidden":
        section = _section_at(key[:-1])
        known = [f.alias or name for name, f in section.model_fields.items()] if section else []
        return Problem(key, f"unknown key (value {value}); {suggestion(str(key[-1]), known)}")
    if kind == "missing":
        return Problem(key, f"is missing; add it: {field}" if field else "is missing; add it")
    if kind == "literal_error":
        choices = [c.strip(" '") for c in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        wanted = f"known are {', '.join(choices)}"
        close = suggestion(error["input"], choices) if isinstance(error["input"], str) else ""
        return Problem(
            key, f"{value} is not known; {close if close.startswith('write') else wanted} ({wanted})"
        )
    if kind == "value_error":
        message = str(error["ctx"]["error"])
        whole = isinstance(error["input"], dict | list | tuple | BaseModel)
        return Problem(key, message if whole or message.startswith("'") else f"{value} {message}")
    message = error["msg"][0].lower() + error["msg"][1:]
    return Problem(key, f"{value}: {message}; write: {field}" if field else f"{value}: {message}")


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
    names = [part for part in key if isinstance(part, str)]
    section = _section_at(tuple(names[:-1])) if names else None
    for name, field in section.model_fields.items() if section else ():
        if names[-1] == (field.alias or name):
            example = f" For example {field.examples[0]}." if field.examples else ""
            return f"{field.description or ''}{example}".strip()
    return ""


def _with_line(problem: Problem, lines: Mapping[KeyPath, int], overrides: Mapping[str, Any]) -> Problem:
    """Add the line of the key, or of the nearest section around it that is in the file."""
    node: Any = overrides
    for part in problem.key:
        node = node.get(part) if isinstance(node, dict) else None
    if not problem.key or node is not None:
        return problem
    for end in range(len(problem.key), 0, -1):
        if problem.key[:end] in lines:
            return Problem(problem.key, problem.message, lines[problem.key[:end]])
    return problem
