"""Tests for detector.models.level: what is expected follows the entity, but not its anomalies."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Prediction
from detector.models.level import HALF_LIFE_RECORDS, LevelPredictor

RNG = np.random.default_rng(4)
MINUTE_S = 60.0
BLOCK = 64
"""Records, some of the blocks after which it learns."""


def scanned(x: FloatArray, interval_s: float = MINUTE_S) -> Prediction:
    predictor = LevelPredictor(x.shape[1])
    n, one = np.array([len(x)]), np.zeros(1, dtype=np.int64)
    time = interval_s * np.arange(len(x), dtype=np.float64)
    return predictor.scan(predictor.initial_state(1), x, time, n, one)


def test_an_entity_never_seen_is_expected_as_training_was() -> None:
    prediction = scanned(RNG.normal(size=(10, 2)))
    np.testing.assert_array_equal(prediction.expected, 0.0)
    np.testing.assert_array_equal(prediction.spread, 1.0)


def test_level_and_spread_are_those_of_the_entity_after_a_while() -> None:
    x = np.array([3.0, -1.0]) + np.array([0.5, 2.0]) * RNG.normal(size=(20 * BLOCK, 2))
    prediction = scanned(x)
    assert prediction.spread is not None
    np.testing.assert_allclose(prediction.expected[-1], [3.0, -1.0], atol=0.6)
    np.testing.assert_allclose(prediction.spread[-1], [0.5, 2.0], rtol=0.3)


def test_half_is_forgotten_in_the_half_life() -> None:
    x = np.concatenate([np.zeros(50 * BLOCK), np.full(BLOCK, 3.0), np.zeros(1)])[:, None]
    x[: 50 * BLOCK, 0] += RNG.normal(size=50 * BLOCK)
    prediction = scanned(x)
    before, after = prediction.expected[50 * BLOCK, 0], prediction.expected[-1, 0]
    moved = (1 - 0.5 ** (BLOCK / HALF_LIFE_RECORDS)) * (3.0 - before)
    assert after - before == pytest.approx(moved, rel=1e-6)


def test_an_incident_teaches_nothing_and_a_level_that_stays_becomes_normal() -> None:
    x = RNG.normal(size=(40 * BLOCK, 1))
    x[20 * BLOCK : 20 * BLOCK + 200] += 50.0
    incident = scanned(x).expected[20 * BLOCK + 250, 0]
    assert abs(incident) < 1.0
    x[20 * BLOCK :] += 50.0
    stayed = scanned(x).expected[-1, 0]
    assert stayed == pytest.approx(50.0, abs=2.0)


def test_after_a_long_calm_what_training_held_is_learnt_again() -> None:
    # Ten minutes of every hour at the upper level, as in training; once, seven hours at the lower one alone.
    hourly = np.where(np.arange(60 * BLOCK) % 60 < 10, 2.2, -0.45)[:, None]
    hourly += 0.02 * RNG.normal(size=hourly.shape)
    hourly[20 * BLOCK : 20 * BLOCK + 420] = -0.45
    prediction = scanned(hourly)
    assert prediction.spread is not None
    calm, later = 20 * BLOCK + 415, slice(40 * BLOCK, None)
    distance = np.abs(hourly - prediction.expected) / prediction.spread
    assert prediction.spread[calm] < 0.2
    assert distance[later].max() < 4.0


def test_faster_records_teach_by_the_minute() -> None:
    x = np.concatenate([np.zeros(4 * BLOCK), np.full(4 * BLOCK, 0.4)])[:, None]
    x[:, 0] += 0.1 * RNG.normal(size=len(x))
    slow, fast = scanned(x).expected[-1, 0], scanned(x, interval_s=1.0).expected[-1, 0]
    assert slow > 0.3
    assert abs(fast) < 0.25


def test_a_missing_value_teaches_nothing() -> None:
    x = RNG.normal(size=(4 * BLOCK, 1)) + 2.0
    with_gaps = np.insert(x, np.arange(0, 2 * BLOCK, 8), np.nan, axis=0)
    prediction = scanned(with_gaps)
    assert np.isfinite(prediction.expected).all()
    assert prediction.expected[-1, 0] == pytest.approx(2.0, abs=0.7)


def test_batches_of_any_size_give_the_same_bits() -> None:
    predictor = LevelPredictor(2)
    entities = [RNG.normal(size=(n, 2)) * 3 for n in (300, 70, 5)]
    entities[0][100:110] = np.nan
    zeros = np.zeros(3, dtype=np.int64)
    times = [MINUTE_S * np.arange(len(x), dtype=np.float64) for x in entities]
    lengths = np.array([len(x) for x in entities])
    whole = predictor.scan(
        predictor.initial_state(3), np.vstack(entities), np.concatenate(times), lengths, zeros
    )
    rows = predictor.initial_state(1)
    parts = []
    for start in range(0, 300, 37):
        part = slice(start, min(start + 37, 300))
        one = predictor.scan(
            rows, entities[0][part], times[0][part], np.array([part.stop - start]), zeros[:1]
        )
        rows = one.rows
        parts.append(one.expected)
    np.testing.assert_array_equal(np.vstack(parts), whole.expected[:300])
    np.testing.assert_array_equal(rows, whole.rows[:1])
