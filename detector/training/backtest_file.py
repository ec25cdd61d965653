"""What a backtest says, one row per input row: a CSV or Parquet file of scores."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detector.batch import Batch, FloatArray, Scores, Status

COLUMNS = (
    "time",
    "entity",
    "status",
    "log_likelihood",
    "p_value",
    "anomaly_score",
    "exceeds_threshold",
    "alert",
)


def check_suffix(path: Path) -> None:
    """Refuse a file name whose format is unknown, before any work is done.

    Raises:
        ValueError: The suffix is neither ``.csv`` nor ``.parquet`` nor ``.pq``.
    """
    if path.suffix.lower() not in (".csv", ".parquet", ".pq"):
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; write to a .csv or .parquet file")


def write_backtest(path: Path, batch: Batch, scores: Scores, latent: FloatArray | None = None) -> None:
    """Write N rows, those of ``batch`` in its order, to a CSV or Parquet file.

    Columns ``latent_0``, ``latent_1``, ... follow where ``latent``, shape (N, L), is given.

    ``log_likelihood``, ``p_value``, ``anomaly_score``, ``exceeds_threshold`` and those are empty (null in
    Parquet) unless ``status`` is ``scored``; ``alert`` says whether the row belongs to what fires, not to the
    calm for which an alert that came back stays open. ``time`` is RFC 3339 in UTC in CSV, a timestamp in
    Parquet.

    Raises:
        ValueError: The suffix is unknown.
    """
    check_suffix(path)
    unscored = scores.status != Status.SCORED
    latent = np.empty((len(batch), 0)) if latent is None else latent
    names = [*COLUMNS, *(f"latent_{i}" for i in range(latent.shape[1]))]
    texts = {int(status): status.text for status in Status}
    status = [texts[code] for code in scores.status.tolist()]
    if path.suffix.lower() == ".csv":
        numbers = [
            _blanked(column.tolist(), unscored.tolist())
            for column in (scores.log_likelihood, scores.p_value, scores.anomaly_score, *latent.T)
        ]
        exceeds = _blanked(_words(scores.exceeds_threshold.tolist()), unscored.tolist())
        columns = (
            rfc3339(batch.time),
            batch.entity,
            status,
            *numbers[:3],
            exceeds,
            _words(scores.alert.tolist()),
            *numbers[3:],
        )
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(*columns, strict=True))
        return
    microseconds = np.rint(batch.time * 1e6).astype(np.int64)
    table = pa.table(
        [
            pa.array(microseconds, pa.timestamp("us", tz="UTC")),
            pa.array(batch.entity, pa.string()),
            pa.array(status, pa.string()),
            pa.array(scores.log_likelihood, mask=unscored),
            pa.array(scores.p_value, mask=unscored),
            pa.array(scores.anomaly_score, mask=unscored),
            pa.array(scores.exceeds_threshold, mask=unscored),
            pa.array(scores.alert),
            *(pa.array(column, mask=unscored) for column in latent.T),
        ],
        names=names,
    )
    pq.write_table(table, path)


def rfc3339(time: FloatArray) -> list[str]:
    """Return times, shape (N,), as texts in UTC: whole seconds if all are whole, else microseconds."""
    whole = bool((time == np.floor(time)).all())
    stamps = time.astype("datetime64[s]") if whole else np.rint(time * 1e6).astype("datetime64[us]")
    return [f"{text}Z" for text in np.datetime_as_string(stamps).tolist()]


def _words(flags: list[bool]) -> list[str]:
    return ["true" if flag else "false" for flag in flags]


def _blanked(column: list[float] | list[str], blank: list[bool]) -> list[object]:
    return ["" if b else value for value, b in zip(column, blank, strict=True)]
