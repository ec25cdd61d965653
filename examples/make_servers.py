"""Make servers/*.parquet from the published Application Server Dataset: ``make_servers.py FOLDER``.

FOLDER holds omi-<n>.npz, each with train (T, 19), test (T, 19) and label (T,), 5 minutes apart. Nothing
is filtered, scaled or filled in. The source has no timestamps and no feature names, so both are made up.
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SERVERS = (1, 3, 5, 7, 9, 11)
INTERVAL_S = 300
START = np.datetime64("2024-01-01T00:00:00", "s")


def stamps(first: int, n: int) -> np.ndarray:
    return START + np.arange(first, first + n) * np.timedelta64(INTERVAL_S, "s")


def write_part(path: Path, parts: dict[str, np.ndarray], first: int) -> None:
    names = pa.array([name for name, rows in parts.items() for _ in rows])
    time = np.concatenate([stamps(first, len(rows)) for rows in parts.values()])
    values = np.concatenate(list(parts.values()))
    features = {f"f{j + 1:02d}": pa.array(column) for j, column in enumerate(values.T)}
    table = pa.table({"time": pa.array(time, pa.timestamp("s", tz="UTC")), "entity": names, **features})
    pq.write_table(table, path, compression="zstd", compression_level=19)


def runs(label: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], label, [0]])))
    return [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]


def main(source: Path) -> None:
    target = Path(__file__).parent / "servers"
    target.mkdir(exist_ok=True)
    servers = {f"omi-{n}": np.load(source / f"omi-{n}.npz", allow_pickle=False) for n in SERVERS}
    n_train = len(servers["omi-1"]["train"])
    write_part(target / "train.parquet", {name: s["train"] for name, s in servers.items()}, 0)
    write_part(target / "test.parquet", {name: s["test"] for name, s in servers.items()}, n_train)
    with (target / "incidents.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["entity", "start", "end"])
        for name, server in servers.items():
            time = np.datetime_as_string(stamps(n_train, len(server["label"])))
            writer.writerows((name, f"{time[a]}Z", f"{time[b]}Z") for a, b in runs(server["label"]))
    shutil.copyfile(source / "LICENSE", target / "LICENSE")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
