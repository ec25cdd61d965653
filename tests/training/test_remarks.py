"""Tests for detector.training.remarks: totals that are not declared as such are named, nothing else is."""

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
