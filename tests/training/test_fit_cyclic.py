"""Tests for detector.training.fit_cyclic and detector.models.cyclic."""

import numpy as np
import pytest

from detector.batch import FloatArray, IntArray
from detector.models.cyclic import CyclicPredictor
from detector.training.fit_cyclic import fit_cyclic

MINUTE_S = 60.0
START_S = 1.7e9 + 1234.0


def waves(n: int, records: float, rng: np.random.Generator, noise: float = 0.1) -> FloatArray:
    """One feature with a peak in each cycle, shape (n, 1)."""
    share = np.mod(np.arange(n) / records, 1.0)
    return np.asarray((np.exp(-(((share - 0.5) / 0.1) ** 2)) * 3.0 + noise * rng.normal(size=n))[:, None])


def fitted(z: FloatArray, interval_s: float = MINUTE_S, *lengths: int) -> CyclicPredictor:
    of = np.array(lengths or (len(z),))
    return fit_cyclic(z, times(of, interval_s), of, np.arange(len(of)), len(of) + 1)


def times(lengths: IntArray, interval_s: float = MINUTE_S) -> FloatArray:
    return np.concatenate([START_S + interval_s * np.arange(float(n)) for n in lengths])


def left_over(own: CyclicPredictor, z: FloatArray, model: int = 0) -> FloatArray:
    time, all_rows = times(np.array([len(z)])), np.array([len(z)])
    return z - own.scan(own.initial_state(1), z, time, all_rows, np.array([model])).expected


@pytest.mark.parametrize("records", [7.0, 24.0, 60.0, 37.4, 200.0])
def test_a_cycle_is_found_and_what_is_usual_in_it(records: float) -> None:
    rng = np.random.default_rng(0)
    own = fitted(waves(2400, records, rng))
    assert own.period_s == pytest.approx(records * MINUTE_S, rel=2e-3)
    found = left_over(own, waves(4000, records, rng))[2400:]
    assert found.std() < 0.25


def test_a_round_period_is_exact() -> None:
    own = fitted(waves(2000, 60.0, np.random.default_rng(1), noise=0.5))
    assert own.period_s == 3600.0


def test_missing_values_and_gaps_are_no_hindrance() -> None:
    rng = np.random.default_rng(2)
    z = waves(3000, 30.0, rng)
    z[rng.random(z.shape) < 0.2] = np.nan
    kept = np.ones(3000, dtype=bool)
    kept[1000:1200] = False
    time = times(np.array([3000]))[kept]
    own = fit_cyclic(z[kept], time, np.array([2800]), np.array([0]), 2)
    assert own.period_s == 1800.0
    assert np.isfinite(own.profile).all()
    assert np.isfinite(own.spread).all()


def test_an_entity_has_a_profile_of_its_own() -> None:
    rng = np.random.default_rng(3)
    first = waves(1500, 20.0, rng)
    own = fitted(np.vstack([first, -first]), MINUTE_S, 1500, 1500)
    np.testing.assert_allclose(own.profile[0], -own.profile[1], atol=0.1)
    assert np.abs(own.profile[2]).max() < 0.1 * np.abs(own.profile[0]).max()


@pytest.mark.parametrize("stays", [0.0, 0.9, 1.0])
def test_what_goes_in_no_cycle_is_refused(stays: float) -> None:
    rng, z = np.random.default_rng(4), np.zeros((2000, 1))
    for t in range(1, len(z)):
        z[t] = stays * z[t - 1] + rng.normal()
    with pytest.raises(ValueError, match=r"no cycle of 6 to \d+ intervals of 60 s; choose another"):
        fitted(z / z.std())


def test_too_few_records_are_said_to_be() -> None:
    with pytest.raises(ValueError, match="30 records in a row are too few"):
        fitted(waves(30, 6.0, np.random.default_rng(5)))


def test_where_values_vary_more_in_one_phase_that_is_known() -> None:
    rng = np.random.default_rng(6)
    z = waves(2400, 24.0, rng)
    loud = np.arange(2400) % 24 == 3
    z[loud] += rng.normal(size=(int(loud.sum()), 1))
    own = fitted(z)
    phase = own.phase_of(times(np.array([24]))).astype(np.int64)[3]
    assert own.spread[0, phase, 0] == own.spread[0, :, 0].max() > 3.0 * np.median(own.spread[0, :, 0])
    assert np.log(own.spread).mean() == pytest.approx(0.0, abs=1e-9)


def test_a_cycle_that_changes_its_form_is_followed_and_a_missing_value_teaches_nothing() -> None:
    own = fitted(waves(2400, 24.0, np.random.default_rng(7), noise=0.01))
    changed = waves(24 * 40, 24.0, np.random.default_rng(8), noise=0.01)
    changed[5::24] += 1.0
    found = left_over(own, changed)
    assert found[5] == pytest.approx(1.0, abs=0.1)
    # A tenth is learnt by each cycle.
    assert found[5 + 24 * 10] == pytest.approx(0.9**10, abs=0.1)
    assert abs(float(found[5 + 24 * 39, 0])) < 0.1
    changed[5::24] = np.nan
    before, time = own.initial_state(1), times(np.array([len(changed)]))
    after = own.scan(before, changed, time, np.array([len(changed)]), np.array([0])).rows
    phase = own.phase_of(time[5:6]).astype(np.int64)
    assert after[0, phase] == before[0, phase] == 0.0
