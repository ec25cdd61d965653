"""Tests for benchmarks.scoring_speed: that it runs, and what it concludes from given rates."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scoring_speed
from benchmarks.scoring_speed import Row, main, make_rows, print_table


def test_measures_every_row_in_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_speed, "SHORTEST_MEASUREMENT_S", 0.0)
    out = tmp_path / "rates.json"
    main(["--quick", "--json", str(out)])
    rates = np.array(json.loads(out.read_text()))
    assert rates.shape == (len(make_rows()), 3)
    assert (rates > 0).all()
    printed = capsys.readouterr().out
    for name in ("GMM", "HMM", "naive Bayes", "VAE", "RBM", "GAN", "p-values"):
        assert f"\n{name}" in printed


def test_a_bar_is_judged_by_the_median_round(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Row("even", print, bar=2.0), Row("below", print, bar=2.0), Row("free", print)]
    print_table(rows, [[9.0, 2.0, 1.0], [1.0, 1.9, 9.0], [1.0, 1.0, 1.0]])
    *_, even, below, free = capsys.readouterr().out.splitlines()
    assert even.endswith("met")
    assert below.endswith("MISSED")
    assert not free.endswith(("met", "MISSED"))
