"""What people know of training records: which were anomalous, and which regime was at work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detector.batch import Batch, BoolArray, IntArray


class Labels(NamedTuple):
    """Of N records; None where nobody labels them."""

    anomalous: BoolArray | None
    """Shape (N,)."""
    regime: Sequence[str | None] | None
    """Length N, None where it is unknown."""


@dataclass(frozen=True, slots=True)
class LabelFields:
    """Where a record says it: columns of a file, or paths from the record's root, like ``tags.incident``."""

    anomaly: str | None = None
    regime: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are given, as the labels of a batch are called."""
        return tuple(name for name in (self.anomaly, self.regime) if name is not None)

    def silent(self, records: Batch) -> list[str]:
        """Return those of which no record has a word: misspelt, perhaps, or there was nothing to say."""
        return [name for name in self.names if not any(records.labels[name])]

    def of(self, records: Batch) -> Labels:
        """Return what the records' labels say."""
        return Labels(
            None if self.anomaly is None else anomalous_rows(records.labels[self.anomaly]),
            None if self.regime is None else records.labels[self.regime],
        )


def anomalous_rows(texts: Sequence[str | None]) -> BoolArray:
    """Return which records are labelled anomalous, shape (N,): those whose label says anything but no.

    No is a label that is absent or blank, 0 however it is written, ``false``, and NaN. Anything else is yes.
    """
    marked = {text: _says_yes(text) for text in set(texts)}
    return np.fromiter((marked[text] for text in texts), np.bool_, len(texts))


def regime_codes(texts: Sequence[str | None]) -> tuple[IntArray, tuple[str, ...]]:
    """Return each record's regime as an index, -1 where it is unknown, and the names in that order.

    Args:
        texts: Length N; absent and blank are unknown.

    Returns:
        Shape (N,), and the names in alphabetical order, which does not depend on that of the records.
    """
    names = sorted({text for text in texts if text})
    index: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    return np.fromiter((index.get(text, -1) for text in texts), np.int64, len(texts)), tuple(names)


def those_that_occur(codes: IntArray, names: tuple[str, ...]) -> tuple[IntArray, tuple[str, ...]]:
    """Return some records' regimes numbered anew, without names that none of these records has.

    Args:
        codes: As from ``regime_codes``, shape (N,), -1 is unknown.
        names: Theirs.
    """
    present = np.unique(codes[codes >= 0])
    renumbered = np.where(codes >= 0, np.searchsorted(present, codes), -1)
    return renumbered.astype(np.int64), tuple(names[i] for i in present.tolist())


def _says_yes(text: str | None) -> bool:
    said = (text or "").strip().lower()
    if said in ("", "false", "nan"):
        return False
    try:
        return float(said) != 0.0
    except ValueError:
        return True
