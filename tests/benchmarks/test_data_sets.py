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
        "smd": ["server"],
        "asd": ["server"],
        "skab": ["valve/1"],
        "ms_cloud": ["service/rate"],
        "nab": ["cloud/cpu"],
        "donut_kpi": ["cpu"],
        "adbench": ["table"],
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


@pytest.mark.parametrize(
    ("data_set", "n_train", "interval_s"),
    [("ms_cloud", 90, 3600.0), ("nab", 90, 300.0), ("donut_kpi", 90, 300.0), ("skab", 400, 1.0)],
)
def test_a_file_in_one_piece_is_trained_on_its_beginning(
    data: Path, data_set: str, n_train: int, interval_s: float
) -> None:
    (entity,) = entities(data, data_set)
    series = read(data, data_set, entity, seed=0)
    assert (series.n_train, series.interval_s) == (n_train, interval_s)
    assert series.time[0] == 1_704_067_200.0
    first, last = (450, 479) if data_set == "skab" else (500, 519)
    assert series.events.tolist() == [[first - n_train, last - n_train]]
    assert np.flatnonzero(series.labels).tolist() == list(range(first, last + 1))
    assert series.values[first].mean() > 6.0


def test_an_empty_cell_is_a_missing_value(data: Path) -> None:
    series = read(data, "ms_cloud", "service/rate", seed=0)
    assert np.flatnonzero(np.isnan(series.values[:, 0])).tolist() == [10]


def test_an_event_that_began_in_training_is_cut_off_there(data: Path) -> None:
    path = data / "donut_kpi" / "cpu.csv"
    header, *rows = path.read_text().splitlines()
    rows[80:95] = [row[:-1] + "1" for row in rows[80:95]]
    path.write_text("\n".join([header, *rows]) + "\n")
    assert read(data, "donut_kpi", "cpu", seed=0).events.tolist() == [[0, 4], [410, 429]]


def test_records_stand_for_days_where_there_are_none(data: Path) -> None:
    server, pump = read(data, "smd", "server", seed=0), read(data, "skab", "valve/1", seed=0)
    assert server.test_days.sum() == pytest.approx(100 / 1440)
    assert pump.test_days.sum() == pytest.approx(100 / 1000)


def test_a_file_without_its_columns_is_named(data: Path) -> None:
    (data / "donut_kpi" / "odd.csv").write_text("when,value\n1,2\n")
    with pytest.raises(DataError, match=r"odd\.csv has no column \['timestamp', 'label'\]"):
        read(data, "donut_kpi", "odd", seed=0)


def test_a_file_of_which_no_anomalies_are_listed_is_named(data: Path) -> None:
    (data / "nab" / "cloud" / "odd.csv").write_text("timestamp,value\n2024-01-01 00:00:00,2\n")
    with pytest.raises(DataError, match=r"windows\.json does not say which anomalies cloud/odd\.csv has"):
        read(data, "nab", "cloud/odd", seed=0)


def test_a_detector_is_given_no_labels(data: Path) -> None:
    series = read(data, "asd", "server", seed=0)
    batch = series.batch(290, 310)
    np.testing.assert_array_equal(batch.values, series.values[290:310])
    assert batch.entity == ["server"] * 20
    assert batch.labels == {}


def test_an_absent_folder_says_where_and_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.smd holds no \*\.npz file.*--data"):
        entities(tmp_path / "nowhere", "smd")


def test_a_file_without_its_arrays_is_named(data: Path) -> None:
    np.savez(data / "smd" / "odd.npz", train=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"odd\.npz has no array \['test', 'label'\]"):
        read(data, "smd", "odd", seed=0)


def test_labels_of_another_length_are_refused(data: Path) -> None:
    np.savez(data / "adbench" / "odd.npz", X=np.zeros((3, 2)), y=np.zeros(2))
    with pytest.raises(DataError, match="do not fit each other"):
        read(data, "adbench", "odd", seed=0)
