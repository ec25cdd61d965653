"""Labelled public series that detection is measured on: one shape for all sets, a reader for each.

They are no part of this repository. A folder of data has one folder per set:

    smd/*.npz         train, test (N x 38), label: servers, a record a minute (OmniAnomaly, KDD 2019)
    asd/*.npz         train, test (N x 19), label: servers, a record in five minutes (InterFusion, KDD 2021)
    skab/*/*.csv      datetime;8 sensors;anomaly;changepoint: a water pump, a record a second (SKAB, GPL-3.0)
    ms_cloud/*/*.csv  TimeStamp,Value,Label: cloud services, a record a minute or an hour (Microsoft)
    nab/*/*.csv       timestamp,value, and nab/windows.json with the anomalies (Numenta Anomaly Benchmark)
    donut_kpi/*.csv   timestamp,value,label: one server, a record in five minutes (Donut, WWW 2018)
    adbench/*.npz     X (N x D), y (N): feature vectors, a label for each (ADBench, NeurIPS 2022)

A detector sees the training rows without labels, and then the rest in order. Licences stand beside the data;
SKAB's is of a kind that lets nobody copy from it without taking it over: it is read, and that is all.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray, IntArray, Source

START_S = 1_577_836_800.0
"""Where the time of a set without times of its own begins: 2020-01-01 UTC."""
LARGEST_ADBENCH_ROWS = 50_000
"""Of a larger set a seeded sample is taken."""
DAY_S = 86400.0
RECORDS_FOR_A_DAY = 1_000
"""Records that stand for a day in a set that has no days: there, budgets and rates are per so many."""
_ADBENCH_TRAINING_SHARE = 0.7
_SKAB_TRAINING_ROWS = 400
_SHARE, _MOST, _FEWEST = 0.15, 750, 60
"""Of a series that comes in one piece, the training rows: this share, but at most and at least so many."""


class DataError(RuntimeError):
    """The data are not there or not readable as their set; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Series:
    """N records of D features: the training rows, and the rows to score after them."""

    data_set: str
    entity: str
    feature_names: tuple[str, ...]
    time: FloatArray
    """Shape (N,), seconds since 1970 UTC."""
    values: FloatArray
    """Shape (N, D); NaN is missing."""
    labels: BoolArray
    """Shape (N,), whether a row is anomalous; False throughout training rows that have no labels."""
    events: IntArray
    """Shape (E, 2), first and last row of each anomaly among the rows to score, counted from the first of
    these; what was there before is cut off."""
    n_train: int
    """The first so many rows are for training."""
    interval_s: float
    """Usual time from a record to the next."""
    ordered: bool
    """Whether a row follows from those before it; the rows of a table do not."""
    has_days: bool
    """Whether false alarms are counted per day; if not, per ``RECORDS_FOR_A_DAY``."""

    @property
    def train(self) -> FloatArray:
        return self.values[: self.n_train]

    @property
    def test(self) -> FloatArray:
        return self.values[self.n_train :]

    @property
    def test_labels(self) -> BoolArray:
        return self.labels[self.n_train :]

    @property
    def day_s(self) -> float:
        """Return the time in which one false alarm is borne: a day, or what stands for one."""
        return DAY_S if self.has_days else RECORDS_FOR_A_DAY * self.interval_s

    @property
    def test_days(self) -> FloatArray:
        """Return the days, or what stands for them, from each row's predecessor to it, shape (M,)."""
        return np.diff(self.time[self.n_train - 1 :]) / self.day_s

    def batch(self, start: int, stop: int) -> Batch:
        """Return the rows from ``start`` to ``stop`` as the product reads them: without labels."""
        rows = np.arange(start, stop)
        return Batch(
            input=self.data_set,
            feature_names=self.feature_names,
            sources=(Source(self.entity, 0),),
            source=np.zeros(rows.size, dtype=np.int64),
            offset=rows,
            entity=[self.entity] * rows.size,
            time=self.time[rows],
            values=self.values[rows],
        )


def entities(data: Path, data_set: str) -> list[str]:
    """Return the names of a set's series, sorted: paths inside its folder, without the ending.

    Raises:
        DataError: There is no such set, or its folder holds no series.
    """
    if data_set not in READERS:
        raise DataError(f"no set is called {data_set!r}; there are {', '.join(READERS)}")
    folder, pattern = data / data_set, FILES[data_set]
    found = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob(pattern))
    if not found:
        raise DataError(
            f"{folder} holds no {pattern} file; give the folder that has {', '.join(READERS)} as folders "
            "with --data, or leave the set out with --sets"
        )
    return found


def smallest(data: Path, data_set: str, n: int) -> list[str]:
    """Return the names of the n series with the smallest files, sorted."""
    by_size = sorted(
        entities(data, data_set), key=lambda entity: path_of(data, data_set, entity).stat().st_size
    )
    return sorted(by_size[:n])


def path_of(data: Path, data_set: str, entity: str) -> Path:
    """Return where a series is."""
    return data / data_set / (entity + Path(FILES[data_set]).suffix)


def read(data: Path, data_set: str, entity: str, seed: int) -> Series:
    """Read one series; the seed shuffles sets whose rows are independent.

    Raises:
        DataError: The file lacks an array or a column, or these do not fit each other.
    """
    return READERS[data_set](path_of(data, data_set, entity), data_set, entity, seed)


def newest(series: Series, most: int) -> Series:
    """Return the series with at most so many of its training rows, the newest."""
    left_out = max(0, series.n_train - most)
    return replace(
        series,
        time=series.time[left_out:],
        values=series.values[left_out:],
        labels=series.labels[left_out:],
        n_train=series.n_train - left_out,
    )


def runs(marked: BoolArray) -> IntArray:
    """Return first and last row of every unbroken run of marked rows, shape (E, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return np.column_stack([edges[::2], edges[1::2] - 1])


def _read_adbench(path: Path, data_set: str, entity: str, seed: int) -> Series:
    arrays = _arrays(path, "X", "y")
    values, labels = arrays["X"], arrays["y"].astype(bool)
    _check_rows(path, values, labels)
    rng = np.random.default_rng(seed)
    train, test = _split(labels, rng.permutation(len(values))[:LARGEST_ADBENCH_ROWS])
    order = np.concatenate([rng.permutation(train), rng.permutation(test)])
    return _series(data_set, entity, values[order], labels[order], len(train), interval_s=60.0)


def _split(labels: BoolArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rows to train on and those to score, with the same share of anomalies, as ADBench does it:
    among a handful of anomalies, chance alone would decide how many a test has."""
    parts = [rows[labels[rows] == label] for label in (False, True)]
    taken = [round(_ADBENCH_TRAINING_SHARE * len(part)) for part in parts]
    train = np.concatenate([part[:n] for part, n in zip(parts, taken, strict=True)])
    test = np.concatenate([part[n:] for part, n in zip(parts, taken, strict=True)])
    return train, test


def _train_and_test(path: Path, data_set: str, entity: str, interval_s: float) -> Series:
    arrays = _arrays(path, "train", "test", "label")
    train, test, label = arrays["train"], arrays["test"], arrays["label"].astype(bool)
    _check_rows(path, test, label)
    labels = np.concatenate([np.zeros(len(train), dtype=bool), label])
    return _series(data_set, entity, np.vstack([train, test]), labels, len(train), interval_s)


def _read_smd(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    return _train_and_test(path, data_set, entity, interval_s=60.0)


def _read_asd(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    return _train_and_test(path, data_set, entity, interval_s=300.0)


def _read_skab(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    columns = _columns(path, ";", "datetime")
    # The run without anomalies has no column for them.
    anomaly = columns.pop("anomaly", None)
    columns.pop("changepoint", None)
    time = _seconds(path, columns.pop("datetime"))
    values = np.column_stack([_numbers(path, column) for column in columns.values()])
    labels = np.zeros(len(time), dtype=bool) if anomaly is None else _numbers(path, anomaly) > 0
    return _timed(data_set, entity, time, values, labels, min(_SKAB_TRAINING_ROWS, len(time)))


def _read_ms_cloud(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    columns = _columns(path, ",", "TimeStamp", "Value", "Label")
    time, values = _seconds(path, columns["TimeStamp"]), _numbers(path, columns["Value"])
    labels = _numbers(path, columns["Label"]) > 0
    return _timed(data_set, entity, time, values[:, None], labels, _first_rows(len(time)))


def _read_donut(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    columns = _columns(path, ",", "timestamp", "value", "label")
    time, values = _numbers(path, columns["timestamp"]), _numbers(path, columns["value"])
    labels = _numbers(path, columns["label"]) > 0
    return _timed(data_set, entity, time, values[:, None], labels, _first_rows(len(time)))


def _read_nab(path: Path, data_set: str, entity: str, _seed: int) -> Series:
    columns = _columns(path, ",", "timestamp", "value")
    time, values = _seconds(path, columns["timestamp"]), _numbers(path, columns["value"])
    listed = path.parents[1] / "windows.json"
    try:
        windows = json.loads(listed.read_text())[f"{entity}.csv"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{listed} does not say which anomalies {entity}.csv has: {error!r}") from error
    bounds = np.array([_seconds(path, window) for window in windows]).reshape(-1, 2)
    inside = [np.flatnonzero((time >= first) & (time <= last)) for first, last in bounds]
    events = np.array([(rows[0], rows[-1]) for rows in inside if rows.size], dtype=np.int64).reshape(-1, 2)
    labels = np.zeros(len(time), dtype=bool)
    for first, last in events:
        labels[first : last + 1] = True
    return _timed(data_set, entity, time, values[:, None], labels, nab_probation(len(time)), events)


def nab_probation(n: int) -> int:
    """Return how many of n records are not scored: NAB's rule, the first 15 %, at most 750."""
    return min(int(_SHARE * n), _MOST)


Reader = Callable[[Path, str, str, int], Series]
"""From a file, the names of set and series, and a seed."""
READERS: dict[str, Reader] = {
    "smd": _read_smd,
    "asd": _read_asd,
    "skab": _read_skab,
    "ms_cloud": _read_ms_cloud,
    "nab": _read_nab,
    "donut_kpi": _read_donut,
    "adbench": _read_adbench,
}
FILES = {
    "smd": "*.npz",
    "asd": "*.npz",
    "skab": "*/*.csv",
    "ms_cloud": "*/*.csv",
    "nab": "*/*.csv",
    "donut_kpi": "*.csv",
    "adbench": "*.npz",
}
WITHOUT_DAYS = ("skab", "adbench")


def _first_rows(n: int) -> int:
    return min(n, max(min(int(_SHARE * n), _MOST), _FEWEST))


def _series(
    data_set: str, entity: str, values: FloatArray, labels: BoolArray, n_train: int, interval_s: float
) -> Series:
    """Return a series without times of its own."""
    time = (START_S + interval_s * np.arange(len(values))).astype(np.float64)
    return _timed(data_set, entity, time, values, labels, n_train)


def _timed(
    data_set: str,
    entity: str,
    time: FloatArray,
    values: FloatArray,
    labels: BoolArray,
    n_train: int,
    events: IntArray | None = None,
) -> Series:
    """Return a series; ``events`` counts rows from the very first, and is found from labels if not given."""
    of_all = runs(labels) if events is None else events
    after = of_all[of_all[:, 1] >= n_train] - n_train
    return Series(
        data_set=data_set,
        entity=entity,
        feature_names=tuple(f"f{j}" for j in range(values.shape[1])),
        time=time,
        values=values.astype(np.float64),
        labels=labels,
        events=np.maximum(after, 0),
        n_train=n_train,
        interval_s=float(np.median(np.diff(time))),
        ordered=data_set != "adbench",
        has_days=data_set not in WITHOUT_DAYS,
    )


def _arrays(path: Path, *names: str) -> dict[str, FloatArray]:
    with np.load(path, allow_pickle=False) as file:
        absent = [name for name in names if name not in file.files]
        if absent:
            raise DataError(f"{path} has no array {absent}, only {file.files}")
        return {name: file[name] for name in names}


def _columns(path: Path, separator: str, *names: str) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter=separator)
    absent = [name for name in names if name not in header]
    if absent:
        raise DataError(f"{path} has no column {absent}, only {header}")
    return {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _numbers(path: Path, texts: list[str]) -> FloatArray:
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _seconds(path: Path, texts: list[str]) -> FloatArray:
    """Return times as seconds since 1970; those without a zone are UTC."""
    try:
        times = [datetime.fromisoformat(text) for text in texts]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return np.array([(time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() for time in times])


def _check_rows(path: Path, values: FloatArray, labels: BoolArray) -> None:
    if values.ndim != 2 or labels.shape != (len(values),):
        raise DataError(f"{path}: rows {values.shape} and labels {labels.shape} do not fit each other")
