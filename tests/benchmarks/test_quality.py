"""Tests for benchmarks.quality and its tables: that it runs, and what it concludes from given runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablations import ABLATIONS, COMMITTEES
from benchmarks.data_sets import READERS, read
from benchmarks.event_metrics import EventCounts
from benchmarks.peer_alarms import ROWS, peer_answers
from benchmarks.product import Answers, answers, configuration
from benchmarks.quality import main
from benchmarks.quality_metrics import (
    AUC_PR,
    EVENT_F1,
    FALSE_ALARM_RATE,
    FALSE_ALARMS,
    POINT_F1,
    POOLED_EVENT_F1,
    WORST_FALSE_ALARMS,
    Calm,
    over_seeds,
)
from benchmarks.quality_run import QualityRun, failed, judged
from benchmarks.quality_tables import print_bars
from detector.training.default_committee import FOLLOWING, members_of_one_feature, ordered_members
from tests.benchmarks.made_data import write_data


def test_prints_a_table_per_set_calibration_and_bars(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "runs.json"
    main(["--data", str(data), "--quick", "--json", str(out)])
    printed = capsys.readouterr().out
    for data_set in READERS:
        assert f"{data_set}: 1 series" in printed
    for line in ("standard: every record*", "alarms in label-free stretches", "smd: event F1", "CPU time"):
        assert line in printed
    record = json.loads(out.read_text())
    assert record["revision"]
    assert record["configurations"] == {"default": {}}
    assert len(record["runs"]) == len(READERS) * (1 + len(ROWS))
    assert [run["failure"] for run in record["runs"]] == [""] * len(record["runs"])


def test_ablations_and_chosen_rows_stand_beside_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path / "data")
    main(["--data", str(data), "--quick", "--sets", "smd", "--rows", "default*; gmm, none"])
    table, comparison = capsys.readouterr().out.split("configurations, the first seed of each")
    for row in ("default", *ABLATIONS, "gmm, none"):
        assert f"\n{row}" in table
        assert f"\n{row}" in comparison
    assert "random " not in comparison


def test_without_data_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no data to measure on: .*holds no"):
        main(["--data", str(tmp_path), "--sets", "nab"])


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no row is called 'defualt'; there are default; random"):
        main(["--rows", "defualt"])


def test_the_configuration_is_features_and_a_budget_and_what_is_changed(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = configuration(read(data, "smd", "server", 0), 3, {"alerting": {"fire": {"m": 1, "of": 1}}})
    assert config.alerting.budget.every_s == 86400.0
    assert config.alerting.budget.per == "entity"
    assert config.alerting.fire.m == 1
    assert config.training.seed == 3
    assert configuration(read(data, "skab", "valve/1", 0), 0, {}).alerting.budget.every_s == 1000.0


OF_ONE_FEATURE = ("without drift", "without regression learnt on", "without level", "without range")


@pytest.mark.parametrize("change", [c for c in COMMITTEES if c not in OF_ONE_FEATURE])
def test_every_change_is_one_to_the_committee_to_begin_with(change: str) -> None:
    members = ordered_members("autoregressive", {"cpu": "continuous", "memory": "continuous"})
    assert COMMITTEES[change](members, 1000) != members
    assert COMMITTEES["without level"]([*members, FOLLOWING], 1000) == members


def test_every_change_to_the_committee_of_one_feature_is_one() -> None:
    members = members_of_one_feature()
    for change in OF_ONE_FEATURE:
        assert COMMITTEES[change](members, 1000) != members


def test_what_no_configuration_turns_off_is_taken_out(tmp_path: Path) -> None:
    series = read(write_data(tmp_path / "data"), "nab", "cloud/cpu", 0)
    both, one = answers(series, 0, {}), answers(series, 0, {"committee": "with first member alone"})
    assert not np.array_equal(both.anomaly, one.anomaly)


@pytest.mark.parametrize("row", ROWS)
def test_plain_detectors_answer_for_every_row_to_test(tmp_path: Path, row: str) -> None:
    series = read(write_data(tmp_path / "data"), "ms_cloud", "service/rate", 0)
    answers = peer_answers(series, row, seed=0)
    assert answers.anomaly.shape == answers.anomaly_score.shape == (len(series.test),)
    np.testing.assert_array_equal(answers.alarm, answers.anomaly_score >= 1.0)
    assert not np.isnan(answers.anomaly).any()


def test_a_run_holds_every_figure(tmp_path: Path) -> None:
    series = read(write_data(tmp_path / "data"), "nab", "cloud/cpu", 0)
    alarm = np.zeros(510, dtype=bool)
    alarm[[100, 412, 413]] = True
    run = judged(
        series, "row", 0, Answers(alarm.astype(float), alarm.astype(float), alarm, 0, 0.0, 0.0), None
    )
    assert run.events == EventCounts(1, 1, 1, run.events.days)
    assert run.events.days == pytest.approx(510 * 300 / 86400)
    assert (run.true_positives, run.false_positives, run.false_negatives) == (2, 1, 18)
    assert run.delays == (2,)
    assert run.recall_at_best == 1.0
    assert run.calm_alarms == 1
    assert run.nab is not None
    assert np.flatnonzero(run.nab.own).tolist() == [100, 412]


def test_what_breaks_counts_as_nothing(tmp_path: Path) -> None:
    series = read(write_data(tmp_path / "data"), "smd", "server", 0)
    run = failed(series, "row", 0, "ValueError: no")
    assert (run.auc_pr, run.best_f1, run.recall_at_best, run.events.f1) == (0.0, 0.0, 0.0, 0.0)
    assert (run.false_negatives, run.unscored) == (10, 100)


def test_rows_without_a_score_are_the_least_anomalous(tmp_path: Path) -> None:
    series = read(write_data(tmp_path / "data"), "smd", "server", 0)
    anomaly = series.test_labels.astype(float)
    anomaly[series.test_labels] = np.nan
    silent = np.zeros(len(anomaly), dtype=bool)
    assert judged(series, "row", 0, Answers(anomaly, anomaly, silent, 0, 0.0, 0.0), None).roc_auc == 0.0


A = QualityRun(
    "smd",
    "a",
    "default",
    0,
    prevalence=0.1,
    auc_pr=0.8,
    events=EventCounts(2, 2, 2, 2.0),
    true_positives=8,
    false_positives=2,
    false_negatives=2,
    true_negatives=88,
)
B = replace(A, entity="b", auc_pr=0.4, events=EventCounts(4, 0, 8, 2.0))
CALM = replace(
    A, entity="c", prevalence=0.0, auc_pr=float("nan"), events=EventCounts(0, 0, 0, 2.0), false_positives=50
)


def test_means_are_over_entities_that_have_events_and_pooled_counts_over_all() -> None:
    runs = [A, B, CALM]
    assert AUC_PR.of(runs) == pytest.approx(0.6)
    assert EVENT_F1.of(runs) == pytest.approx((4 / 6 + 0) / 2)
    assert POOLED_EVENT_F1.of(runs) == pytest.approx(4 / 18)
    assert FALSE_ALARMS.of(runs) == pytest.approx((1 + 4 + 0) / 3)
    assert WORST_FALSE_ALARMS.of(runs) == 4.0
    # Records of series that have anomalies.
    assert POINT_F1.of(runs) == pytest.approx(0.8)
    assert FALSE_ALARM_RATE.of(runs) == pytest.approx(100 * 4 / 180)


def test_the_worst_seed_is_the_lowest_where_high_is_good_and_else_the_highest() -> None:
    runs = [A, replace(A, seed=1, auc_pr=0.6, events=EventCounts(2, 2, 6, 2.0))]
    assert over_seeds(runs, AUC_PR) == pytest.approx((0.7, 0.6))
    assert over_seeds(runs, FALSE_ALARMS) == pytest.approx((2.0, 3.0))


def test_alarms_in_calm_time_are_judged_by_half_and_twice_the_expected_number() -> None:
    # Poisson quantiles from a table: 2.5 % of mean 5 is 1, 97.5 % of mean 20 is 29.
    assert (Calm(10.0, 0).lowest, Calm(10.0, 0).highest) == (1.0, 29.0)
    verdicts = [Calm(10.0, observed).verdict for observed in (0, 1, 29, 30)]
    assert verdicts == ["MISSED", "met", "met", "MISSED"]
    assert Calm(9.0, 5).verdict == "too little time to judge"


def test_a_bar_is_met_by_the_worst_seed(capsys: pytest.CaptureFixture[str]) -> None:
    print_bars([A, replace(A, seed=1, auc_pr=0.5)])
    lines = capsys.readouterr().out.strip().splitlines()
    assert [("MISSED" in line, " met" in line) for line in lines] == [
        (True, False),
        (False, True),
        (True, False),
        (False, True),
    ]
