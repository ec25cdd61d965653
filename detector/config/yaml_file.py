"""A configuration file as plain data: safe YAML, each key once, ``${NAME}`` replaced."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detector.config.problem import ConfigError, KeyPath, Problem, holds_secret, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 20

_REFERENCE = re.compile(
    r"\$(?:\$|\{(?:env:)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}\n]*))?\}|\{[^}]*\}?)"
)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The data of a file, and the line of each key."""

    data: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)


def read_config_file(
    path: Path, environment: Mapping[str, str], *, without_secrets: bool = False
) -> ConfigFile:
    """Read one YAML file.

    ``${NAME}`` and ``${env:NAME}`` become the variable's value, ``${NAME:-text}`` the text where it
    is unset or empty, ``$$`` a dollar sign. They are replaced within values, after parsing,
    so a variable's content can never add a key. Of secrets and the paths of files they may be unset where
    these are not read, ``without_secrets``.

    Raises:
        ConfigError: The file cannot be read, is too large, is not YAML, repeats a key, uses an
            alias, or names a variable that is not set; every such place is listed.
    """
    text = _read_text(path)
    loader = yaml.SafeLoader(text)
    try:
        _refuse_bombs(text, path)
        node = loader.get_single_node()
        if node is None:
            return ConfigFile({})
        walk = _Walk(environment, without_secrets)
        walk.visit(node, ())
        if walk.problems:
            raise ConfigError(str(path), walk.problems)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        message = f"not valid YAML: {error.problem or error}; check indentation and quotes here"
        raise ConfigError(str(path), [Problem((), message, line)]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), [Problem((), f"not valid YAML: {error}; correct the file")]) from error
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        message = (
            "not a configuration: the file must be a mapping with sections such as kafka: and detectors:"
        )
        raise ConfigError(str(path), [Problem((), message)])
    return ConfigFile(data, walk.lines)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"cannot be read: {error.strerror}; check the path and its permissions"
        raise ConfigError(str(path), [Problem((), message)]) from error
    if len(content) > MAX_BYTES:
        message = (
            f"larger than {MAX_BYTES} bytes; a configuration is a few kilobytes: is this the right file?"
        )
        raise ConfigError(str(path), [Problem((), message)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text at byte {error.start}; save the file as UTF-8"
        raise ConfigError(str(path), [Problem((), message)]) from error


def _refuse_bombs(text: str, path: Path) -> None:
    """Refuse what a few bytes can turn into hours or gigabytes, before anything is built from it."""
    problems = []
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            message = f"alias '*{event.anchor}' is not allowed; write the value out"
            problems.append(Problem((), message, _line_of(event)))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            problems.append(
                Problem((), f"nested more than {MAX_DEPTH} levels deep; flatten it", _line_of(event))
            )
            break
    if problems:
        raise ConfigError(str(path), problems)


def _line_of(place: yaml.Event | yaml.Node) -> int | None:
    return place.start_mark.line + 1 if place.start_mark else None


def _names_file(key: KeyPath) -> bool:
    return str(key[-1]).endswith("_file")


class _Walk:
    """Visits every node once: notes lines, finds repeated keys, replaces variables."""

    def __init__(self, environment: Mapping[str, str], without_secrets: bool) -> None:
        self._environment = environment
        self._without_secrets = without_secrets
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}

    def visit(self, node: yaml.Node, key: KeyPath) -> None:
        line = _line_of(node)
        if line is not None:
            self.lines.setdefault(key, line)
        if isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, key)
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.visit(item, (*key, position))
        elif isinstance(node, yaml.ScalarNode) and "$" in node.value:
            self._substitute(node, key, line)

    def _visit_mapping(self, node: yaml.MappingNode, key: KeyPath) -> None:
        seen: dict[str, int | None] = {}
        for key_node, value_node in node.value:
            line = _line_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                name = getattr(key_node, "value", "?")
                self.problems.append(Problem(key, f"key {name!r} is not text; write it in quotes", line))
                continue
            name = key_node.value
            if name in seen:
                message = f"given twice, first on line {seen[name]}; keep one"
                self.problems.append(Problem((*key, name), message, line))
                continue
            seen[name] = line
            if line is not None:
                self.lines[(*key, name)] = line
            self.visit(value_node, (*key, name))

    def _substitute(self, node: yaml.ScalarNode, key: KeyPath, line: int | None) -> None:
        def value_of(match: re.Match[str]) -> str:
            if match.group() == "$$":
                return "$"
            name, default = match["name"], match["default"]
            if name is None:
                remedy = "write ${NAME} or ${NAME:-default}, or $$ for a dollar sign"
                message = f"{shown(key, match.group())} is not a variable; {remedy}"
                self.problems.append(Problem(key, message, line))
                return ""
            value = self._environment.get(name)
            if default is not None:
                return value or default
            if value is None and self._without_secrets and (holds_secret(key) or _names_file(key)):
                return "not read"
            if value is None:
                message = f"environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                self.problems.append(Problem(key, message, line))
                return ""
            return value

        # Text it stays: a password of digits is no number, and numeric keys read numbers from text.
        node.value = _REFERENCE.sub(value_of, node.value)
