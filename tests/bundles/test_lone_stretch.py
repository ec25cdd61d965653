"""Tests for detector.bundles.lone_stretch."""

import numpy as np
import pytest

from detector.alerting.budget import HeldOut
from detector.batch import FloatArray
from detector.bundles.lone_stretch import lone_stretch

N = 3000


def held_out(p_value: FloatArray, *lengths: int) -> HeldOut:
    of_each = np.array(lengths or (p_value.size,))
    time: FloatArray = 60.0 * np.arange(float(p_value.size))
    return HeldOut(p_value, of_each, 60.0 * of_each, time)


def uniform(seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).permutation(N) + 1.0) / (N + 1)


def test_rare_records_here_and_there_are_no_stretch() -> None:
    assert all(lone_stretch(held_out(uniform(seed))) is None for seed in range(20))


def test_an_incident_is_told_with_its_times() -> None:
    p_value = np.sort(uniform())
    incident, rest = p_value[:400], np.random.default_rng(1).permutation(p_value[400:])
    said = lone_stretch(held_out(np.concatenate([rest[:1000], np.sort(incident), rest[1000:]])))
    assert said is not None
    # The rarest sixty records are its first hour.
    assert said.startswith("one stretch, 1970-01-01T16:40:00Z to 1970-01-01T17:27:00Z, has 80% of")
    scattered = np.random.default_rng(2).permutation(incident)
    assert lone_stretch(held_out(np.concatenate([rest[:1000], scattered, rest[1000:]]))) is not None


@pytest.mark.parametrize("apart", [500, 1000])
def test_two_that_lie_far_apart_are_no_single_one(apart: int) -> None:
    p_value = np.sort(uniform())
    rest = np.random.default_rng(1).permutation(p_value[60:])
    pieces = [rest[:1000], p_value[:30], rest[1000 : 1000 + apart], p_value[30:60], rest[1000 + apart :]]
    assert (lone_stretch(held_out(np.concatenate(pieces))) is None) == (apart == 1000)


def test_what_ends_one_entity_and_begins_another_are_two_stretches() -> None:
    p_value = np.sort(uniform())
    rest = np.random.default_rng(1).permutation(p_value[60:])
    rows = np.concatenate([rest[:1000], p_value[:60], rest[1000:]])
    assert lone_stretch(held_out(rows)) is not None
    assert lone_stretch(held_out(rows, 1030, N - 1030)) is None


def test_few_records_say_nothing() -> None:
    assert lone_stretch(held_out(np.linspace(0.001, 1.0, 500))) is None
