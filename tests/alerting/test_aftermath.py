"""Tests for detector.alerting.aftermath: echoes end incidents, and levels that stay become normal."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.aftermath import AftermathRows, Compared, initial_aftermath, judge_aftermath
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray

MINUTE_S = 60.0
RULES = AlertRules()
NEVER = AlertRules(release_after_s=np.inf)
THRESHOLD = 6.0
RNG = np.random.default_rng(4)


def judged(
    score: FloatArray,
    rules: AlertRules = RULES,
    batch: int | None = None,
    *,
    values: FloatArray | None = None,
) -> FloatArray:
    """Return the scores that count of one entity; its features are ``values``, else follow the score."""
    features = 10.0 * score[:, None] if values is None else values
    state, found = initial_aftermath(1), []
    for start in range(0, len(score), batch or len(score)):
        part = slice(start, start + (batch or len(score)))
        state, own = judge(state, score[part], features[part], [len(score[part])], rules, start)
        found.append(own)
    return np.concatenate(found)


def judge(
    state: AftermathRows,
    score: FloatArray,
    values: FloatArray,
    lengths: list[int],
    rules: AlertRules = RULES,
    start: int = 0,
) -> tuple[AftermathRows, FloatArray]:
    time = MINUTE_S * np.concatenate([np.arange(start, start + n, dtype=np.float64) for n in lengths])

    def compared(rows: IntArray) -> Compared:
        return Compared(values[rows], np.full(len(rows), THRESHOLD))

    after = judge_aftermath(state, score, time, np.array(lengths), rules, compared)
    return after.state, after.anomaly_score


def noisy(level: float, n: int) -> FloatArray:
    return np.asarray(RNG.uniform(0.9 * level, 1.1 * level, n))


def restless(n: int) -> FloatArray:
    return np.asarray(RNG.normal(40.0, 6.0, (n, 5)))


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
    values = restless(1200)
    # As loud as the level itself, for whoever sees but the score.
    values[1000:1010] -= 30.0
    score = noisy(3.0, 1200)
    found = judged(score, values=values)
    np.testing.assert_array_equal(found[:362], score[:362])
    assert (found[362:1000] >= 1.0).mean() < 0.01
    assert (found[362:1000] < 0.7).mean() > 0.95
    assert (found[1001:1010] >= 1.0).all()
    assert (found[1020:] < 1.0).all()


def test_what_is_below_the_threshold_stays_so_however_far_it_is_from_the_level() -> None:
    values, score = restless(700), noisy(3.0, 700)
    values[600:603], score[600:603] = 0.0, 0.3
    assert (judged(score, values=values)[600:603] <= 0.3).all()


def test_without_a_release_a_level_stays_suspicious() -> None:
    assert (judged(noisy(3.0, 1200), NEVER) >= 1.0).all()


def test_a_second_level_on_top_becomes_normal_in_its_turn() -> None:
    values = restless(1500)
    values[500:] += 100.0
    found = judged(noisy(3.0, 1500), values=values)
    assert (found[501:600] >= 1.0).all()
    assert (found[-400:] < 1.0).mean() > 0.99


def test_the_old_level_is_normal_when_it_returns_and_the_new_one_news_after_it() -> None:
    found = judged(np.concatenate([noisy(3.0, 500), noisy(0.3, 60), noisy(3.0, 60)]))
    assert (found[500:560] < 0.7).all()
    assert (found[560:] >= 1.0).all()


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_of_any_size_give_the_same_scores(batch: int) -> None:
    score = np.concatenate([noisy(3.0, 500), noisy(9.0, 100), noisy(0.3, 60), noisy(2.0, 60)])
    values = restless(len(score))
    values[::50, 1] = np.nan
    np.testing.assert_array_equal(judged(score, batch=batch, values=values), judged(score, values=values))


def test_entities_are_followed_apart() -> None:
    quiet, loud = noisy(0.3, 600), noisy(3.0, 600)
    score = np.concatenate([quiet, loud])
    state, found = judge(initial_aftermath(2), score, 10.0 * score[:, None], [600, 600])
    np.testing.assert_array_equal(found, np.concatenate([quiet, judged(loud)]))
    assert state[0] is None
    assert state[1] is not None


def test_nothing_is_compared_of_calm_entities() -> None:
    def never(rows: IntArray) -> Compared:
        raise AssertionError(rows)

    state, score = initial_aftermath(2), noisy(0.5, 20)
    after = judge_aftermath(state, score, np.arange(20.0), np.array([10, 10]), replace(RULES), never)
    assert after.state is state
    assert after.anomaly_score is score
