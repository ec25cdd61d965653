"""Counts, binary and categorical features of training records: what the family takes them for, which values
they have, and what to do with those they cannot have."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.models.discrete_columns import DiscreteColumns
from detector.models.kinds import Kind, modelled_as
from detector.models.vocabulary import Vocabulary

MOST_CATEGORIES = 1000
"""Of one feature. The most frequent ones; all others are scored like a text never seen."""

_log = logging.getLogger(__name__)


def kinds_for(family: str, names: Sequence[str], kinds: Mapping[str, Kind]) -> tuple[Kind, ...]:
    """Return what a family takes each feature for.

    A count or a binary feature is a number like any other to a family that knows nothing better: it is
    scaled, and predicted from the past. The log says so.

    Args:
        family: Its name.
        names: Of the D features.
        kinds: What their values are, by name; continuous where nothing is said.

    Raises:
        ValueError: A feature is categorical, and the family has no use for texts.
    """
    taken: list[Kind] = []
    for name in names:
        kind = kinds.get(name, "continuous")
        try:
            taken.append(modelled_as(kind, family))
        except ValueError as error:
            raise ValueError(f"feature {name!r} {error}") from error
        if taken[-1] != kind:
            _log.info("family %s takes feature %r, a %s, for a plain number", family, name, kind)
    return tuple(taken)


def without_impossible(values: FloatArray, names: Sequence[str], kinds: Sequence[Kind]) -> FloatArray:
    """Return the records with values that are no count, or not 0 or 1, taken as missing; the log says so.

    Args:
        values: Shape (N, D).
        names: Of the D features.
        kinds: What the family takes them for.

    Raises:
        ValueError: More than half of a feature's values are of that sort.
    """
    for j, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        column = values[:, j]
        impossible = _impossible(column, kind)
        if not impossible.any():
            continue
        n, what = int(impossible.sum()), "0, 1, 2, ..." if kind == "count" else "0 or 1"
        text = (
            f"feature {name!r} is declared {kind}, but {n} of its values are not {what} "
            f"(such as {column[impossible][0]:g})"
        )
        if 2 * n > np.count_nonzero(~np.isnan(column)):
            raise ValueError(f"{text}; declare it continuous")
        _log.warning("%s; they count as missing in training", text)
        values = values.copy()
        values[impossible, j] = np.nan
    return values


def _impossible(column: FloatArray, kind: Kind) -> BoolArray:
    if kind == "count":
        possible = (column >= 0) & (column == np.floor(column))
    elif kind == "binary":
        possible = (column == 0) | (column == 1)
    else:
        return np.zeros(len(column), dtype=np.bool_)
    return np.asarray(~possible & ~np.isnan(column))


def discrete_columns(
    values: FloatArray, texts: Mapping[float, str], kinds: Sequence[Kind]
) -> DiscreteColumns | None:
    """Return the discrete columns with their vocabularies, None where all are continuous.

    Args:
        values: Records that shape the model, shape (N, D), categories as in a batch.
        texts: The text behind every number of a categorical feature.
        kinds: What the family takes the D features for.
    """
    if all(kind == "continuous" for kind in kinds):
        return None
    return DiscreteColumns(
        kinds,
        [_vocabulary(values[:, j], texts) if kind == "categorical" else None for j, kind in enumerate(kinds)],
    )


def _vocabulary(column: FloatArray, texts: Mapping[float, str]) -> Vocabulary:
    """Return the texts that occur, most frequent first, of equally frequent ones in alphabetical order."""
    codes, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    ranked = sorted(
        (-count, texts[code]) for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    )
    return Vocabulary([text for _, text in ranked[:MOST_CATEGORIES]])
