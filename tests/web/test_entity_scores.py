"""Tests for detector.web.entity_scores: which entities have a series, and with which value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.web.entity_scores import GENERATION_S, STICKY_S, EntityScores


def names(n: int) -> list[str]:
    return [f"host-{i}" for i in range(n)]


def fed(cap: int, scores: list[float], now_s: float = 0.0) -> EntityScores:
    table = EntityScores(cap)
    table.update("d", np.arange(len(scores)), names(len(scores)), np.array(scores), now_s)
    return table


def test_every_entity_has_a_series_below_the_cap() -> None:
    series, dropped = fed(3, [0.1, 0.2, 0.3]).series({}, 0.0)
    assert series == {("d", "host-0"): 0.1, ("d", "host-1"): 0.2, ("d", "host-2"): 0.3}
    assert dropped == 0


def test_the_highest_have_one_above_the_cap_and_the_rest_is_counted() -> None:
    series, dropped = fed(4, [float(i) for i in range(100)]).series({}, 0.0)
    assert {entity for _, entity in series} == {"host-99", "host-98", "host-97", "host-96"}
    assert dropped == 96


@pytest.mark.parametrize("cap", [0, 1])
def test_the_smallest_caps(cap: int) -> None:
    series, dropped = fed(cap, [0.1, 0.3, 0.2]).series({}, 0.0)
    assert [entity for _, entity in series] == ["host-1"][:cap]
    assert dropped == 3 - cap


def test_firing_entities_come_first() -> None:
    series, _ = fed(2, [0.1, 5.0, 6.0, 7.0]).series({"d": {0}}, 0.0)
    assert {entity for _, entity in series} == {"host-0", "host-3"}


def test_no_peak_falls_between_two_scrapes() -> None:
    table = fed(10, [3.0])
    table.update("d", np.array([0]), names(1), np.array([0.2]), 1.0)
    assert table.series({}, GENERATION_S)[0] == {("d", "host-0"): 3.0}
    table.update("d", np.array([0]), names(1), np.array([0.4]), GENERATION_S + 1)
    assert table.series({}, 2 * GENERATION_S - 1)[0] == {("d", "host-0"): 3.0}
    assert table.series({}, 2 * GENERATION_S)[0] == {("d", "host-0"): 0.4}


def test_the_last_score_stays_when_an_entity_is_silent() -> None:
    table = fed(10, [3.0])
    table.update("d", np.array([0]), names(1), np.array([0.2]), 1.0)
    assert table.series({}, 100 * GENERATION_S)[0] == {("d", "host-0"): 0.2}


def test_of_two_records_in_a_batch_the_later_is_the_last() -> None:
    table = EntityScores(10)
    table.update("d", np.array([0, 0]), ["a", "a"], np.array([3.0, 0.2]), 0.0)
    assert table.series({}, 0.0)[0] == {("d", "a"): 3.0}
    assert table.series({}, 100 * GENERATION_S)[0] == {("d", "a"): 0.2}


def test_an_entity_without_a_score_has_no_series_and_is_not_dropped() -> None:
    table = fed(10, [np.nan, 0.5])
    assert table.series({}, 0.0) == ({("d", "host-1"): 0.5}, 0)
    assert table.entities() == {"d": 2}


def test_a_series_stays_for_minutes_after_its_entity_left_the_top() -> None:
    table = fed(4, [9.0, 8.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    table.series({}, 0.0)
    calm_s = 10 * GENERATION_S - 1
    others = np.arange(2, 8)
    table.update("d", np.arange(2), names(2), np.array([0.01, 0.01]), calm_s - 2 * GENERATION_S)
    table.update("d", others, names(8)[2:], np.array([5.0, 6.0, 0.1, 0.1, 0.1, 0.1]), calm_s)
    shown = {entity for _, entity in table.series({}, calm_s)[0]}
    assert shown == {"host-2", "host-3", "host-0", "host-1"}
    late_s = calm_s + STICKY_S + 1
    assert not {"host-0", "host-1"} & {entity for _, entity in table.series({}, late_s)[0]}


def test_a_forgotten_slot_starts_anew_under_another_name() -> None:
    table = fed(10, [3.0, 4.0])
    table.forget("d", np.array([0, 99]))
    assert table.series({}, 0.0)[0] == {("d", "host-1"): 4.0}
    table.update("d", np.array([0]), ["new"], np.array([0.5]), 1.0)
    assert table.series({}, 1.0)[0] == {("d", "new"): 0.5, ("d", "host-1"): 4.0}


def test_the_cap_is_shared_by_detectors() -> None:
    table = fed(2, [1.0, 2.0])
    table.update("e", np.arange(2), names(2), np.array([3.0, 0.5]), 0.0)
    series, dropped = table.series({}, 0.0)
    assert set(series) == {("e", "host-0"), ("d", "host-1")}
    assert dropped == 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sets(st.integers(0, 59), max_size=5),
)
def test_the_choice_agrees_with_sorting(scores: list[float], cap: int, firing: set[int]) -> None:
    firing = {slot for slot in firing if slot < len(scores)}
    series, dropped = fed(cap, scores).series({"d": firing}, 0.0)
    by_hand = sorted(range(len(scores)), key=lambda slot: (slot not in firing, -scores[slot]))[:cap]
    assert sorted(series.values()) == sorted(scores[slot] for slot in by_hand)
    assert len(series) + dropped == len(scores)


def test_a_hundred_thousand_entities_become_a_thousand_series() -> None:
    rng = np.random.default_rng(5)
    scores = rng.exponential(size=100_000)
    series, dropped = fed(1000, scores.tolist()).series({}, 0.0)
    assert len(series) == 1000
    assert dropped == 99_000
    assert min(series.values()) == np.sort(scores)[-1000]
