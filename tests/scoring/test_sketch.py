"""Tests for detector.scoring.sketch: a young calibration that counts on."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.scoring.sketch import BLOCK, Sketch

RNG = np.random.default_rng(6)
MINUTE_S = 60.0
FEW = RNG.exponential(size=60) - 0.7


def p_values(common: FloatArray, *, interval_s: float = MINUTE_S, batches: int | None = None) -> FloatArray:
    sketch = Sketch.fit(FEW)
    rows, found = sketch.initial_state(1), []
    size = batches or len(common)
    for start in range(0, len(common), size):
        part = common[start : start + size]
        time = interval_s * np.arange(start, start + len(part), dtype=np.float64)
        rows, p_value = sketch.scan(rows, part, time, np.ones(len(part), dtype=bool), np.array([len(part)]))
        found.append(p_value)
    return np.concatenate(found)


def test_p_values_fall_with_surprise_and_never_reach_zero() -> None:
    p_value = p_values(np.linspace(-2.0, 1e6, BLOCK))
    assert ((p_value > 0) & (p_value <= 1)).all()
    assert (np.diff(p_value) <= 0).all()


def test_after_a_while_p_values_are_those_of_the_traffic() -> None:
    traffic = RNG.exponential(size=20_000) - 0.7
    p_value = p_values(traffic)[5_000:]
    for level in (0.5, 0.1, 0.02):
        assert (p_value <= level).mean() == pytest.approx(level, rel=0.25)


def test_an_incident_is_not_counted_but_its_peak_is_once_it_is_over() -> None:
    calm = RNG.exponential(size=30 * BLOCK) - 0.7
    before = p_values(np.append(calm, 40.0))[-1]
    once = np.concatenate([calm, np.full(50, 40.0), RNG.exponential(size=2 * BLOCK) - 0.7, [40.0]])
    found = p_values(once)
    assert before < 1e-3
    assert before < found[-1] < 100 * before
    # While it lasts, it is as improbable as at its first record.
    np.testing.assert_array_equal(found[30 * BLOCK : 30 * BLOCK + 50], before)


def test_what_lasts_for_long_becomes_normal() -> None:
    calm, for_a_day = RNG.exponential(size=10 * BLOCK) - 0.7, np.full(1440, 40.0)
    p_value = p_values(np.concatenate([calm, for_a_day]))
    assert p_value[10 * BLOCK] < 0.0015
    assert p_value[-1] > 0.1


def test_many_records_in_a_minute_count_as_one() -> None:
    calm, shifted = RNG.exponential(size=10 * BLOCK) - 0.7, RNG.exponential(size=10 * BLOCK) + 2.0
    slow, fast = (
        np.median(p_values(np.concatenate([calm, shifted]), interval_s=s)[-BLOCK:]) for s in (60.0, 1.0)
    )
    assert slow > 2 * fast


def test_batches_of_any_size_give_the_same_bits() -> None:
    traffic = RNG.exponential(size=700) - 0.7
    traffic[200:240] += 60.0
    whole = p_values(traffic, interval_s=7.0)
    for size in (1, 37, 64, 100):
        np.testing.assert_array_equal(p_values(traffic, interval_s=7.0, batches=size), whole)


def test_entities_count_for_themselves() -> None:
    sketch = Sketch.fit(FEW)
    calm, loud = np.zeros(2 * BLOCK), np.full(2 * BLOCK, 2.0)
    time = MINUTE_S * np.arange(2 * BLOCK, dtype=np.float64)
    scored, lengths = np.ones(4 * BLOCK, dtype=bool), np.array([2 * BLOCK, 2 * BLOCK])
    both = np.concatenate([calm, loud]), np.tile(time, 2)
    _, p_value = sketch.scan(sketch.initial_state(2), *both, scored, lengths)
    _, alone = sketch.scan(sketch.initial_state(1), loud, time, scored[: 2 * BLOCK], lengths[:1])
    np.testing.assert_array_equal(p_value[2 * BLOCK :], alone)


def test_arrays_give_the_same_sketch_and_others_are_refused() -> None:
    sketch = Sketch.fit(FEW)
    again = Sketch.from_arrays(sketch.arrays())
    assert again.low == sketch.low
    np.testing.assert_array_equal(again.counts, sketch.counts)
    with pytest.raises(ValueError, match="must be"):
        Sketch.from_arrays({"low": np.zeros(1), "counts": np.zeros(3)})
