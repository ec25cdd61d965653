"""The columns of a record that are not continuous: neither shifted nor scaled, nor predicted."""

from collections.abc import Sequence

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.kinds import Kind
from detector.models.vocabulary import Vocabulary

# From here on doubles do not hold every whole number, and squares of less stay finite.
_LARGEST = 2.0**53


class DiscreteColumns:
    """Which of D columns are counts, binary or categorical to the family, and the latter's vocabularies.

    Args:
        kinds: Of each column, as the family takes it.
        vocabularies: Of each column, None where it is not categorical.

    Raises:
        ValueError: A column is categorical without a vocabulary, or has one without being so.
    """

    def __init__(self, kinds: Sequence[Kind], vocabularies: Sequence[Vocabulary | None]) -> None:
        self.kinds = tuple(kinds)
        self.vocabularies = tuple(vocabularies)
        for j, (kind, vocabulary) in enumerate(zip(self.kinds, self.vocabularies, strict=True)):
            if (kind == "categorical") != (vocabulary is not None):
                raise ValueError(f"feature {j} is {kind}; categorical ones have a vocabulary, no others do")
        self.columns: IntArray = np.flatnonzero([kind != "continuous" for kind in self.kinds])
        self.continuous: IntArray = np.flatnonzero([kind == "continuous" for kind in self.kinds])

    @property
    def n_categories(self) -> tuple[int, ...]:
        """Size of each column's vocabulary, 0 where it has none."""
        return tuple(0 if vocabulary is None else len(vocabulary) for vocabulary in self.vocabularies)

    def put(self, x: FloatArray, z: FloatArray) -> None:
        """Write what the family is to see into these columns of z, shape (N, D), in place.

        Counts and binary values are taken as they are, within ±2^53; categories become indices.

        Args:
            x: As in a batch, shape (N, D); NaN is missing and stays NaN.
            z: Standardised records; the columns of continuous features are left alone.
        """
        for j in self.columns.tolist():
            vocabulary = self.vocabularies[j]
            column = x[:, j]
            z[:, j] = np.clip(column, -_LARGEST, _LARGEST) if vocabulary is None else vocabulary.index(column)
