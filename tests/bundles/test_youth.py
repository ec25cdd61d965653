"""Tests for detector.bundles.youth: what counts as the records of an entity."""

import numpy as np
import pytest

from detector.bundles.youth import enough_rows, records_of_an_entity


@pytest.mark.parametrize(
    ("counts", "usual"),
    [
        ([], 0),
        ([0, 0], 0),
        ([7], 7),
        ([500, 500, 500], 500),
        # Three hosts, and thirty containers that came and went.
        ([480, 500, 510, *[4] * 30], 500),
        ([900, *[1] * 2000], 1),
    ],
)
def test_half_of_all_records_are_of_entities_with_as_many(counts: list[int], usual: int) -> None:
    assert records_of_an_entity(np.array(counts, dtype=np.int64)) == usual


@pytest.mark.parametrize(("entities", "each"), [(1, 2000), (3, 667), (6, 334), (7, 300), (1000, 300)])
def test_entities_share_what_they_show_of_rare_surprise(entities: int, each: int) -> None:
    assert enough_rows(entities) == each
