"""Tests for detector.alerting.aftermath: echoes end incidents, and levels that stay become normal."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.aftermath import AftermathRows, Compared, initial_aftermath, judge_aftermath
from detector.alerting.restless import RestlessRows, never_restless
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
    p_value: FloatArray | None = None,
) -> FloatArray:
    """Return the scores that count of one entity; its features are ``values``, else follow the score.

    No record is surprising by its p-value, unless these are given.
    """
    features = 10.0 * score[:, None] if values is None else values
    state, found = before(1), []
    for start in range(0, len(score), batch or len(score)):
        part = slice(start, start + (batch or len(score)))
        own_p = None if p_value is None else p_value[part]
        state, own = judge(state, score[part], features[part], [len(score[part])], rules, start, own_p)
        found.append(own)
    return np.concatenate(found)


Before = tuple[AftermathRows, RestlessRows]


def before(n: int) -> Before:
    return initial_aftermath(n), never_restless(n)


def judge(
    state: Before,
    score: FloatArray,
    values: FloatArray,
    lengths: list[int],
    rules: AlertRules = RULES,
    start: int = 0,
    p_value: FloatArray | None = None,
) -> tuple[Before, FloatArray]:
    time = MINUTE_S * np.concatenate([np.arange(start, start + n, dtype=np.float64) for n in lengths])

    def compared(rows: IntArray) -> Compared:
        return Compared(values[rows], np.full(len(rows), THRESHOLD))

    p_value = np.full(len(score), 0.5) if p_value is None else p_value
    after = judge_aftermath(*state, score, p_value, time, np.array(lengths), rules, compared)
    return (after.state, after.restless), after.anomaly_score


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
    parts = [
        (3.0, 500),
        (9.0, 100),
        (0.3, 60),
        (2.0, 60),
        (0.5, 90),
        (1.5, 9),
        (4.5, 9),
        (0.3, 700),
        (1.5, 9),
    ]
    score = np.concatenate([noisy(level, n) for level, n in parts])
    values, p_value = restless(len(score)), RNG.uniform(0.0, 0.3, len(score))
    values[::50, 1] = np.nan
    whole = judged(score, values=values, p_value=p_value)
    np.testing.assert_array_equal(judged(score, batch=batch, values=values, p_value=p_value), whole)
    assert (whole < score).any()


def test_entities_are_followed_apart() -> None:
    quiet, loud = noisy(0.3, 600), noisy(3.0, 600)
    score = np.concatenate([quiet, loud])
    (state, _), found = judge(before(2), score, 10.0 * score[:, None], [600, 600])
    np.testing.assert_array_equal(found, np.concatenate([quiet, judged(loud)]))
    assert state[0] is None
    assert state[1] is not None


def test_nothing_is_compared_of_calm_entities() -> None:
    def never(rows: IntArray) -> Compared:
        raise AssertionError(rows)

    (state, restless), score = before(2), noisy(0.5, 20)
    after = judge_aftermath(
        state, restless, score, np.full(20, 0.5), np.arange(20.0), np.array([10, 10]), replace(RULES), never
    )
    assert after.state is state
    assert after.restless is restless
    assert after.anomaly_score is score


def surprising(share: float, n: int) -> FloatArray:
    """Return p-values of which a share is below .1, evenly spread."""
    each = np.floor(share * np.arange(1, n + 1)) > np.floor(share * np.arange(n))
    return np.where(each, 0.05, 0.5)


def test_who_stays_restless_after_an_incident_does_not_fire_by_what_is_usual_now() -> None:
    score = np.concatenate([noisy(3.0, 20), noisy(0.5, 150), noisy(1.3, 3), noisy(0.5, 150), noisy(3.0, 3)])
    found = judged(score, p_value=np.concatenate([np.full(20, 0.01), surprising(0.5, 306)]))
    assert (found[:20] == score[:20]).all()
    assert (found[170:173] < 1.0).all()
    assert (found[323:] >= 1.0).all()


def test_who_is_as_before_after_an_incident_is_judged_as_before() -> None:
    score = np.concatenate([noisy(3.0, 20), noisy(0.5, 150), noisy(1.1, 3)])
    found = judged(score, p_value=np.concatenate([np.full(20, 0.01), surprising(0.2, 153)]))
    np.testing.assert_array_equal(found, score)


def test_restlessness_without_an_incident_changes_nothing() -> None:
    score = np.concatenate([noisy(0.5, 400), noisy(1.1, 3)])
    np.testing.assert_array_equal(judged(score, p_value=surprising(0.8, 403)), score)


def test_a_long_calm_ends_what_is_known_of_restlessness() -> None:
    score = np.concatenate([noisy(3.0, 20), noisy(0.5, 600), noisy(1.1, 3)])
    found = judged(score, p_value=np.concatenate([np.full(20, 0.01), surprising(0.5, 603)]))
    assert (found[100:500] < score[100:500]).all()
    np.testing.assert_array_equal(found[530:], score[530:])


def test_an_incident_that_goes_on_after_a_pause_is_judged_as_before() -> None:
    score = np.concatenate([noisy(3.0, 20), noisy(0.6, 200), noisy(1.2, 3)])
    found = judged(score, p_value=np.full(223, 0.01))
    np.testing.assert_array_equal(found[150:], score[150:])


def test_a_released_level_is_kept_through_a_short_calm_that_does_not_leave_it() -> None:
    values = restless(1000)
    score = np.concatenate([noisy(3.0, 500), noisy(0.5, 20), noisy(3.0, 480)])
    found = judged(score, values=values)
    assert (found[520:] >= 1.0).mean() < 0.01
