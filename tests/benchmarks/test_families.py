"""Tests for benchmarks.families and its tables: that it runs, and what it concludes from given runs."""

import json
from pathlib import Path

import pytest

from benchmarks.families import main
from benchmarks.family_tables import print_bars, summary
from benchmarks.measured import Model, Run
from tests.benchmarks.made_data import write_data

GMM, PEER = Model("gmm", "none"), Model("scikit-learn GMM", "")


def test_prints_a_table_per_set_and_the_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "runs.json"
    main(["--data", str(data), "--quick", "--families", "gmm,naive_bayes", "--json", str(out)])
    printed = capsys.readouterr().out
    for title in ("adbench: 1 series", "smd: 1 series", "asd: 1 series", "mean over adbench, smd, asd"):
        assert title in printed
    assert printed.count("isolation forest") == 4
    assert "AUC-PR on smd: gmm, none / scikit-learn GMM" in printed
    runs = json.loads(out.read_text())
    # Both families under one predictor for the table, under two for each series, and five peers.
    assert len(runs) == 7 + 9 + 9
    assert [run["failure"] for run in runs] == [""] * len(runs)


def test_without_data_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no data to measure on: .*holds no"):
        main(["--data", str(tmp_path), "--sets", "smd"])


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(SystemExit, match="no family is called 'gmmm'"):
        main(["--families", "gmmm"])


def test_series_and_seeds_weigh_the_same_and_a_failure_counts_as_nothing() -> None:
    runs = [
        Run("smd", "a", GMM, 0, auc_pr=0.8, fit_s=2.0, score_s=1e-3, records=1000),
        Run("smd", "b", GMM, 0, auc_pr=0.4, fit_s=4.0, score_s=2e-3, records=500),
        Run("smd", "a", GMM, 1, auc_pr=0.4, fit_s=3.0, score_s=0.0, records=0),
        Run("smd", "b", GMM, 1, failure="broke"),
    ]
    found = summary(runs, GMM, ["smd"])
    assert (found.auc_pr, found.worst_auc_pr) == pytest.approx((0.4, 0.2))
    assert (found.fit_s, found.us_per_record, found.failed) == pytest.approx((3.0, 2.0, 1))


def test_series_without_both_kinds_of_rows_are_left_out_of_means() -> None:
    runs = [Run("adbench", "a", GMM, 0, auc_pr=float("nan")), Run("adbench", "b", GMM, 0, auc_pr=0.4)]
    assert summary(runs, GMM, ["adbench"]).auc_pr == 0.4


def test_a_bar_is_met_at_the_peer_and_missed_below(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        Run("smd", "a", GMM, 0, auc_pr=0.5, roc_auc=0.7),
        Run("smd", "a", PEER, 0, auc_pr=0.5, roc_auc=0.8),
    ]
    print_bars(runs)
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[-1] for line in lines] == ["met", "MISSED"]
