"""Tests for detector.training.report."""

from dataclasses import replace

import numpy as np
import pytest

from detector.models.kinds import Kind
from detector.scoring.generate import generate_standardised
from detector.scoring.time_scale import TimeScale
from detector.training.job import TrainingPlan, train
from detector.training.plan import MemberPlan
from detector.training.report import Curves, calibration_check, feature_ranges
from tests.made import batch

RNG = np.random.default_rng(0)


def test_uniform_p_values_lie_on_the_diagonal_and_small_ones_above_it() -> None:
    uniform = RNG.random(20_000)
    good, bad = calibration_check(uniform), calibration_check(uniform**2)
    assert good is not None
    assert bad is not None
    for point in good.points:
        assert point.observed == pytest.approx(point.p_value, abs=0.012)
    assert good.largest_deviation < 0.02
    assert bad.largest_deviation == pytest.approx(0.25, abs=0.02)
    observed = {point.p_value: point.observed for point in bad.points}
    assert observed[0.01] == pytest.approx(0.1, abs=0.01)


def test_few_p_values_are_not_judged() -> None:
    assert calibration_check(RNG.random(49)) is None


def test_ranges_are_in_units_of_the_data_and_leave_missing_values_out() -> None:
    values = np.column_stack([np.arange(101.0), np.full(101, np.nan), np.arange(101.0)])
    values[50:, 2] = np.nan
    cpu, half = feature_ranges(("cpu", "never", "half"), values)
    assert (cpu.name, cpu.missing) == ("cpu", 0.0)
    assert (cpu.minimum, cpu.low, cpu.median, cpu.high, cpu.maximum) == (0.0, 1.0, 50.0, 99.0, 100.0)
    assert (half.name, half.maximum) == ("half", 49.0)
    assert half.missing == pytest.approx(51 / 101)


def test_curves_keep_their_points_in_order_without_those_that_are_not_finite() -> None:
    curves = Curves()
    for x, value in [(1, -3.0), (2, -np.inf), (3, -1.0)]:
        curves.record("bound", "epoch", x, value)
    curves.record("other", "epoch", 1, 0.0)
    assert [(curve.measure, curve.points) for curve in curves.all()] == [
        ("bound", ((1.0, -3.0), (3.0, -1.0))),
        ("other", ((1.0, 0.0),)),
    ]


def test_bundle_reports_how_the_fit_chose() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 2)) + np.where(rng.random(900) < 0.5, -4.0, 4.0)[:, None]
    bundle = train(batch(x), TrainingPlan("hosts", "naive_bayes", predictor="none"), 1e9)
    report = bundle.manifest.members[0].report
    assert [curve.against for curve in report.training] == ["classes"]
    chosen = bundle.manifest.members[0].choices["classes"]
    assert chosen in {x for x, _ in report.training[0].points}
    assert report.generated is not None
    assert report.generated.generated.coverage > 0.8
    assert report.calibration is not None
    assert report.calibration.rows == 135


def test_what_a_committee_decides_by_is_checked_on_rows_that_calibrated_nothing_of_it() -> None:
    rng = np.random.default_rng(3)
    entities, n = 3, 2000
    x = rng.normal(size=(entities * n, 2))
    members = (MemberPlan("gmm", "none"), MemberPlan("gmm", "none", time_scale=TimeScale(0.3)))
    records = batch(x, entity=["a", "b", "c"] * n, time=np.repeat(np.arange(n) * 60.0, entities))
    plan = replace(TrainingPlan("hosts", "gmm"), learn="off").with_members(members)
    manifest = train(records, plan, 1e9).manifest
    together = manifest.report
    assert together is not None
    # A newer half of what is held out.
    assert together.calibration is not None
    assert together.calibration.rows == entities * 300
    assert together.calibration.largest_deviation < 0.08
    assert together.cost_us > 0


def test_generated_records_are_judged_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 100.0 + 3.0 * np.random.default_rng(0).normal(size=(900, 2))

    def distance() -> float:
        bundle = train(batch(x), TrainingPlan("d", "gmm", "level"), 1e9)
        quality = bundle.manifest.members[0].report.generated
        assert quality is not None
        return quality.generated.frechet_distance

    assert distance() < 0.1
    monkeypatch.setattr(
        "detector.training.report.generate_standardised",
        lambda *given: generate_standardised(*given) + 2.0,
    )
    assert distance() == pytest.approx(8.0, rel=0.2)


def test_records_without_a_number_are_judged_too() -> None:
    kinds: dict[str, Kind] = {"f0": "binary", "f1": "count"}
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.random(900) < 0.9, rng.poisson(3.0, 900)]).astype(float)
    bundle = train(batch(x), TrainingPlan("d", "naive_bayes", "none", kinds=kinds), 1e9)
    quality = bundle.manifest.members[0].report.generated
    assert quality is not None
    assert quality.generated.frechet_distance < 0.1


def test_what_missing_values_cost_is_counted() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(1500, 10))
    lost = np.where(rng.random(whole.shape) < 0.2, np.nan, whole)
    cost_us = [
        train(batch(x), TrainingPlan("d", "gmm", "none"), 1e9).manifest.members[0].report.cost_us
        for x in (whole, lost)
    ]
    # A density alone takes twice the time where values are missing; every pattern has to be calibrated.
    assert cost_us[1] > 10.0 * cost_us[0]
