"""Which records of a poll belong to which input: a topic belongs to exactly one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.stream.port import Envelope, Header, RawRecords

Input = TypeVar("Input")


@dataclass(frozen=True, slots=True)
class _Part:
    """The envelope of some rows of a poll."""

    whole: Envelope
    rows: list[int]

    def key(self, i: int) -> bytes | None:
        return self.whole.key(self.rows[i])

    def keys(self) -> list[bytes | None]:
        keys = self.whole.keys()
        return [keys[row] for row in self.rows]

    def headers(self, i: int) -> list[Header]:
        return self.whole.headers(self.rows[i])

    def timestamps_s(self) -> FloatArray:
        return self.whole.timestamps_s()[self.rows]


def split(raw: RawRecords, input_of: Mapping[str, Input]) -> Iterator[tuple[Input, RawRecords]]:
    """Yield each input that has records in a poll, with its records in the poll's order.

    Args:
        raw: One poll, with records.
        input_of: Topic to input; inputs are told apart by identity.
    """
    of_source = [input_of[source.topic] for source in raw.sources]
    inputs = list({id(input): input for input in of_source}.values())
    if len(inputs) == 1:
        yield inputs[0], raw
        return
    for input in inputs:
        owned = np.array([owner is input for owner in of_source])
        part = select(raw, owned[raw.source])
        if len(part):
            yield input, part


def select(raw: RawRecords, mask: BoolArray) -> RawRecords:
    """Return some rows of a poll, those where ``mask``, shape (N,), holds."""
    rows = np.flatnonzero(mask).tolist()
    return RawRecords(
        raw.sources,
        raw.source[mask],
        raw.offset[mask],
        [raw.value[row] for row in rows],
        _Part(raw.envelope, rows),
    )
