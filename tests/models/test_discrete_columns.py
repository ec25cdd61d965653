"""Tests for detector.models.discrete_columns."""

import numpy as np
import pytest

from detector.models.discrete_columns import DiscreteColumns
from detector.models.kinds import Kind
from detector.models.vocabulary import Vocabulary, category_code

COLUMNS = DiscreteColumns(
    ["categorical", "continuous", "count", "binary"], [Vocabulary(["a", "b"]), None, None, None]
)


def test_columns_are_told_apart() -> None:
    assert COLUMNS.columns.tolist() == [0, 2, 3]
    assert COLUMNS.continuous.tolist() == [1]
    assert COLUMNS.n_categories == (2, 0, 0, 0)


def test_counts_stay_as_they_are_and_texts_become_indices() -> None:
    x = np.array(
        [
            [category_code("b"), 7.0, 5e9, 1.0],
            [category_code("z"), 7.0, -1.0, np.nan],
            [np.nan, 7.0, 0.5, 0.0],
        ]
    )
    z = np.full(x.shape, -9.0)
    COLUMNS.put(x, z)
    np.testing.assert_array_equal(
        z, [[1.0, -9.0, 5e9, 1.0], [2.0, -9.0, -1.0, np.nan], [np.nan, -9.0, 0.5, 0.0]]
    )


def test_absurd_counts_stay_where_squares_are_finite() -> None:
    z = np.zeros((1, 4))
    COLUMNS.put(np.array([[0.0, 0.0, 1.7e308, -1.7e308]]), z)
    assert np.isfinite(z**2).all()


@pytest.mark.parametrize(
    ("kind", "vocabulary"),
    [("categorical", None), ("count", Vocabulary(["a"])), ("continuous", Vocabulary([]))],
)
def test_categories_and_vocabularies_go_together(kind: Kind, vocabulary: Vocabulary | None) -> None:
    with pytest.raises(ValueError, match=f"feature 0 is {kind}"):
        DiscreteColumns([kind], [vocabulary])
