"""A folder of data in the forms of the public sets, small and drawn by hand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def write_data(folder: Path) -> Path:
    """Write one series per set; every tenth row to score is far off, in files in one piece a run of rows."""
    rng = np.random.default_rng(0)
    for data_set in ("adbench", "smd", "asd"):
        (folder / data_set).mkdir(parents=True)
    x = rng.normal(size=(400, 3))
    label = np.arange(len(x)) % 10 == 0
    x[label] += 12.0
    np.savez(folder / "adbench" / "table.npz", X=x, y=label.astype(np.int32))
    for data_set in ("smd", "asd"):
        train, test = rng.normal(size=(300, 3)), rng.normal(size=(100, 3))
        test[label[:100]] += 12.0
        np.savez(folder / data_set / "server.npz", train=train, test=test, label=label[:100].astype(np.int8))
    _write_skab(folder / "skab" / "valve", rng)
    _write_single(folder / "ms_cloud" / "service" / "rate.csv", rng, "TimeStamp,Value,Label", 3600)
    _write_single(folder / "donut_kpi" / "cpu.csv", rng, "timestamp,value,label", 300)
    _write_single(folder / "nab" / "cloud" / "cpu.csv", rng, "timestamp,value", 300)
    window = [f"{FIRST + timedelta(seconds=300 * row):%Y-%m-%d %H:%M:%S.%f}" for row in (500, 519)]
    (folder / "nab" / "windows.json").write_text(json.dumps({"cloud/cpu.csv": [window]}))
    return folder


def _write_skab(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    x = rng.normal(size=(500, 2))
    x[450:480] += 12.0
    rows = ["datetime;Current;Pressure;anomaly;changepoint"]
    for i, (current, pressure) in enumerate(x):
        anomaly = float(450 <= i < 480)
        when = f"{FIRST + timedelta(seconds=i):%Y-%m-%d %H:%M:%S}"
        rows.append(f"{when};{current:.4f};{pressure:.4f};{anomaly};0.0")
    (folder / "1.csv").write_text("\n".join(rows) + "\n")


def _write_single(path: Path, rng: np.random.Generator, header: str, interval_s: int) -> None:
    """Write 600 values, those from 500 to 519 far off, the value of row 10 missing."""
    path.parent.mkdir(parents=True)
    rows = [header]
    for i, value in enumerate(rng.normal(size=600)):
        at = FIRST + timedelta(seconds=interval_s * i)
        when = str(int(at.timestamp())) if "donut" in path.as_posix() else f"{at:%Y-%m-%dT%H:%M:%SZ}"
        far_off = 500 <= i < 520
        text = "" if i == 10 else f"{value + 12.0 * far_off:.4f}"
        rows.append(f"{when},{text}" + (f",{int(far_off)}" if "abel" in header else ""))
    path.write_text("\n".join(rows) + "\n")
