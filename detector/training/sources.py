"""Where training and backtest rows come from: CSV and Parquet files.

A file has a ``time`` column, optionally an ``entity`` column, and features. Times are RFC 3339
(without a zone: UTC), epoch seconds, or epoch milliseconds (numbers from 1e11 on); in Parquet
also timestamps. A blank or NaN feature is missing; an infinite one is an error. A categorical feature
is a column of text, or of whatever else counts as text in a record.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from detector.batch import Batch, FloatArray, IntArray, Source
from detector.models.kinds import Kind
from detector.models.vocabulary import MAX_CATEGORY_LENGTH, category_code
from detector.stream.event_time import MILLISECONDS_FROM
from detector.stream.field_text import category_text

DEFAULT_ENTITY = "default"
_TOO_LARGE_FROM = 1e14
_PARQUET = (".parquet", ".pq")
_ROWS_OF_A_PART = 100_000

_ZONE = r"^.{10,}[Zz]$|^.{16,}[+-]\d\d:?\d\d$"
_DATE_ONLY = r"^\d{4}-\d\d-\d\d$"
# As CSV may write a boolean.
_FLAGS = ("true", "false", "True", "False", "TRUE", "FALSE")


class SourceError(ValueError):
    """The rows cannot be used; the message names the file, the row and the column."""


def read_file(
    path: Path,
    features: Sequence[str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    labels: Sequence[str] = (),
) -> Batch:
    """Read one CSV or Parquet file, every row in the file's order.

    Args:
        path: The format is told by the suffix: ``.csv``, ``.parquet`` or ``.pq``.
        features: Columns to use, in this order; None means every column but ``time``, ``entity`` and labels,
            which then all have to be numeric or of a declared kind, so that none is left out silently.
        kinds: What the values of features are, by name; continuous, where nothing is said.
        labels: Further columns, of text or anything that counts as text; none of them is a feature.

    Returns:
        A batch of one source, named after the file, with row numbers from 0 as offsets.

    Raises:
        SourceError: The file cannot be read, lacks a column, or holds an unusable value.
    """
    kinds = kinds or {}
    table = _read_table(path, _texts(path, features, kinds, labels))
    return _batch(table, path, features, kinds, labels)


def read_parts(
    path: Path, features: Sequence[str], kinds: Mapping[str, Kind], labels: Sequence[str]
) -> Iterator[Batch]:
    """Yield the rows of a file as ``read_file`` has them, part by part; of Parquet no more is in memory."""
    texts, first = _texts(path, features, kinds, labels), 0
    try:
        for table in _tables(path, texts):
            part = _batch(table, path, features, kinds, labels)
            yield replace(part, offset=part.offset + first)
            first += len(part)
        # Arrow keeps for another table what it has freed, and there is none.
        pa.default_memory_pool().release_unused()
    except SourceError:
        # In a part rows count from its own beginning: the whole file says which one it is.
        read_file(path, features, kinds, labels)
        raise


def _texts(
    path: Path, features: Sequence[str] | None, kinds: Mapping[str, Kind], labels: Sequence[str]
) -> set[str]:
    """Return the columns that are text, whatever they look like."""
    for name in labels:
        if name in (features or ()) or name in kinds:
            raise SourceError(f"{path}: column {name!r} is a label and a feature; it can only be one of them")
    return {name for name, kind in kinds.items() if kind == "categorical"} | set(labels)


def _tables(path: Path, texts: set[str]) -> Iterator[Any]:
    if path.suffix.lower() not in _PARQUET:
        table = _read_table(path, texts)
        yield from (table.slice(i, _ROWS_OF_A_PART) for i in range(0, table.num_rows, _ROWS_OF_A_PART))
        return
    try:
        with pq.ParquetFile(path) as file:
            _check_table(file.schema_arrow.names, file.metadata.num_rows, path)
            for rows in file.iter_batches(_ROWS_OF_A_PART):
                yield pa.Table.from_batches([rows])
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error


def _batch(
    table: Any,
    path: Path,
    features: Sequence[str] | None,
    kinds: Mapping[str, Kind],
    labels: Sequence[str],
) -> Batch:
    names = tuple(features) if features is not None else _all_features(table, path, kinds, labels)
    for name in ("time", *names, *labels):
        if name not in table.column_names:
            raise SourceError(f"{path}: no column {name!r}; the file has {', '.join(table.column_names)}")
    for name in kinds:
        if name not in names:
            raise SourceError(f"{path}: {name!r} has a kind but is no feature; these are: {', '.join(names)}")
    values = np.empty((table.num_rows, len(names)))
    category_texts: dict[float, str] = {}
    for j, name in enumerate(names):
        if kinds.get(name) == "categorical":
            values[:, j] = _categories(table[name], name, path, category_texts)
        else:
            values[:, j] = _numbers(table[name], name, path, kinds.get(name, "continuous"))
    return Batch(
        input="file",
        feature_names=names,
        sources=(Source(path.name, 0),),
        source=np.zeros(table.num_rows, dtype=np.int64),
        offset=np.arange(table.num_rows, dtype=np.int64),
        entity=_entities(table, path),
        time=_times(table["time"], path),
        values=values,
        labels={name: _label_texts(table[name], name, path) for name in labels},
        category_texts=category_texts,
    )


def _read_table(path: Path, texts: set[str]) -> Any:
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            # Types of these are ours to tell: inference would read the entity "007" as 7.
            as_text = {name: pa.string() for name in ("time", "entity", *texts)}
            table = pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types=as_text))
        elif suffix in _PARQUET:
            table = pq.read_table(path)
        else:
            raise SourceError(f"{path}: unknown kind of file {suffix!r}; give a .csv or .parquet file")
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    _check_table(table.column_names, table.num_rows, path)
    return table


def _check_table(columns: Sequence[str], rows: int, path: Path) -> None:
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise SourceError(f"{path}: column {repeated[0]!r} appears twice; rename one of them")
    if rows == 0:
        raise SourceError(f"{path}: no rows")


def _is_numeric(kind: Any) -> bool:
    # A column of blanks only has the type null: every value of it is missing.
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _is_usable(kind: Any, as_what: Kind) -> bool:
    return _is_numeric(kind) or (as_what == "binary" and pa.types.is_boolean(kind))


def _all_features(
    table: Any, path: Path, kinds: Mapping[str, Kind], labels: Sequence[str]
) -> tuple[str, ...]:
    columns = [name for name in table.column_names if name not in ("time", "entity", *labels)]
    usable = [
        name
        for name in columns
        if kinds.get(name) == "categorical"
        or _is_usable(table.schema.field(name).type, kinds.get(name, "continuous"))
    ]
    for name in columns:
        if name not in usable:
            wrong = _not_numeric(table[name], name, path, kinds.get(name))
            raise SourceError(
                f"{wrong}; or name the features to use, for example --features {','.join(usable) or 'a,b'}"
            )
    if not usable:
        raise SourceError(f"{path}: no feature column beside time and entity")
    return tuple(usable)


def _not_numeric(column: Any, name: str, path: Path, declared: Kind | None) -> str:
    """Say which column is not numeric, with the first value that shows it, and how it could be a feature."""
    kind = "binary" if pa.types.is_boolean(column.type) else "categorical"
    remedy = f"correct that, or declare it kind: {kind} (--kind {name}={kind})"
    known: tuple[str | None, ...] = (None, "")
    if declared == "binary":
        remedy, known = "a flag is 0, 1, or a boolean, true or false", (*known, *_FLAGS)
    for row, value in enumerate(column.to_pylist(), start=1):
        try:
            # To Python True is a number.
            float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            if value not in known:
                return f"{path}: column {name!r} is not numeric (row {row}: {value!r}); {remedy}"
    return f"{path}: column {name!r} is not numeric ({column.type}); {remedy}"


def _numbers(column: Any, name: str, path: Path, kind: Kind) -> FloatArray:
    """Return a column as floats, shape (N,), NaN where blank."""
    if not _is_usable(column.type, kind):
        raise SourceError(_not_numeric(column, name, path, kind))
    numbers: FloatArray = _floats(column)
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise SourceError(
            f"{path}: row {infinite[0] + 1}, column {name!r} is infinite ({infinite.size} such rows); "
            "leave the cell blank where the value is unknown"
        )
    return numbers


def _categories(column: Any, name: str, path: Path, category_texts: dict[float, str]) -> FloatArray:
    """Return a column of categories as numbers, shape (N,), NaN where blank; adds their texts."""
    distinct, index = _distinct_texts(column, name, path)
    codes = np.array([np.nan if text is None else category_code(text) for text in distinct], dtype=np.float64)
    category_texts.update(
        (code, text[:MAX_CATEGORY_LENGTH])
        for code, text in zip(codes.tolist(), distinct, strict=True)
        if text is not None
    )
    return codes[index]


def _label_texts(column: Any, name: str, path: Path) -> list[str | None]:
    distinct, index = _distinct_texts(column, name, path)
    return [distinct[i] for i in index.tolist()]


def _distinct_texts(column: Any, name: str, path: Path) -> tuple[list[str | None], IntArray]:
    """Return the distinct values of a column as texts, None last, and which of them each row has."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    kind = column.type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    if not (textual or _is_numeric(kind)):
        raise SourceError(f"{path}: column {name!r} is of type {kind}, which is no text; write it as text")
    if pa.types.is_decimal(kind):
        column = pc.cast(column, pa.float64())
    encoded = pa.chunked_array(column).combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if any(isinstance(value, float) and math.isinf(value) for value in values):
        raise SourceError(f"{path}: column {name!r} is infinite somewhere; leave the cell blank instead")
    distinct = [category_text(value) for value in values]
    index: IntArray = pc.fill_null(encoded.indices, len(distinct)).to_numpy().astype(np.int64)
    return [*distinct, None], index


def _floats(column: Any) -> FloatArray:
    numbers: FloatArray = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float64)
    return numbers


def _entities(table: Any, path: Path) -> list[str]:
    if "entity" not in table.column_names:
        return [DEFAULT_ENTITY] * table.num_rows
    # One text for all rows of an entity.
    encoded = pc.cast(table["entity"], pa.string()).combine_chunks().dictionary_encode()
    names: list[str | None] = [*encoded.dictionary.to_pylist(), None]
    index = pc.fill_null(encoded.indices, len(names) - 1).to_numpy().tolist()
    entities = [name for name in map(names.__getitem__, index) if name]
    if len(entities) < len(index):
        row = next(row for row, i in enumerate(index, start=1) if not names[i])
        raise SourceError(f"{path}: row {row} names no entity; fill it in, or leave the column out")
    return entities


def _times(column: Any, path: Path) -> FloatArray:
    """Return seconds since 1970 UTC, shape (N,)."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _finite_times(_instants(column), column, path)
    if _is_numeric(kind):
        return _finite_times(_from_epoch(_floats(column)), column, path)
    try:
        return _finite_times(_from_epoch(_floats(column)), column, path)
    except pa.ArrowInvalid:
        return _from_text(pc.cast(column, pa.string()), path)


def _instants(column: Any) -> FloatArray:
    # By way of microseconds: nanoseconds since 1970 do not fit a float.
    return _floats(pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())) / 1e6


def _from_epoch(numbers: FloatArray) -> FloatArray:
    seconds = np.where(numbers < MILLISECONDS_FROM, numbers, numbers / 1e3)
    return np.where(numbers < _TOO_LARGE_FROM, seconds, np.nan)


def _finite_times(seconds: FloatArray, column: Any, path: Path) -> FloatArray:
    bad = np.flatnonzero(~np.isfinite(seconds))
    if bad.size:
        raise SourceError(_bad_time(path, int(bad[0]) + 1, column[int(bad[0])].as_py()))
    return seconds


def _from_text(texts: Any, path: Path) -> FloatArray:
    """Return RFC 3339 texts as seconds; those without a zone are taken as UTC."""
    full = pc.if_else(pc.match_substring_regex(texts, _DATE_ONLY), _joined(texts, "T00:00:00"), texts)
    full = pc.if_else(pc.match_substring_regex(full, _ZONE), pc.utf8_upper(full), _joined(full, "Z"))
    stamp = pa.timestamp("ns", tz="UTC")  # coarser ones refuse longer fractions
    try:
        stamps = pc.cast(full, stamp)
    except pa.ArrowInvalid as error:
        for row, text in enumerate(full.to_pylist()):
            try:
                pa.scalar(text).cast(stamp)
            except pa.ArrowInvalid:
                raise SourceError(_bad_time(path, row + 1, texts[row].as_py())) from error
        raise SourceError(f"{path}: column 'time' cannot be read: {error}") from error
    return _finite_times(_instants(stamps), texts, path)


def _joined(texts: Any, suffix: str) -> Any:
    return pc.binary_join_element_wise(texts, suffix, "")


def _bad_time(path: Path, row: int, value: object) -> str:
    return (
        f"{path}: row {row}, column 'time' is {value!r}; write RFC 3339 (2026-11-20T15:00:00Z), "
        "epoch seconds or epoch milliseconds"
    )
