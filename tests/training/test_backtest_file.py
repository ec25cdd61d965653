"""Tests for detector.training.backtest_file."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from detector.batch import Batch, Scores, Source, Status
from detector.training.backtest_file import COLUMNS, rfc3339, write_backtest
from detector.training.sources import read_file

BATCH = Batch(
    input="file",
    feature_names=("cpu",),
    sources=(Source("new.csv", 0),),
    source=np.zeros(3, dtype=np.int64),
    offset=np.arange(3),
    entity=["a", 'b,"c"', "a"],
    time=np.array([1.7e9, 1.7e9, 1.7e9 + 60]),
    values=np.array([[1.0], [2.0], [3.0]]),
)
SCORES = Scores(
    detector="backtest",
    role="champion",
    version="v",
    status=np.array([Status.SCORED, Status.WARMING_UP, Status.SCORED], dtype=np.int8),
    log_likelihood=np.array([-1.25, np.nan, -np.inf]),
    p_value=np.array([0.5, np.nan, 1 / 3]),
    anomaly_score=np.array([0.1, np.nan, 2.0]),
    exceeds_threshold=np.array([False, False, True]),
    alert=np.array([False, False, True]),
)


def test_csv_has_one_row_per_input_row_and_blanks_unless_scored(tmp_path: Path) -> None:
    write_backtest(tmp_path / "out.csv", BATCH, SCORES)
    rows = list(csv.reader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert rows == [
        list(COLUMNS),
        ["2023-11-14T22:13:20Z", "a", "scored", "-1.25", "0.5", "0.1", "false", "false"],
        ["2023-11-14T22:13:20Z", 'b,"c"', "warming_up", "", "", "", "", "false"],
        ["2023-11-14T22:14:20Z", "a", "scored", "-inf", repr(1 / 3), "2.0", "true", "true"],
    ]


def test_parquet_holds_the_same_numbers_exactly(tmp_path: Path) -> None:
    write_backtest(tmp_path / "out.parquet", BATCH, SCORES)
    table = pq.read_table(tmp_path / "out.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table["p_value"].to_pylist() == [0.5, None, 1 / 3]
    assert table["exceeds_threshold"].to_pylist() == [False, None, True]
    assert table["alert"].to_pylist() == [False, False, True]
    assert table["entity"].to_pylist() == BATCH.entity
    assert read_file(tmp_path / "out.parquet", ["p_value"]).time.tolist() == BATCH.time.tolist()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_what_is_behind_each_row_follows_where_it_is_given(tmp_path: Path, name: str) -> None:
    latent = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    write_backtest(tmp_path / name, BATCH, SCORES, latent)
    if name == "out.csv":
        rows = list(csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines()))
        assert rows[0] == [*COLUMNS, "latent_0", "latent_1"]
        assert [row[-3:] for row in rows[1:]] == [
            ["false", "0.25", "0.75"],
            ["false", "", ""],
            ["true", "1.0", "0.0"],
        ]
    else:
        table = pq.read_table(tmp_path / name)
        assert table.column_names == [*COLUMNS, "latent_0", "latent_1"]
        assert table["latent_1"].to_pylist() == [0.75, None, 0.0]


def test_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown kind of file '\.txt'"):
        write_backtest(tmp_path / "out.txt", BATCH, SCORES)
    assert list(tmp_path.iterdir()) == []


def test_fractions_of_a_second_are_kept() -> None:
    assert rfc3339(np.array([0.0, 1.5])) == ["1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:01.500000Z"]
