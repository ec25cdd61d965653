"""The values of a categorical feature: a number for every text, and the index under which a model knows it.

A batch holds the number, which needs no table: it is the same in every process and under every model. A
model holds a vocabulary, which turns numbers into indices.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from detector.batch import FloatArray

MAX_CATEGORY_LENGTH = 256
"""Characters. Texts that agree in so many are one category."""

_BITS_LEFT_OUT = 12


def category_code(text: str) -> float:
    """Return the whole number in [0, 2^52) that stands for a text: 52 bits of BLAKE2b, exact in a double.

    Two texts share one by a chance of 2e-16, so a vocabulary of 1,000 mistakes a text for one of its own by
    a chance of 2e-13.
    """
    digest = hashlib.blake2b(text[:MAX_CATEGORY_LENGTH].encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") >> _BITS_LEFT_OUT)


class Vocabulary:
    """V texts that a model knows, by index 0 to V - 1; V stands for any other.

    Args:
        texts: All different, none empty.

    Raises:
        ValueError: A text is empty, or two are one category.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        codes = np.array([category_code(text) for text in self.texts], dtype=np.float64)
        self._order = np.argsort(codes)
        self._codes = codes[self._order]
        if "" in self.texts or (np.diff(self._codes) == 0).any():
            raise ValueError("a vocabulary holds an empty text, or one text twice")

    def __len__(self) -> int:
        return len(self.texts)

    def index(self, codes: FloatArray) -> FloatArray:
        """Return each value's index, V where it is not in the vocabulary, shape (N,).

        Args:
            codes: As ``category_code`` gives them, shape (N,); NaN is missing and stays NaN.
        """
        if not self.texts:
            return np.where(np.isnan(codes), np.nan, 0.0)
        place = np.searchsorted(self._codes, codes).clip(max=len(self) - 1)
        index = np.where(self._codes[place] == codes, self._order[place], len(self))
        return np.where(np.isnan(codes), np.nan, index)

    def text(self, index: float) -> str | None:
        """Return the text at an index, None for V."""
        return self.texts[int(index)] if index < len(self) else None
