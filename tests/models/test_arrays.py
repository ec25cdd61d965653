"""Tests for detector.models.arrays."""

import numpy as np
import pytest

from detector.models.arrays import take, take_count, take_distribution


def test_returns_an_array_that_fits() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert take({"a": array}, "a", (None, 3)) is array


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (None, (2,), "'a' is absent"),
        (np.zeros(3), (2,), r"shape \(3,\), expected \(2\)"),
        (np.zeros((0, 2)), (None, 2), r"expected \(any, 2\)"),
        (np.zeros((2, 2)), (2,), r"shape \(2, 2\)"),
        (np.array([1.0, np.nan]), (2,), "not finite"),
    ],
)
def test_refuses_what_a_model_cannot_be_rebuilt_from(
    array: np.ndarray | None, shape: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        take({} if array is None else {"a": array}, "a", shape)


@pytest.mark.parametrize("value", [-1.0, 1.5])
def test_a_count_is_a_whole_number(value: float) -> None:
    assert take_count({"a": np.array([3.0])}, "a") == 3
    with pytest.raises(ValueError, match="whole number"):
        take_count({"a": np.array([value])}, "a")


@pytest.mark.parametrize("values", [[0.5, 0.6], [1.5, -0.5]])
def test_a_distribution_sums_to_one_without_negative_parts(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no distribution"):
        take_distribution({"a": np.array(values)}, "a", (2,))
