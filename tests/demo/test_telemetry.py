"""Tests for detector.demo.telemetry, on the example data itself."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from detector.demo.telemetry import INTERVAL_S, data_folder, load_telemetry, write_training_file
from detector.training.sources import read_file

NOW = 1_790_000_000.0


def test_all_six_servers_come_in_time_order_without_a_gap_and_end_now() -> None:
    telemetry = load_telemetry(data_folder(), 6, NOW + 0.7)
    batch = telemetry.records
    assert len(telemetry.servers) == 6
    assert batch.values.shape == (6 * 4320, 19)
    assert not np.isnan(batch.values).any()
    assert batch.time[-1] == NOW
    times = batch.time.reshape(4320, 6)
    assert (times == times[:, :1]).all()
    assert (np.diff(times[:, 0]) == INTERVAL_S).all()
    assert len(telemetry.incidents) == 39
    assert all(times[0, 0] <= i.start <= i.end <= NOW for i in telemetry.incidents)


def test_times_move_but_each_server_keeps_its_own_values() -> None:
    telemetry = load_telemetry(data_folder(), 2, NOW)
    original = read_file(data_folder() / "test.parquet")
    assert telemetry.servers == ["omi-1", "omi-3"]
    assert {incident.entity for incident in telemetry.incidents} == {"omi-1", "omi-3"}
    for server in telemetry.servers:
        rows = [entity == server for entity in telemetry.records.entity]
        before = [entity == server for entity in original.entity]
        np.testing.assert_array_equal(telemetry.records.values[rows], original.values[before])
        np.testing.assert_array_equal(telemetry.records.time[rows], original.time[before] + telemetry.shift_s)


def test_training_part_of_the_same_servers_ends_right_before_the_rest(tmp_path: Path) -> None:
    telemetry = load_telemetry(data_folder(), 2, NOW)
    rows = write_training_file(data_folder(), telemetry, tmp_path / "train.parquet")
    records = read_file(tmp_path / "train.parquet")
    assert rows == len(records) == 2 * 8640
    assert set(records.entity) == {"omi-1", "omi-3"}
    assert records.feature_names == telemetry.records.feature_names
    assert records.time.max() == telemetry.records.time[0] - INTERVAL_S
    original = read_file(data_folder() / "train.parquet")
    np.testing.assert_array_equal(records.values, original.values[: 2 * 8640])


def test_example_data_is_float32_small_and_carries_its_licence() -> None:
    folder = data_folder()
    assert "MIT License" in (folder / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.2e6
    for part in ("train", "test"):
        schema = pq.read_schema(folder / f"{part}.parquet")
        assert {str(schema.field(name).type) for name in schema.names if name.startswith("f")} == {"float"}
