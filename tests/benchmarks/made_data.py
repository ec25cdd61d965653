"""A folder of data in the forms of the public sets, small and drawn by hand."""

from pathlib import Path

import numpy as np


def write_data(folder: Path) -> Path:
    """Write one table and one series per set of time series; every tenth row to score is far off."""
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
    return folder
