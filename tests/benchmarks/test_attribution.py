"""Tests for benchmarks.attribution: what is put into the rows."""

import numpy as np
import pytest

from benchmarks.attribution import KINDS, LASTS, PAST, with_anomaly


@pytest.mark.parametrize("kind", KINDS)
def test_an_anomaly_is_in_one_feature_and_after_the_past(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(PAST + LASTS, 3))
    before = values.copy()
    changed = with_anomaly(values, kind, 1, 5.0, np.where(np.arange(LASTS) % 2, -1.0, 1.0))
    np.testing.assert_array_equal(values, before)
    moved = np.argwhere(changed != values)
    assert set(moved[:, 1]) == {1}
    assert moved[:, 0].min() == PAST
    if kind == "stuck":
        assert np.ptp(changed[PAST - 1 :, 1]) == 0.0
    else:
        np.testing.assert_allclose(np.abs(changed - values)[moved[:, 0], 1], 5.0)
    assert len(moved) == (1 if kind == "spike" else LASTS)
