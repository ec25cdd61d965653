"""Labelled public series that detection is measured on: one shape for all sets, a reader for each.

They are no part of this repository. A folder of data has one folder per set:

    adbench/*.npz   X (N x D), y (N): feature vectors, a label for each (ADBench, NeurIPS 2022)
    smd/*.npz       train, test (N x 38), label: servers, a record a minute (Server Machine Dataset, KDD 2019)
    asd/*.npz       train, test (N x 19), label: servers, a record in five minutes (InterFusion, KDD 2021)

A detector sees the training rows without labels, and then the rest in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray, IntArray, Source

START_S = 1_577_836_800.0
"""Where the time of a set without times of its own begins: 2020-01-01 UTC."""
LARGEST_ADBENCH_ROWS = 50_000
"""Of a larger set a seeded sample is taken."""
_ADBENCH_TRAINING_SHARE = 0.7


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
    n_train: int
    """The first so many rows are for training."""
    ordered: bool
    """Whether a row follows from those before it; the rows of a table do not."""

    @property
    def train(self) -> FloatArray:
        return self.values[: self.n_train]

    @property
    def test(self) -> FloatArray:
        return self.values[self.n_train :]

    @property
    def test_labels(self) -> BoolArray:
        return self.labels[self.n_train :]

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
    """Return the names of a set's series, sorted.

    Raises:
        DataError: There is no such set, or its folder holds no series.
    """
    if data_set not in READERS:
        raise DataError(f"no set is called {data_set!r}; there are {', '.join(READERS)}")
    folder = data / data_set
    found = sorted(path.stem for path in folder.glob("*.npz"))
    if not found:
        raise DataError(
            f"{folder} holds no .npz file; give the folder that has {', '.join(READERS)} as folders "
            "with --data, or leave the set out with --sets"
        )
    return found


def read(data: Path, data_set: str, entity: str, seed: int) -> Series:
    """Read one series; the seed shuffles sets whose rows are independent.

    Raises:
        DataError: The file lacks an array, or arrays do not fit each other.
    """
    return READERS[data_set](data / data_set / f"{entity}.npz", seed)


def _read_adbench(path: Path, seed: int) -> Series:
    arrays = _arrays(path, "X", "y")
    values, labels = arrays["X"], arrays["y"].astype(bool)
    _check_rows(path, values, labels)
    order = np.random.default_rng(seed).permutation(len(values))[:LARGEST_ADBENCH_ROWS]
    return _series(
        path,
        values[order],
        labels[order],
        n_train=int(_ADBENCH_TRAINING_SHARE * len(order)),
        interval_s=60.0,
        ordered=False,
    )


def _read_smd(path: Path, _seed: int) -> Series:
    return _train_and_test(path, interval_s=60.0)


def _read_asd(path: Path, _seed: int) -> Series:
    return _train_and_test(path, interval_s=300.0)


READERS: dict[str, Callable[[Path, int], Series]] = {
    "adbench": _read_adbench,
    "smd": _read_smd,
    "asd": _read_asd,
}
"""Every set: from a file and a seed to its series."""


def _train_and_test(path: Path, interval_s: float) -> Series:
    arrays = _arrays(path, "train", "test", "label")
    train, test, label = arrays["train"], arrays["test"], arrays["label"].astype(bool)
    _check_rows(path, test, label)
    return _series(
        path,
        np.vstack([train, test]),
        np.concatenate([np.zeros(len(train), dtype=bool), label]),
        n_train=len(train),
        interval_s=interval_s,
        ordered=True,
    )


def _series(
    path: Path, values: FloatArray, labels: BoolArray, *, n_train: int, interval_s: float, ordered: bool
) -> Series:
    rows: IntArray = np.arange(len(values))
    return Series(
        data_set=path.parent.name,
        entity=path.stem,
        feature_names=tuple(f"f{j}" for j in range(values.shape[1])),
        time=(START_S + interval_s * rows).astype(np.float64),
        values=values.astype(np.float64),
        labels=labels,
        n_train=n_train,
        ordered=ordered,
    )


def _arrays(path: Path, *names: str) -> dict[str, FloatArray]:
    with np.load(path, allow_pickle=False) as file:
        absent = [name for name in names if name not in file.files]
        if absent:
            raise DataError(f"{path} has no array {absent}, only {file.files}")
        return {name: file[name] for name in names}


def _check_rows(path: Path, values: FloatArray, labels: BoolArray) -> None:
    if values.ndim != 2 or labels.shape != (len(values),):
        raise DataError(f"{path}: rows {values.shape} and labels {labels.shape} do not fit each other")
