"""Texts of categorical features as numbers, each worked out once as long as it keeps coming."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.batch import FloatArray
from detector.models.vocabulary import MAX_CATEGORY_LENGTH, category_code
from detector.stream.field_text import category_text

_MOST_TEXTS = 16_384
"""Remembered, of at most 256 characters each, so that no stream of ever new texts fills the memory."""

_TEXT_OR_NULL = {str, type(None)}


class CategoryNumbers:
    """Remembers the numbers of recent texts; what it answers does not depend on what it remembers."""

    def __init__(self) -> None:
        self._codes = _Codes()

    def of(self, values: Sequence[Any]) -> FloatArray:
        """Return the number of each value, shape (N,): NaN for null and empty text, ±inf as it is.

        Args:
            values: Texts, numbers and booleans, which count as the text that JSON has for them.
        """
        if not _TEXT_OR_NULL.issuperset(map(type, values)):
            values = [_infinite_or_text(value) for value in values]
        return np.fromiter(map(self._codes.__getitem__, values), np.float64, len(values))

    def texts(self) -> Mapping[float, str]:
        """Return the text behind every number given since the last call, and perhaps behind others."""
        texts = self._codes.texts
        if len(texts) > _MOST_TEXTS:
            # Made anew, not emptied: what was returned belongs to the caller.
            self._codes = _Codes()
        return texts


class _Codes(dict[Any, float]):
    """Text to number, and back; infinities stand for themselves."""

    def __init__(self) -> None:
        super().__init__({None: math.nan, "": math.nan, math.inf: math.inf, -math.inf: -math.inf})
        self.texts: dict[float, str] = {}

    def __missing__(self, text: str) -> float:
        code = category_code(text)
        self.texts[code] = text[:MAX_CATEGORY_LENGTH]
        if len(text) <= MAX_CATEGORY_LENGTH:
            self[text] = code
        return code


def _infinite_or_text(value: Any) -> Any:
    return value if isinstance(value, float) and math.isinf(value) else category_text(value)
