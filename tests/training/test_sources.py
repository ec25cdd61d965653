"""Tests for detector.training.sources."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from detector.batch import Batch, Source
from detector.models.vocabulary import category_code
from detector.training import sources
from detector.training.newest_records import concatenated
from detector.training.sources import DEFAULT_ENTITY, SourceError, read_file, read_parts

NOON = 1_700_049_600.0  # 2023-11-15T12:00:00Z


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_rows_keep_their_order_and_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path / "new.csv", "entity,cpu,time,mem\n007,0.5,2023-11-15T12:00:05Z,1\nb,,1700049600,2\n"
    )
    with pytest.raises(SourceError, match="row 2, column 'time' is '1700049600'"):
        read_file(path)  # one column, one way to write times
    written(path, "entity,cpu,time,mem\n007,0.5,2023-11-15T12:00:05Z,1\nb,,2023-11-15T12:00:00Z,2\n")
    batch = read_file(path)
    assert batch.feature_names == ("cpu", "mem")
    assert batch.entity == ["007", "b"]
    assert batch.time.tolist() == [NOON + 5, NOON]
    np.testing.assert_array_equal(batch.values, [[0.5, 1.0], [np.nan, 2.0]])
    assert batch.sources == (Source("new.csv", 0),)
    assert batch.offset.tolist() == [0, 1]


def test_csv_and_parquet_of_the_same_rows_read_the_same(tmp_path: Path) -> None:
    csv = read_file(written(tmp_path / "a.csv", "time,cpu,mem\n1700049600,0.5,\n1700049601,NaN,3\n"))
    table = pa.table({"time": [1700049600, 1700049601], "cpu": [0.5, np.nan], "mem": [None, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    parquet = read_file(tmp_path / "a.parquet")
    np.testing.assert_array_equal(csv.values, parquet.values)
    np.testing.assert_array_equal(csv.values, [[0.5, np.nan], [np.nan, 3.0]])
    assert csv.time.tolist() == parquet.time.tolist() == [NOON, NOON + 1]
    assert csv.entity == parquet.entity == [DEFAULT_ENTITY] * 2


@pytest.mark.parametrize(
    ("written_time", "seconds"),
    [
        ("2023-11-15T12:00:00Z", NOON),
        ("2023-11-15t12:00:00z", NOON),
        ("2023-11-15 12:00:00", NOON),
        ("2023-11-15", NOON - 12 * 3600),
        ("2023-11-15T14:00:00.25+02:00", NOON + 0.25),
        ("2023-11-15T07:00:00-0500", NOON),
        ("1700049600", NOON),
        ("1700049600.5", NOON + 0.5),
        ("1700049600500", NOON + 0.5),
        ("99999999999", 99999999999.0),
        ("100000000000", 1e8),
    ],
)
def test_times_of_every_accepted_form(tmp_path: Path, written_time: str, seconds: float) -> None:
    batch = read_file(written(tmp_path / "a.csv", f"time,cpu\n{written_time},1\n"))
    assert batch.time.tolist() == [seconds]


@pytest.mark.parametrize("bad", ["yesterday", "", "nan", "inf", "2023-13-01", "12:00", "1700049600000000"])
def test_unusable_time_names_its_row(tmp_path: Path, bad: str) -> None:
    good = "1700049600" if bad in ("nan", "inf", "1700049600000000") else "2023-11-15T12:00:00Z"
    path = written(tmp_path / "a.csv", f"time,cpu\n{good},1\n{bad},1\n")
    with pytest.raises(SourceError, match="row 2, column 'time'"):
        read_file(path)


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Asia/Tokyo")],
)
def test_parquet_timestamps_are_instants_and_naive_ones_are_utc(tmp_path: Path, kind: pa.DataType) -> None:
    stamps = pa.array([1_700_049_600], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(kind.unit))
    column = stamps if kind.tz is None else stamps.cast(kind)
    pq.write_table(pa.table({"time": column, "cpu": [1.0]}), tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet").time.tolist() == [NOON]


def test_named_features_come_in_the_order_asked_for_and_others_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a,team,b\n1700049600,1,shop,2\n")
    batch = read_file(path, ["b", "a"])
    assert batch.feature_names == ("b", "a")
    assert batch.values.tolist() == [[2.0, 1.0]]


def test_column_that_is_not_numeric_is_never_dropped_silently(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a,team,b\n1700049600,1,shop,2\n")
    with pytest.raises(
        SourceError, match=r"'team' is not numeric \(row 1: 'shop'\).*--kind team=categorical.*--features a,b"
    ):
        read_file(path)


def texts(batch: Batch, j: int) -> list[str | None]:
    return [batch.category_texts.get(code) for code in batch.values[:, j].tolist()]


def test_text_is_a_feature_where_it_is_declared_to_be_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,method,code,n\n1700049600,GET,007,1\n1700049601,,7,2\n")
    batch = read_file(path, kinds={"method": "categorical", "code": "categorical", "n": "count"})
    assert batch.feature_names == ("method", "code", "n")
    assert texts(batch, 0) == ["GET", None]
    assert texts(batch, 1) == ["007", "7"]
    np.testing.assert_array_equal(batch.values[:, 0], [category_code("GET"), np.nan])
    assert batch.values[:, 2].tolist() == [1.0, 2.0]


def test_categories_of_parquet_may_be_dictionaries_numbers_or_booleans(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": [1700049600, 1700049601, 1700049602],
            "method": pa.array(["GET", None, "PUT"]).dictionary_encode(),
            "status": [200, 404, 200],
            "level": [1.0, None, 2.5],
            "up": [True, False, None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    batch = read_file(
        tmp_path / "a.parquet",
        kinds={"method": "categorical", "status": "categorical", "level": "categorical", "up": "categorical"},
    )
    assert texts(batch, 0) == ["GET", None, "PUT"]
    assert texts(batch, 1) == ["200", "404", "200"]
    assert texts(batch, 2) == ["1", None, "2.5"]
    assert texts(batch, 3) == ["true", "false", None]


def test_booleans_are_0_and_1_where_they_are_declared_binary(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,up\n1700049600,true\n1700049601,\n1700049602,false\n")
    np.testing.assert_array_equal(read_file(path, kinds={"up": "binary"}).values.ravel(), [1.0, np.nan, 0.0])
    with pytest.raises(SourceError, match=r"'up' is not numeric \(row 1: True\).*kind: binary"):
        read_file(path)


def test_what_is_no_flag_is_named_by_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,up\n1700049600,true\n1700049601,maybe\n")
    with pytest.raises(SourceError, match=r"row 2: .maybe.\); a flag is 0, 1, or a boolean, true or"):
        read_file(path, ["up"], {"up": "binary"})


def test_labels_are_read_as_text_and_are_no_features(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a,bad,shift\n1700049600,1,0,night\n1700049601,2,1,\n")
    batch = read_file(path, labels=["shift", "bad"])
    assert batch.feature_names == ("a",)
    assert batch.labels == {"shift": ["night", None], "bad": ["0", "1"]}
    with pytest.raises(SourceError, match="no column 'regime'"):
        read_file(path, ["a"], labels=["regime"])
    with pytest.raises(SourceError, match="'bad' is a label and a feature"):
        read_file(path, ["bad"], labels=["bad"])


def test_kind_of_something_that_is_no_feature_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a,b\n1700049600,1,0\n")
    with pytest.raises(SourceError, match="'c' has a kind but is no feature; these are: a, b"):
        read_file(path, kinds={"c": "count"})


def test_column_that_cannot_be_text_or_is_infinite_is_refused(tmp_path: Path) -> None:
    table = pa.table({"time": [1700049600], "a": [[1, 2]], "b": [np.inf]})
    pq.write_table(table, tmp_path / "a.parquet")
    for name, message in (("a", "'a' is of type list"), ("b", "'b' is infinite")):
        with pytest.raises(SourceError, match=message):
            read_file(tmp_path / "a.parquet", [name], {name: "categorical"})


def test_one_bad_number_is_named_by_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a\n1700049600,1\n1700049601,1..5\n")
    with pytest.raises(SourceError, match=r"'a' is not numeric \(row 2: '1..5'\)"):
        read_file(path, ["a"])


def test_blank_column_is_missing_in_every_row(tmp_path: Path) -> None:
    batch = read_file(written(tmp_path / "a.csv", "time,a,b\n1700049600,1,\n1700049601,2,\n"))
    assert batch.feature_names == ("a", "b")
    assert np.isnan(batch.values[:, 1]).all()


def test_infinity_names_its_row_and_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time,a,b\n1700049600,1,2\n1700049601,1,-inf\n")
    with pytest.raises(SourceError, match="row 2, column 'b' is infinite"):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,a\n1700049600,1\n", "no column 'b'; the file has time, a"),
        ("a,b\n1,1\n", "no column 'time'"),
        ("time,b,b\n1700049600,1,2\n", "column 'b' appears twice"),
        ("time,b\n", "no rows"),
        ("", "cannot be read"),
        ("time,entity,b\n1700049600,,1\n", "row 1 names no entity"),
    ],
)
def test_unusable_file_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_file(written(tmp_path / "a.csv", text), ["b"])


def test_file_of_another_kind_or_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"unknown kind of file '\.xlsx'"):
        read_file(tmp_path / "a.xlsx")
    with pytest.raises(SourceError, match="cannot be read"):
        read_file(tmp_path / "absent.csv")


HALF_HOURS = "".join(
    f"{1700049600 + 1800 * i},{'ab'[i % 2]},{i / 2},{'on' if i % 2 else 'off'}\n" for i in range(5)
)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_parts_of_a_file_together_are_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(sources, "_ROWS_OF_A_PART", 2)
    path = written(tmp_path / "a.csv", f"time,entity,cpu,up\n{HALF_HOURS}")
    if suffix == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa_csv.read_csv(tmp_path / "a.csv"), path)
    options: dict[str, Any] = {"kinds": {"up": "categorical"}, "labels": ()}
    whole, parts = read_file(path, ["cpu", "up"], **options), [*read_parts(path, ["cpu", "up"], **options)]
    assert [len(part) for part in parts] == [2, 2, 1]
    joined = concatenated(parts)
    for name in ("entity", "category_texts", "sources"):
        assert getattr(joined, name) == getattr(whole, name)
    for name in ("time", "offset", "values"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_bad_value_in_a_later_part_is_named_by_its_row_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(sources, "_ROWS_OF_A_PART", 2)
    path = written(tmp_path / "a.csv", "time,cpu\n" + "1700049600,1.5\n" * 4 + "1700049600,inf\n")
    if suffix == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa_csv.read_csv(tmp_path / "a.csv"), path)
    with pytest.raises(SourceError, match="row 5, column 'cpu' is infinite"):
        list(read_parts(path, ["cpu"], {}, ()))
