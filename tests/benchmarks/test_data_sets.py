"""Tests for benchmarks.data_sets."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data_sets import READERS, DataError, entities, read
from tests.benchmarks.made_data import write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_each_set_lists_its_series(data: Path) -> None:
    assert {name: entities(data, name) for name in READERS} == {
        "adbench": ["table"],
        "smd": ["server"],
        "asd": ["server"],
    }


def test_a_series_is_its_training_rows_and_then_those_to_score(data: Path) -> None:
    arrays = np.load(data / "smd" / "server.npz")
    series = read(data, "smd", "server", seed=0)
    np.testing.assert_array_equal(series.train, arrays["train"])
    np.testing.assert_array_equal(series.test, arrays["test"])
    np.testing.assert_array_equal(series.test_labels, arrays["label"] == 1)
    assert series.ordered
    assert not series.labels[: series.n_train].any()
    assert set(np.diff(series.time)) == {60.0}


def test_a_table_is_shuffled_by_the_seed_and_keeps_rows_and_labels_together(data: Path) -> None:
    arrays = np.load(data / "adbench" / "table.npz")
    first, again, other = (read(data, "adbench", "table", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
    assert (first.n_train, len(first.test), first.ordered) == (280, 120, False)
    label_of = {tuple(row): label for row, label in zip(arrays["X"], arrays["y"], strict=True)}
    assert [label_of[tuple(row)] for row in first.values] == first.labels.tolist()


def test_a_detector_is_given_no_labels(data: Path) -> None:
    series = read(data, "asd", "server", seed=0)
    batch = series.batch(290, 310)
    np.testing.assert_array_equal(batch.values, series.values[290:310])
    assert batch.entity == ["server"] * 20
    assert batch.labels == {}


def test_an_absent_folder_says_where_and_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.smd holds no \.npz file.*--data"):
        entities(tmp_path / "nowhere", "smd")


def test_a_file_without_its_arrays_is_named(data: Path) -> None:
    np.savez(data / "smd" / "odd.npz", train=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"odd\.npz has no array \['test', 'label'\]"):
        read(data, "smd", "odd", seed=0)


def test_labels_of_another_length_are_refused(data: Path) -> None:
    np.savez(data / "adbench" / "odd.npz", X=np.zeros((3, 2)), y=np.zeros(2))
    with pytest.raises(DataError, match="do not fit each other"):
        read(data, "adbench", "odd", seed=0)
