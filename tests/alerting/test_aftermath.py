"""Tests for detector.alerting.aftermath: echoes end incidents, and levels that stay become normal."""

import numpy as np
import pytest

from detector.alerting.aftermath import AFTERMATH_STATE, initial_aftermath, judge_aftermath
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray

MINUTE_S = 60.0
RULES = AlertRules(release_after_s=6 * 3600.0)
RNG = np.random.default_rng(4)


def judged(score: FloatArray, rules: AlertRules = RULES, batch: int | None = None) -> FloatArray:
    state, found = initial_aftermath(1), []
    for start in range(0, len(score), batch or len(score)):
        part = score[start : start + (batch or len(score))]
        time = MINUTE_S * np.arange(start, start + len(part), dtype=np.float64)
        after, own = judge_aftermath(state, part, time, np.array([len(part)]), rules)
        state = state if after is None else after
        found.append(own)
    return np.concatenate(found)


def noisy(level: float, n: int) -> FloatArray:
    return np.asarray(RNG.uniform(0.9 * level, 1.1 * level, n))


def test_quiet_records_and_short_incidents_keep_their_scores() -> None:
    score = np.concatenate([noisy(0.3, 50), noisy(3.0, 10), noisy(0.3, 20), noisy(1.5, 5)])
    np.testing.assert_array_equal(judged(score), score)


def test_what_is_far_weaker_than_a_long_strong_incident_ends_it() -> None:
    found = judged(np.concatenate([noisy(5.0, 200), noisy(1.5, 50)]))
    assert (found[:200] >= 1.0).all()
    assert (found[200:] < 0.7).all()


def test_an_incident_keeps_the_scores_of_its_own_records() -> None:
    score = noisy(5.0, 200)
    np.testing.assert_array_equal(judged(score), score)


def test_after_calm_a_weaker_incident_counts_in_full() -> None:
    score = np.concatenate([noisy(5.0, 200), noisy(0.3, 5), noisy(1.5, 50)])
    np.testing.assert_array_equal(judged(score)[205:], score[205:])


def test_a_level_that_stays_becomes_normal_and_what_stands_out_of_it_is_suspicious() -> None:
    shift = noisy(3.0, 1200)
    shift[1000:1010] = 6.0
    found = judged(shift)
    assert (found[:361] >= 1.0).all()
    assert (found[362:1000] < 1.0).all()
    assert (found[362:1000] < 0.7).mean() > 0.5
    np.testing.assert_array_equal(found[1000:1010], shift[1000:1010])
    assert (found[1010:] < 1.0).all()


def test_without_a_release_a_level_stays_suspicious() -> None:
    assert (judged(noisy(3.0, 1200), AlertRules()) >= 1.0).all()


def test_a_second_level_on_top_becomes_normal_in_its_turn() -> None:
    found = judged(np.concatenate([noisy(3.0, 500), noisy(9.0, 900)]))
    assert (found[500:860] >= 1.0).all()
    assert (found[-400:] < 1.0).all()


def test_the_old_level_is_normal_when_it_returns_and_the_new_one_news_after_it() -> None:
    found = judged(np.concatenate([noisy(3.0, 500), noisy(0.3, 60), noisy(3.0, 60)]))
    assert (found[500:560] < 0.7).all()
    assert (found[560:] >= 1.0).all()


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_of_any_size_give_the_same_scores(batch: int) -> None:
    score = np.concatenate([noisy(3.0, 500), noisy(9.0, 100), noisy(0.3, 60), noisy(2.0, 60)])
    np.testing.assert_array_equal(judged(score, batch=batch), judged(score))


def test_entities_are_followed_apart() -> None:
    quiet, loud = noisy(0.3, 600), noisy(3.0, 600)
    time = np.tile(MINUTE_S * np.arange(600.0), 2)
    lengths = np.array([600, 600])
    state, found = judge_aftermath(initial_aftermath(2), np.concatenate([quiet, loud]), time, lengths, RULES)
    np.testing.assert_array_equal(found, np.concatenate([quiet, judged(loud)]))
    assert state is not None
    assert state["open"].tolist() == [False, True]
    assert (state[:1] == np.zeros(1, AFTERMATH_STATE)).all()
