"""The JSON Schema of a configuration file as people write it, with short forms and variables."""

from typing import Any

from detector.config.root import Config
from detector.config.section import DURATION_PATTERN, duration_text

_LIMITS = (
    "type",
    "enum",
    "const",
    "pattern",
    "format",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
)
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NUMBERS = ("number", "integer")
_NUMBER_AS_TEXT = {"type": "string", "pattern": r"^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$|\$\{"}


def config_schema() -> dict[str, Any]:
    """Return the schema. What it takes may be refused: it does not know how keys go together."""
    return _with_variables(Config.model_json_schema(by_alias=True))


def _as_written(default: Any, schema: dict[str, Any]) -> Any:
    """Return a default as a file has it: seconds with their unit."""
    kinds = (schema, *schema.get("anyOf", ()))
    is_duration = isinstance(default, float) and any(
        kind.get("pattern") == DURATION_PATTERN for kind in kinds
    )
    return duration_text(default) if is_duration else default


def _with_variables(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes ``${NAME}`` in place of whatever is no free text."""
    if "default" in schema:
        schema["default"] = _as_written(schema["default"], schema)
    for key in ("properties", "$defs"):
        if key in schema:
            schema[key] = {name: _with_variables(part) for name, part in schema[key].items()}
    for key in ("anyOf", "prefixItems"):
        if key in schema:
            schema[key] = [_with_variables(part) for part in schema[key]]
    if isinstance(schema.get("items"), dict):
        schema["items"] = _with_variables(schema["items"])
    kind = schema.get("type")
    limited = any(limit in schema for limit in _LIMITS if limit not in ("type", "minLength", "maxLength"))
    if kind in (*_NUMBERS, "boolean") or (limited and kind in (None, "string")):
        own = {limit: schema.pop(limit) for limit in _LIMITS if limit in schema}
        schema["anyOf"] = [own, _NUMBER_AS_TEXT if kind in _NUMBERS else _VARIABLE]
    return schema
