"""Features of decoded records as columns: numbers alone, or numbers, flags and texts together."""

import struct
from collections.abc import Mapping, Sequence
from itertools import starmap
from operator import attrgetter
from typing import Any, Literal, Protocol

import msgspec
import numpy as np

from detector.batch import FloatArray
from detector.stream.category_numbers import CategoryNumbers
from detector.stream.record_struct import rows_reader

Reading = Literal["number", "flag", "text"]
"""How a feature is written: a number; 0, 1, true or false; text, or a number or a boolean in place of it."""

TYPES: dict[Reading, Any] = {
    "number": float | None,
    "flag": bool | float | None,
    "text": str | int | float | bool | None,
}
"""What msgspec decodes each reading as."""

_NUMBERS = {int, float, type(None)}
_ACCEPTED: dict[Reading, set[type]] = {
    "number": _NUMBERS,
    "flag": _NUMBERS | {bool},
    "text": _NUMBERS | {bool, str},
}


class FeatureColumns(Protocol):
    """Turns the D features of records into columns; null and absent are NaN."""

    def texts(self) -> Mapping[float, str]:
        """Return the text behind every number of categorical features since the last call, at least."""
        ...

    def read(self, records: list[Any]) -> FloatArray:
        """Return the features of N records, shape (N, D).

        Raises:
            AttributeError: An object on the way is null.
        """
        ...

    def read_lists(self, lists: list[Any]) -> FloatArray:
        """Return N lists of D values as they came, shape (N, D).

        Raises:
            TypeError, ValueError: One is absent, of another length, or has a value of a wrong type.
        """
        ...

    def read_row(self, row: Sequence[Any]) -> Sequence[float] | FloatArray:
        """Return the D values of one record as numbers."""
        ...

    def misplaced(self, row: Sequence[Any]) -> int | None:
        """Return the first of D values that has another type than its feature, if there is one."""
        ...


def feature_columns(
    record: type[msgspec.Struct], attributes: Sequence[str], readings: Sequence[Reading]
) -> FeatureColumns:
    """Return how to read features.

    Args:
        record: The Struct of the records.
        attributes: Where each feature is in it.
        readings: How each feature is written.
    """
    if set(readings) == {"number"}:
        return NumberColumns(record, attributes)
    return MixedColumns(record, attributes, readings)


class NumberColumns:
    """All features are numbers, or flags, which are numbers to the machine."""

    def __init__(self, record: type[msgspec.Struct], attributes: Sequence[str]) -> None:
        self._rows = rows_reader(record, attributes)
        self._n_features = len(attributes)
        self._pack = struct.Struct(f"{len(attributes)}d").pack

    def texts(self) -> Mapping[float, str]:
        return {}

    def read(self, records: list[Any]) -> FloatArray:
        shape = len(records), self._n_features
        try:
            packed = b"".join(starmap(self._pack, self._rows(records)))
            return np.frombuffer(bytearray(packed), dtype=np.float64).reshape(shape)
        except struct.error:
            # Some value is null or absent, which only the slower way takes for NaN.
            return np.array(list(self._rows(records)), dtype=np.float64).reshape(shape)

    def read_lists(self, lists: list[Any]) -> FloatArray:
        values: FloatArray = np.array(lists, dtype=np.float64)
        if values.shape != (len(lists), self._n_features):
            raise ValueError(f"lists have shape {values.shape}")
        return values

    def read_row(self, row: Sequence[Any]) -> Sequence[float]:
        return row

    def misplaced(self, row: Sequence[Any]) -> int | None:
        # The decoder has seen to it: one type serves all.
        return None


class MixedColumns:
    """Numbers and flags are read as by ``NumberColumns``, every feature of texts by itself."""

    def __init__(
        self, record: type[msgspec.Struct], attributes: Sequence[str], readings: Sequence[Reading]
    ) -> None:
        self._accepted = [_ACCEPTED[reading] for reading in readings]
        self._is_text = [reading == "text" for reading in readings]
        self._number_columns = np.flatnonzero(~np.array(self._is_text))
        numbers = [attributes[j] for j in self._number_columns.tolist()]
        self._numbers = NumberColumns(record, numbers) if numbers else None
        self._text_getters = [
            (j, attrgetter(attribute))
            for j, (attribute, is_text) in enumerate(zip(attributes, self._is_text, strict=True))
            if is_text
        ]
        self._categories = CategoryNumbers()

    def texts(self) -> Mapping[float, str]:
        return self._categories.texts()

    def read(self, records: list[Any]) -> FloatArray:
        values = np.empty((len(records), len(self._accepted)))
        if self._numbers is not None:
            values[:, self._number_columns] = self._numbers.read(records)
        for j, getter in self._text_getters:
            values[:, j] = self._categories.of(list(map(getter, records)))
        return values

    def read_lists(self, lists: list[Any]) -> FloatArray:
        columns = list(zip(*lists, strict=True))
        if len(columns) != len(self._accepted):
            raise ValueError(f"lists of {len(columns)} values")
        values = np.empty((len(lists), len(columns)))
        for j, (column, accepted) in enumerate(zip(columns, self._accepted, strict=True)):
            if not accepted.issuperset(map(type, column)):
                raise TypeError(f"value {j} is of a wrong type somewhere")
            values[:, j] = self._categories.of(column) if self._is_text[j] else column
        return values

    def read_row(self, row: Sequence[Any]) -> FloatArray:
        return np.array(
            [
                self._categories.of([value])[0] if is_text else value
                for value, is_text in zip(row, self._is_text, strict=True)
            ],
            dtype=np.float64,
        )

    def misplaced(self, row: Sequence[Any]) -> int | None:
        places = enumerate(zip(row, self._accepted, strict=True))
        return next((j for j, (value, accepted) in places if type(value) not in accepted), None)
