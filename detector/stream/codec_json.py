"""JSON records to columns: a whole poll at once, each bad record rejected alone, with its reason.

A record is one JSON object. Its features are an object (``"features": {"cpu": 0.3}``), or a list in
the order of the input's features (``"values": [0.3]``), or fields of the record itself. Where it has
both an object and a list, the list is ignored. Unknown fields are ignored; null, absent and NaN mean
missing; a record without any of its features is a row of NaN, not an error. A categorical feature is
text, or a number or a boolean, which become text; empty text is missing. A binary one may be true or
false. The entity may be text or a number, which becomes text; several fields are joined with a
separator that is not escaped. Labels may be text, numbers or booleans; anything else is no label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import or_
from types import GenericAlias
from typing import Any, Literal

import msgspec
import numpy as np

from detector.batch import Batch, FloatArray
from detector.stream.event_time import believed, to_seconds
from detector.stream.feature_columns import TYPES, Reading, feature_columns
from detector.stream.field_text import entity_texts, key_texts, label_texts
from detector.stream.port import RawRecords
from detector.stream.reasons import Reason, Rejected
from detector.stream.record_struct import (
    Path,
    PathError,
    attribute_path,
    column,
    reach,
    struct_of,
)
from detector.stream.second_look import second_look

MAX_ENTITY_LENGTH = 256
"""Characters. Entities become keys, labels and table entries, so their length has to end somewhere."""

_DETAIL_LENGTH = 200


@dataclass(frozen=True, slots=True)
class InputSchema:
    """How to read the records of one input. A path is a tuple of keys, outermost first."""

    name: str
    features: tuple[tuple[str, Path], ...]
    """Feature name and its path below ``features_field``, in the order of the batch's columns."""
    categorical: frozenset[Path] = frozenset()
    """Paths of those features that are text."""
    binary: frozenset[Path] = frozenset()
    """Paths of those that may be true or false."""
    entity: tuple[Path, ...] | Literal["@key"] = (("entity",),)
    """Fields joined to the entity's name, or the record's Kafka key."""
    entity_separator: str = "/"
    time: Path | Literal["@timestamp"] = ("time",)
    """A field, or the record's Kafka time."""
    labels: tuple[tuple[str, Path], ...] = ()
    features_field: Path = ("features",)
    """The object that holds the features; empty: the record itself does."""
    values_field: Path | None = ("values",)
    """The list that may stand in for it; None: no list is read."""
    max_record_bytes: int = 1_048_576
    max_future_s: float = 600.0

    @property
    def readings(self) -> tuple[Reading, ...]:
        """How each feature is written."""
        return tuple(
            "text" if path in self.categorical else "flag" if path in self.binary else "number"
            for _, path in self.features
        )


class JsonCodec:
    """Decodes the polls of one input; what it remembers of one makes others faster, never different."""

    def __init__(self, schema: InputSchema) -> None:
        """Generate the decoder.

        Raises:
            PathError: The schema's paths contradict one another.
        """
        self.schema = schema
        types = _types(schema)
        try:
            self._struct = struct_of(types, frozenset({schema.features_field} - {()}))
        except PathError as error:
            raise PathError(f"input {schema.name!r}: {error}") from error
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._struct).decode
        self._features = [self._attributes((*schema.features_field, *path)) for _, path in schema.features]
        self._columns = feature_columns(self._struct, self._features, schema.readings)
        self._holder = self._attributes(schema.features_field) if schema.features_field else None
        # Where the record itself holds the features, every record has them, and no list stands in.
        self._list: str | None = None
        if schema.values_field and schema.features_field:
            self._list = self._attributes(schema.values_field)
        self._names = tuple(name for name, _ in schema.features)

    def decode(self, raw: RawRecords, now_s: float) -> tuple[Batch, list[Rejected]]:
        """Return the good records as columns and the bad ones with their reasons.

        Args:
            raw: One poll, of this input's topics alone.
            now_s: Wall clock, seconds since 1970; bounds how far ahead a time may be.

        Returns:
            The batch, rows in the order of the poll, and one ``Rejected`` for each of the others,
            in order too: every record of the poll is in exactly one of them.
        """
        rejected: dict[int, Rejected] = {}
        records, rows = self._parse(raw.value, rejected)
        keep = np.ones(len(rows), dtype=np.bool_)

        def reject(i: int, reason: Reason, detail: str) -> None:
            if keep[i]:
                keep[i] = False
                rejected[rows[i]] = Rejected(rows[i], reason, detail[:_DETAIL_LENGTH])

        values = self._values(records, reject)
        entity = self._entities(records, raw, rows, reject)
        time = self._times(records, raw, rows, now_s, reject)
        labels = {
            name: label_texts(column(records, self._attributes(path))) for name, path in self.schema.labels
        }
        kept = np.array(rows, dtype=np.int64)[keep]
        source, offset = raw.source, raw.offset
        if rejected:
            where = np.flatnonzero(keep).tolist()
            values, time, source, offset = values[keep], time[keep], source[kept], offset[kept]
            entity = [entity[i] for i in where]
            labels = {name: [texts[i] for i in where] for name, texts in labels.items()}
        batch = Batch(
            input=self.schema.name,
            feature_names=self._names,
            sources=raw.sources,
            source=source,
            offset=offset,
            entity=entity,
            time=time,
            values=values,
            labels=labels,
            category_texts=self._columns.texts(),
        )
        return batch, [rejected[row] for row in sorted(rejected)]

    def _attributes(self, path: Path) -> str:
        return attribute_path(self._struct, path)

    def _parse(
        self, values: list[bytes | None], rejected: dict[int, Rejected]
    ) -> tuple[list[Any], Sequence[int]]:
        """Return the records that are JSON of the right types, and their rows in the poll."""
        limit = self.schema.max_record_bytes
        decode = self._decode
        try:
            if values and max(map(len, values)) <= limit:  # type: ignore[arg-type]
                return list(map(decode, values)), range(len(values))  # type: ignore[arg-type]
        except (ValueError, TypeError, RecursionError):
            # One bad record, or a tombstone, is enough: find out which.
            pass
        records: list[Any] = []
        rows: list[int] = []
        for row, value in enumerate(values):
            if not value:
                rejected[row] = Rejected(row, Reason.EMPTY, "the record has no value")
                continue
            if len(value) > limit:
                detail = f"{len(value)} bytes; the input takes at most {limit}"
                rejected[row] = Rejected(row, Reason.TOO_LARGE, detail)
                continue
            try:
                records.append(decode(value))
            except (ValueError, RecursionError) as error:
                record = second_look(value, self._struct, self.schema.time, error)
                if isinstance(record, tuple):
                    rejected[row] = Rejected(row, record[0], record[1][:_DETAIL_LENGTH])
                    continue
                records.append(record)
            rows.append(row)
        return records, rows

    def _values(self, records: list[Any], reject: Callable[[int, Reason, str], None]) -> FloatArray:
        """Return the features, shape (N, D); rejected rows hold anything."""
        try:
            values = self._columns.read(records)
        except AttributeError:
            # An attribute of None: this record has no features object, or null on the way.
            values = self._values_from_lists(records, reject)
        infinite = np.isinf(values)
        for i in np.flatnonzero(infinite.any(axis=1)).tolist() if infinite.any() else ():
            name = self._names[int(np.flatnonzero(np.isinf(values[i]))[0])]
            reject(i, Reason.NOT_FINITE, f"feature {name!r} is infinite or too large for a double")
        return values

    def _values_from_lists(
        self, records: list[Any], reject: Callable[[int, Reason, str], None]
    ) -> FloatArray:
        holders = column(records, self._holder) if self._holder else records
        lists = column(records, self._list) if self._list else [None] * len(records)
        if all(holder is None for holder in holders):
            try:
                return self._columns.read_lists(lists)
            except (TypeError, ValueError):
                # One bad list is enough: find out which.
                pass
        d = len(self._names)
        values = np.full((len(records), d), np.nan)
        for i, (record, holder, listed) in enumerate(zip(records, holders, lists, strict=True)):
            if holder is not None:
                values[i] = self._columns.read_row([reach(record, attrs) for attrs in self._features])
            elif listed is None:
                reject(i, Reason.NO_FEATURES, self._what_is_looked_for())
            elif len(listed) != d:
                reject(i, Reason.WRONG_LENGTH, f"{len(listed)} values; the input has {d} features")
            elif (j := self._columns.misplaced(listed)) is not None:
                detail = (
                    f"value {j} is {listed[j]!r}; feature {self._names[j]!r} is a {self.schema.readings[j]}"
                )
                reject(i, Reason.WRONG_TYPE, detail)
            else:
                values[i] = self._columns.read_row(listed)
        return values

    def _what_is_looked_for(self) -> str:
        fields = [".".join(self.schema.features_field)]
        if self.schema.values_field:
            fields.append(".".join(self.schema.values_field))
        return f"the record has no field {' and none '.join(map(repr, fields))}"

    def _entities(
        self,
        records: list[Any],
        raw: RawRecords,
        rows: Sequence[int],
        reject: Callable[[int, Reason, str], None],
    ) -> list[str]:
        if self.schema.entity == "@key":
            keys = raw.keys()
            entities = key_texts(keys if len(rows) == len(keys) else [keys[row] for row in rows])
            parts = [entities]
        else:
            parts = [entity_texts(column(records, self._attributes(path))) for path in self.schema.entity]
            entities = parts[0]
        if len(parts) > 1:
            entities = list(map(self.schema.entity_separator.join, zip(*parts, strict=True)))
        if any(not min(map(len, part), default=1) for part in parts):
            for i, names in enumerate(zip(*parts, strict=True)):
                if not all(names):
                    reject(i, Reason.NO_ENTITY, "the entity is absent, empty or not readable text")
        if max(map(len, entities), default=0) > MAX_ENTITY_LENGTH:
            for i, entity in enumerate(entities):
                if len(entity) > MAX_ENTITY_LENGTH:
                    detail = f"the entity has {len(entity)} characters; at most {MAX_ENTITY_LENGTH} are taken"
                    reject(i, Reason.NO_ENTITY, detail)
        return entities

    def _times(
        self,
        records: list[Any],
        raw: RawRecords,
        rows: Sequence[int],
        now_s: float,
        reject: Callable[[int, Reason, str], None],
    ) -> FloatArray:
        if self.schema.time == "@timestamp":
            time = raw.timestamps_s()[np.array(rows, dtype=np.int64)]
        else:
            time = to_seconds(column(records, self._attributes(self.schema.time)))
        good = believed(time, now_s, self.schema.max_future_s)
        for i in np.flatnonzero(~good).tolist():
            if np.isnan(time[i]):
                reject(i, Reason.NO_TIME, "the record has no time")
            else:
                limits = f"taken are 2000-01-01 until {self.schema.max_future_s:g} s from now"
                detail = f"{time[i]:.15g} s since 1970; {limits}"
                reject(i, Reason.TIME_OUT_OF_RANGE, detail)
        return time


def _types(schema: InputSchema) -> dict[Path, Any]:
    """Return what the schema wants at each path of the record.

    Raises:
        PathError: A field is wanted for two purposes of different types.
    """
    types: dict[Path, Any] = {}
    wanted: list[tuple[Path, Any, str]] = [(path, Any, "label") for _, path in schema.labels]
    if schema.entity != "@key":
        # A field that is both is read as an entity; its text serves as the label.
        wanted = [want for want in wanted if want[0] not in schema.entity]
        wanted += [(path, str | int | float | None, "entity") for path in schema.entity]
    if schema.time != "@timestamp":
        wanted.append((schema.time, datetime | int | float | None, "time"))
    of_features = [TYPES[reading] for reading in schema.readings]
    wanted += [
        ((*schema.features_field, *path), kind, "feature")
        for (_, path), kind in zip(schema.features, of_features, strict=True)
    ]
    if schema.values_field and schema.features_field:
        # A list has one type for all; who may be what is looked at later.
        values = GenericAlias(list, (reduce(or_, of_features),))
        wanted.append((schema.values_field, values | None, "list of values"))
    purposes: dict[Path, str] = {}
    for path, kind, purpose in wanted:
        if purposes.setdefault(path, purpose) != purpose:
            raise PathError(
                f"input {schema.name!r}: field {'.'.join(path)!r} is used as {purposes[path]} "
                f"and as {purpose}; it can only be one of them"
            )
        types[path] = kind
    return types
