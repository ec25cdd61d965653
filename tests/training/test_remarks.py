"""Tests for detector.training.remarks: what probably is not as declared, or as before, is named."""

from dataclasses import replace

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.training.job import TrainingPlan, train
from tests.made import batch

PLAN = TrainingPlan("hosts", "gmm", predictor="none", options={"n_components": 1})
RNG = np.random.default_rng(0)
STEPS = RNG.poisson(3.0, 1000).astype(np.float64)
TOTAL = np.cumsum(STEPS)
SAWTOOTH = 40.0 + np.arange(1000.0) % 400 * 0.1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (TOTAL, True),
        (np.concatenate([TOTAL[:400], np.cumsum(STEPS[400:])]), True),
        (SAWTOOTH, False),
        (TOTAL + 20.0 * RNG.normal(size=1000), False),
        (np.zeros(1000), False),
    ],
    ids=["total", "reset", "sawtooth", "growth with noise", "constant"],
)
def test_totals_are_named(values: FloatArray, named: bool, caplog: pytest.LogCaptureFixture) -> None:
    records = batch(np.column_stack([values, RNG.normal(size=1000)]))
    train(records, PLAN, 1e9)
    assert ("the feature f0 only grows" in caplog.text) == named
    assert "f1 only grows" not in caplog.text
    caplog.clear()
    train(records, replace(PLAN, types={"f0": "counter"}), 1e9)
    assert "only grows" not in caplog.text


WAVE = np.sin(2 * np.pi * np.arange(1000.0) / 50) + 0.1 * RNG.normal(size=1000)


@pytest.mark.parametrize(("gone_from", "named"), [(700, True), (800, False), (None, False)])
def test_a_feature_that_the_newest_records_lack_is_named(
    gone_from: int | None, named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    values = RNG.normal(size=(1000, 2))
    if gone_from is not None:
        values[gone_from:, 1] = np.nan
    train(batch(values), PLAN, 1e9)
    said = "f1 comes in 100% of the older records and in 0% of the newest 30%"
    assert (said in caplog.text) == named
    assert "f0 comes" not in caplog.text


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (WAVE, None),
        (RNG.standard_t(3, size=1000), None),
        (WAVE + np.where(np.arange(1000) >= 700, 9.0, 0.0), "100%"),
        (WAVE + np.where(np.arange(1000) >= 850, 9.0, 0.0), "50%"),
        (WAVE + np.where(np.arange(1000) >= 970, 9.0, 0.0), None),
        (7.0 + np.arange(1000) % 7 * 1e-13, None),
    ],
    ids=["wave", "heavy tails", "another level", "half of it", "an incident", "rounding"],
)
def test_newest_records_unlike_all_before_are_named(
    values: FloatArray, share: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    train(batch(np.column_stack([values, RNG.normal(size=1000)])), PLAN, 1e9)
    named = [record.getMessage() for record in caplog.records if "the newest" in record.getMessage()]
    if share is None:
        assert named == []
    else:
        assert len(named) == 1
        assert named[0].startswith(f"{share} of the newest 30% of values of f0 are beyond all older ones")
