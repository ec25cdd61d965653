"""From a file and the environment to a valid ``Config``, or to the list of everything wrong with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from detector.config.detectors import DetectorConfig
from detector.config.files import WITHOUT_SECRETS
from detector.config.findings import problems_found
from detector.config.inputs import InputConfig
from detector.config.kafka import KafkaConfig
from detector.config.maintenance import ControlConfig, MaintenanceConfig
from detector.config.notify import NotifyConfig
from detector.config.outputs import OutputsConfig, WebConfig
from detector.config.problem import ConfigError, KeyPath, Problem, suggestion
from detector.config.root import Config, cross_check
from detector.config.section import Section
from detector.config.yaml_file import read_config_file

ENV_PREFIX = "DETECTOR__"
_S = TypeVar("_S", bound=Section)


class _Environment(BaseSettings, Config):
    """``DETECTOR__SECTION__KEY`` variables, read as the sections they override."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid")


def load_config(path: Path | str, *, without_secrets: bool = False) -> Config:
    """Read, complete and check a configuration; nothing is connected to.

    A variable such as ``DETECTOR__KAFKA__CLIENT=confluent`` beats the file, and the file beats the
    defaults.

    Args:
        path: The file.
        without_secrets: Neither secrets nor certificates are read, nor have variables that name them to be
            set: for a check where they are not.

    Raises:
        ConfigError: Anything is wrong; its text lists every problem with key, value and remedy.
    """
    path = Path(path)
    context = {WITHOUT_SECRETS: without_secrets}
    file = read_config_file(path, os.environ, without_secrets=without_secrets)
    overrides, problems = _from_environment()
    data = _merged(file.data, overrides)
    config: Config | None = None
    try:
        config = Config.model_validate(data, context=context)
    except ValidationError as error:
        problems += problems_found(error)
    problems += _cross_problems(data, context)
    if problems or config is None:
        located = [_with_line(problem, file.lines, overrides) for problem in problems]
        raise ConfigError(str(path), sorted(located, key=lambda p: p.line or 0))
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


def _cross_problems(data: Mapping[str, Any], context: Mapping[str, bool]) -> list[Problem]:
    """Check what lies between sections, as far as the sections themselves are valid."""
    inputs, detectors = _entries(data, "inputs"), _entries(data, "detectors")

    def valid(section: type[_S], raw: object) -> _S | None:
        try:
            return section.model_validate(raw, context=context)
        except ValidationError:
            return None

    valid_inputs = [(i, valid(InputConfig, entry)) for i, entry in inputs]
    valid_detectors = [valid(DetectorConfig, entry) for _, entry in detectors]
    usable_detectors = [detector for detector in valid_detectors if detector is not None]
    return cross_check(
        names={"inputs": _texts(inputs, "name"), "detectors": _texts(detectors, "name")},
        wanted_inputs=_texts(detectors, "input"),
        inputs=[(i, entry) for i, entry in valid_inputs if entry is not None],
        detectors=usable_detectors if len(usable_detectors) == len(valid_detectors) else None,
        kafka=valid(KafkaConfig, data.get("kafka", {})),
        outputs=valid(OutputsConfig, data.get("outputs", {})),
        notify=valid(NotifyConfig, data.get("notify", {})),
        web=valid(WebConfig, data.get("web", {})),
        maintenance=[
            (i, window)
            for i, entry in _entries(data, "maintenance")
            if (window := valid(MaintenanceConfig, entry)) is not None
        ],
        control=valid(ControlConfig, data.get("control")),
    )


def _entries(data: Mapping[str, Any], section: str) -> list[tuple[int, dict[str, Any]]]:
    raw = data.get(section)
    return [(i, e) for i, e in enumerate(raw) if isinstance(e, dict)] if isinstance(raw, list) else []


def _texts(entries: list[tuple[int, dict[str, Any]]], key: str) -> list[tuple[int, str]]:
    return [(i, entry[key]) for i, entry in entries if isinstance(entry.get(key), str)]


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
