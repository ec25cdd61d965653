"""Tests for detector.models.local_time."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.local_time import UTC, LocalTime

CHANGES = LocalTime(np.array([0.0, 100.0, 200.0]), np.array([10.0, 70.0, 10.0]))


def test_an_offset_holds_from_its_instant_on_and_the_first_and_last_beyond() -> None:
    time = np.array([-50.0, 0.0, 99.0, 100.0, 199.0, 200.0, 1e9])
    assert (CHANGES.of(time) - time).tolist() == [10, 10, 10, 70, 70, 10, 10]
    assert CHANGES.of(np.empty(0)).shape == (0,)


def test_utc_leaves_times_and_bundles_as_they_are() -> None:
    time = np.array([-0.1, 0.0, 1.8e9 + 1e-6])
    np.testing.assert_array_equal(UTC.of(time), time)
    assert UTC.arrays() == {}
    np.testing.assert_array_equal(LocalTime.from_arrays({}).of(time), time)


def test_what_is_kept_comes_back() -> None:
    again = LocalTime.from_arrays(CHANGES.arrays())
    np.testing.assert_array_equal(again.from_s, CHANGES.from_s)
    np.testing.assert_array_equal(again.offset_s, CHANGES.offset_s)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(np.zeros((0, 2)), id="none"),
        pytest.param(np.zeros((2, 3)), id="width"),
        pytest.param(np.zeros(2), id="flat"),
        pytest.param(np.array([[0.0, np.nan]]), id="no number"),
        pytest.param(np.array([[5.0, 0.0], [5.0, 3600.0]]), id="the same instant twice"),
    ],
)
def test_offsets_that_make_no_clock_are_refused(changes: FloatArray) -> None:
    with pytest.raises(ValueError, match="utc_offset"):
        LocalTime.from_arrays({"utc_offset": changes})
