"""Anomalies made to be found: canaries in a copy of normal records, where no labels tell what to find."""

from typing import Literal, NamedTuple, get_args

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.sequences import starts_of

STRETCH = 50
"""Records that belong together: every other stretch holds a canary, so that averages calm down in between."""
_SHORTEST, _LONGEST = 10, 30
_SMALLEST, _LARGEST = 0.1, 4.0

Kind = Literal["spike", "shift", "stuck"]


class Canaries(NamedTuple):
    """A copy of records with anomalies in it."""

    values: FloatArray
    """Shape (N, D)."""
    where: IntArray
    """Shape (K, 2): the first record of each, and the one after its last."""


def stretches(lengths: IntArray, may: BoolArray) -> IntArray:
    """Return stretches of normal records, shape (S, 2): the first of each, and the one after its last.

    Args:
        lengths: Records of each run, shape (R,).
        may: Which records may be used, shape (N,), the newest of each run.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for start, length in zip(starts_of(lengths).tolist(), lengths.tolist(), strict=True):
        end = start + length
        first = np.arange(end - np.count_nonzero(may[start:end]), end - STRETCH + 1, STRETCH)
        found.append(np.column_stack([first, first + STRETCH]))
    return np.concatenate(found)


def make_canaries(values: FloatArray, places: IntArray, columns: IntArray, seed: int) -> Canaries:
    """Make one anomaly in every other stretch.

    A spike is one record, a shift 10 to 30 of them, moved into the direction in which some other record
    differs from the median one: features move together as they do in normal records, at the wrong time and by
    0.1 to 4 times as much, evenly on a logarithmic scale. Where something is stuck, 10 to 30 records repeat
    the first. No canary contradicts what features have to do with one another: a sharper model hears ever
    more of those, however faint, and no more incidents that people labelled.

    Args:
        values: Shape (N, D); NaN is missing and stays so.
        places: From ``stretches``, shape (S, 2).
        columns: Features that may be changed.
        seed: Of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    values = values.copy()
    normal = values[:, columns].copy()
    median = np.nanmedian(normal, axis=0)
    kinds: tuple[Kind, ...] = get_args(Kind)
    where = []
    for begin in places[1::2, 0].tolist():
        kind = kinds[rng.integers(len(kinds))]
        length = 1 if kind == "spike" else int(rng.integers(_SHORTEST, _LONGEST + 1))
        first = begin + int(rng.integers(STRETCH - _LONGEST))
        size = np.exp(rng.uniform(np.log(_SMALLEST), np.log(_LARGEST)))
        direction = np.nan_to_num(normal[rng.integers(len(normal))] - median)
        part = slice(first, first + length)
        values[part, columns] = normal[first] if kind == "stuck" else normal[part] + size * direction
        where.append((first, first + length))
    return Canaries(values, np.array(where, dtype=np.int64).reshape(-1, 2))
