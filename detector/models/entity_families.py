"""A family for each of many entities, all of one kind, with the pooled one for every other entity.

What differs between families of the same kind is their arrays, so a bundle keeps those of all entities as
one array each, with the entity as first axis. A call touches hundreds of them with a few records each: a
mixture gathers the parameters of each record's own (``stacked_gaussians.py``); other families are called
one after the other.
"""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take
from detector.models.contract import Arrays, Explanation, Family
from detector.models.families import family_from_arrays
from detector.models.gmm import Gmm
from detector.models.stacked_gmm import StackedGmm

_PLACE = "place"
_SHAPES = "/shapes"


class EntityFamilies:
    """E families and the pooled one; every row is scored by the one of its entity.

    Args:
        own: E families of the same kind and the same sizes as the pooled one.
        pooled: What scores all other entities.
        place: For each of the M models of entities, the last one being the pooled, the index of its
            family in ``own``, or E for the pooled one; shape (M,).

    Raises:
        ValueError: The families differ in kind or in sizes, or a place is out of range.
    """

    def __init__(self, own: Sequence[Family], pooled: Family, place: IntArray) -> None:
        expected = _kind(pooled)
        for family in own:
            if _kind(family) != expected:
                raise ValueError(
                    f"an entity's {_kind(family)} cannot stand beside a pooled {expected}; "
                    "train the bundle again"
                )
        if place.size == 0 or place.min() < 0 or place.max() > len(own) or place[-1] != len(own):
            raise ValueError(
                f"places of families must lie in [0, {len(own)}], the last one {len(own)}, pooled; "
                "train the bundle again"
            )
        self._own = tuple(own)
        self._families = (*own, pooled)
        self._place = place
        mixtures = [family for family in self._families if isinstance(family, Gmm)]
        self._stacked = StackedGmm(mixtures) if mixtures else None

    @property
    def n_models(self) -> int:
        """M."""
        return len(self._place)

    @property
    def warmup_records(self) -> int:
        """The longest that any of the families needs."""
        return max(family.warmup_records for family in self._families)

    def own(self) -> IntArray:
        """Return the models of entities that have a family of their own, rising."""
        return np.flatnonzero(self._place < len(self._own))

    def of(self, model: int) -> Family:
        """Return the family that scores an entity's model."""
        return self._families[int(self._place[model])]

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray, model: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Score runs of records as ``Family.scan``, each by its entity's family; ``model`` has shape (E,)."""
        place = self._place[model]
        of_row = np.repeat(place, lengths)
        if self._stacked is not None:
            return rows, self._stacked.log_likelihood(x, of_row)
        if len(place) == 1:
            return self.of(int(model[0])).scan(rows, x, gap_s, lengths)
        after, log_likelihood = np.empty_like(rows), np.empty(len(x))
        for (p, entities), (_, records) in zip(_by_key(place), _by_key(of_row), strict=True):
            after[entities], log_likelihood[records] = self._families[p].scan(
                rows[entities], x[records], gap_s[records], lengths[entities]
            )
        return after, log_likelihood

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, model: IntArray) -> Explanation:
        """Explain one record of each of N entities as ``Family.explain``; ``model`` has shape (N,)."""
        explanation = Explanation(*(np.empty(x.shape) for _ in range(3)))
        for p, records in _by_key(self._place[model]):
            part = self._families[p].explain(rows[records], x[records], gap_s[records])
            explanation.nats[records] = part.nats
            explanation.expected[records] = part.expected
            explanation.std[records] = part.std
        return explanation

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, model: IntArray) -> FloatArray:
        """Return what is behind one record of each of N entities as ``Family.latent``; ``model`` is (N,)."""
        result = np.empty((len(x), self._families[-1].latent_size))
        for p, records in _by_key(self._place[model]):
            result[records] = self._families[p].latent(rows[records], x[records], gap_s[records])
        return result

    def arrays(self) -> Arrays:
        """Return the own families' arrays, stacked, ready for safetensors; the pooled one's are its own."""
        each = [family.arrays() for family in self._own]
        result: Arrays = {_PLACE: self._place.astype(np.float64)}
        for name in each[0] if each else ():
            result |= _stack(name, [arrays[name] for arrays in each])
        return result

    @classmethod
    def from_arrays(cls, arrays: Arrays, pooled: Family) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            ValueError: An array is absent or does not fit the others.
        """
        place = take(arrays, _PLACE, (None,)).astype(np.int64)
        stacked = {name: array for name, array in arrays.items() if name != _PLACE}
        each = _unstack(stacked, int(place[-1]))
        return cls([family_from_arrays(pooled.name, own) for own in each], pooled, place)


def _kind(family: Family) -> str:
    sizes = f"{family.state_size} values of state, {family.latent_size} latent ones"
    return f"{family.name} over {family.n_features} features ({sizes})"


def _by_key(keys: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Yield each of the keys, rising, and where it stands in ``keys``, rising."""
    order = np.argsort(keys, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(keys[order])) + 1, len(keys))
    start = 0
    for end in ends.tolist() if len(keys) else ():
        yield int(keys[order[start]]), order[start:end]
        start = end


def _stack(name: str, each: list[FloatArray]) -> Arrays:
    """Return arrays of E families as one, shape (E, ...); where shapes differ, end to end, and the shapes."""
    if len({array.shape for array in each}) == 1:
        return {name: np.stack(each)}
    return {
        name: np.concatenate([array.ravel() for array in each]),
        name + _SHAPES: np.array([array.shape for array in each], dtype=np.float64),
    }


def _unstack(arrays: Arrays, n_families: int) -> list[Arrays]:
    """Return the arrays of each of E families, which ``_stack`` had put together.

    Raises:
        ValueError: An array does not hold E families.
    """
    each: list[Arrays] = [{} for _ in range(n_families)]
    for name, array in arrays.items():
        if name.endswith(_SHAPES):
            continue
        parts = list(array)
        if name + _SHAPES in arrays:
            shapes = take(arrays, name + _SHAPES, (n_families, None)).astype(np.int64)
            ends = np.cumsum(shapes.prod(axis=1))
            if (shapes < 0).any() or array.shape != (ends[-1],):
                raise ValueError(
                    f"array {name!r} has shape {array.shape}, its shapes say ({ends[-1]},); "
                    "train the bundle again"
                )
            pieces = np.split(array, ends[:-1])
            parts = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        if len(parts) != n_families:
            raise ValueError(
                f"array {name!r} is of {len(parts)} families, expected {n_families}; train the bundle again"
            )
        for family, part in zip(each, parts, strict=True):
            family[name] = part
    return each
