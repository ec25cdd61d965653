"""Tests for detector.models.tiles: the promise that batch size, position and neighbours change no bit."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.tiles import map_tiles

SHAPES = [(1, 1), (1, 8), (2, 3), (3, 24), (10, 80), (19, 152), (38, 64), (200, 400)]


@pytest.mark.parametrize("tile", [16, 32, 64, 128])
@pytest.mark.parametrize(("n_inputs", "n_outputs"), SHAPES)
def test_a_product_depends_neither_on_position_nor_on_neighbours(
    tile: int, n_inputs: int, n_outputs: int
) -> None:
    rng = np.random.default_rng(n_inputs)
    weight, record = rng.normal(size=(n_outputs, n_inputs)), rng.normal(size=n_inputs)
    alone = np.zeros((1, n_inputs, tile))
    alone[0, :, 0] = record
    expected = np.matmul(weight, alone)[0, :, 0]
    for position in range(tile):
        crowd = rng.normal(size=(3, n_inputs, tile))
        crowd[1, :, position] = record
        np.testing.assert_array_equal(np.matmul(weight, crowd)[1, :, position], expected)


def test_batch_size_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(40, 7)), rng.normal(size=(1000, 7))

    def product(rows: FloatArray) -> FloatArray:
        return map_tiles(lambda columns: np.matmul(weight, columns), rows, 40, 32, 40)

    together = product(x)
    for n in (1, 2, 31, 32, 33, 500):
        np.testing.assert_array_equal(product(x[:n]), together[:n])


@pytest.mark.parametrize("floats_per_record", [1, 40, 10**9])
def test_is_the_product_in_the_order_of_the_records(floats_per_record: int) -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(5, 3)), rng.normal(size=(333, 3))
    result = map_tiles(lambda columns: np.matmul(weight, columns), x, 5, 16, floats_per_record)
    np.testing.assert_allclose(result, x @ weight.T, rtol=1e-12, atol=1e-12)


def test_no_records_give_no_results() -> None:
    assert map_tiles(lambda columns: columns, np.empty((0, 4)), 4, 16, 4).shape == (0, 4)
