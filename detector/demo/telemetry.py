"""The six servers: their telemetry, moved in time so that it ends now, and what really happened to them."""

import csv
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detector.batch import Batch
from detector.demo.evaluation import Incident
from detector.training.sources import read_file

INTERVAL_S = 300.0
# The wheel carries the data inside the package; a clone has it among the examples.
_FOLDERS = (Path(__file__).parent / "data", Path(__file__).parents[2] / "examples" / "servers")


class DemoDataError(RuntimeError):
    """The example data is not where it was installed."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What the demonstration sends."""

    records: Batch
    """In time order, all servers at each time."""
    incidents: tuple[Incident, ...]
    """By server, each in time order."""
    shift_s: float
    """Seconds added to the times of the data."""

    @property
    def servers(self) -> list[str]:
        """The servers' names."""
        return list(dict.fromkeys(self.records.entity))


def data_folder() -> Path:
    """Return where the example data is.

    Raises:
        DemoDataError: It is nowhere.
    """
    for folder in _FOLDERS:
        if (folder / "test.parquet").is_file():
            return folder
    raise DemoDataError(
        f"the example data is in none of {', '.join(map(str, _FOLDERS))}; install the package again, "
        "or run from a clone"
    )


def load_telemetry(folder: Path, servers: int, ends_at_s: float) -> Telemetry:
    """Read the records to send, of the first few servers.

    Args:
        folder: The example data.
        servers: How many of the six.
        ends_at_s: Event time of the last record, seconds since 1970; all times move with it.
    """
    batch = read_file(folder / "test.parquet")
    names = list(dict.fromkeys(batch.entity))[:servers]
    batch = batch.take(np.array([entity in names for entity in batch.entity]))
    shift_s = float(np.floor(ends_at_s)) - float(batch.time.max())
    order = np.argsort(batch.time, kind="stable")
    records = replace(
        batch,
        entity=[batch.entity[i] for i in order],
        time=batch.time[order] + shift_s,
        values=batch.values[order],
    )
    with (folder / "incidents.csv").open(encoding="utf-8", newline="") as file:
        incidents = tuple(
            Incident(row["entity"], _seconds(row["start"]) + shift_s, _seconds(row["end"]) + shift_s)
            for row in csv.DictReader(file)
            if row["entity"] in names
        )
    return Telemetry(records, incidents, shift_s)


def write_training_file(folder: Path, telemetry: Telemetry, path: Path) -> int:
    """Write the training part of the same servers, moved in time alike, and return its rows."""
    table = pq.read_table(folder / "train.parquet")
    table = table.filter(pc.is_in(table["entity"], pa.array(telemetry.servers)))
    stamp = pa.timestamp("s", tz="UTC")
    seconds = pc.cast(pc.cast(table["time"], stamp), pa.int64())
    time = pc.cast(pc.add(seconds, int(telemetry.shift_s)), stamp)
    table = table.set_column(table.column_names.index("time"), "time", time)
    pq.write_table(table, path)
    rows: int = table.num_rows
    return rows


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
