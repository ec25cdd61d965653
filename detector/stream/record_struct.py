"""One generated msgspec Struct per schema, so that decoding a record is one pass that skips unknown fields.

A schema names the paths it wants (``("tags", "host")``) and the type at each. Every node on the way
becomes a Struct of its own, and every field is optional.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

Path = tuple[str, ...]


class PathError(ValueError):
    """Two paths of a schema cannot both hold, or a key cannot be read; the message names them."""


def struct_of(types: Mapping[Path, Any], required: frozenset[Path] = frozenset()) -> type[msgspec.Struct]:
    """Return the Struct that reads these paths.

    Args:
        types: Path to the type of its value; the value is None where the field is absent.
        required: Nodes (not leaves) that must tell "absent" from "empty": None rather than an empty Struct.

    Raises:
        PathError: A path is empty, runs through another one's value, or has a key with a quote,
            a backslash or a control character.
    """
    children: dict[str, dict[Path, Any]] = {}
    for path, kind in types.items():
        if not path or "" in path:
            raise PathError(f"the field path {'.'.join(path)!r} has an empty part; name a field")
        children.setdefault(path[0], {})[path[1:]] = kind
    fields: list[tuple[str, Any, Any]] = []
    for i, (key, below) in enumerate(children.items()):
        if () not in below:
            inner = {path[1:] for path in required if path[:1] == (key,)}
            node = struct_of(below, frozenset(inner))
            default = None if () in inner else msgspec.field(default_factory=node)
            fields.append((f"f{i}", node | None, default))
        elif len(below) > 1:
            other = next(path for path in below if path)
            raise PathError(
                f"field {key!r} is used as a value and as an object that holds {'.'.join(other)!r}; "
                "it can only be one of them"
            )
        else:
            fields.append((f"f{i}", below[()], None))
    names = {f"f{i}": key for i, key in enumerate(children)}
    try:
        return msgspec.defstruct("Record", fields, rename=names, gc=False)
    except ValueError as error:
        raise PathError(f"fields {', '.join(map(repr, children))}: {error}") from error


def attribute_path(struct: type[msgspec.Struct], path: Path) -> str:
    """Return where the Struct keeps a path's value, in the dotted form of ``operator.attrgetter``."""
    attributes = []
    for key in path:
        field = next(field for field in msgspec.structs.fields(struct) if field.encode_name == key)
        attributes.append(field.name)
        struct = next(
            (kind for kind in getattr(field.type, "__args__", ()) if _is_struct(kind)), msgspec.Struct
        )
    return ".".join(attributes)


def rows_reader(
    struct: type[msgspec.Struct], attributes: Sequence[str]
) -> Callable[[list[Any]], Iterator[tuple[Any, ...]]]:
    """Return how to read several values off each record, as tuples in the order of ``attributes``.

    The tuples come one by one: thousands alive at once would keep the garbage collector busy. Reading them
    raises AttributeError where an object on the way is null.
    """
    holder = attributes[0].rpartition(".")[0]
    prefix = f"{holder}." if holder else ""
    inner = _inner(struct, holder.split(".") if holder else [])
    if list(attributes) == [prefix + field.name for field in msgspec.structs.fields(inner)]:
        # They are all that one object holds: it becomes a tuple at once, far faster than value by value.
        get_holder: Callable[[Any], Any] = attrgetter(holder) if holder else lambda record: record

        def whole(records: list[Any]) -> Iterator[tuple[Any, ...]]:
            holders = list(map(get_holder, records))
            if None in holders:
                raise AttributeError(f"{holder} is null in some record")
            return map(msgspec.structs.astuple, holders)

        return whole
    if len(attributes) == 1:
        get_one: Callable[[Any], Any] = attrgetter(attributes[0])
        return lambda records: ((get_one(record),) for record in records)
    get: Callable[[Any], tuple[Any, ...]] = attrgetter(*attributes)
    return lambda records: map(get, records)


def _inner(struct: type[msgspec.Struct], names: Sequence[str]) -> type[msgspec.Struct]:
    """Return the type of the object that a path of attributes leads to."""
    for name in names:
        kind = next(field.type for field in msgspec.structs.fields(struct) if field.name == name)
        struct = next(inner for inner in kind.__args__ if _is_struct(inner))
    return struct


def column(records: list[Any], attributes: str) -> list[Any]:
    """Return one value of each record, None where an object on the way is null."""
    getter: Callable[[Any], Any] = attrgetter(attributes)
    try:
        return list(map(getter, records))
    except AttributeError:
        return [reach(record, attributes) for record in records]


def reach(record: Any, attributes: str) -> Any:
    """Return one value of one record, None where an object on the way is null."""
    for name in attributes.split("."):
        record = getattr(record, name, None)
    return record


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
