"""Tests for detector.scoring.committee: one p-value of several, as uniform as they are."""

import numpy as np
from scipy.stats import hmean, kstest

from detector.scoring.committee import Committee

RNG = np.random.default_rng(5)


def test_of_one_member_the_p_value_is_passed_on() -> None:
    p_value = RNG.random((50, 1))
    judged = Committee.fit(p_value).judge(p_value)
    np.testing.assert_array_equal(judged.p_value, p_value[:, 0])
    assert (judged.member == 0).all()


def test_p_values_of_members_that_agree_and_of_members_that_do_not_are_uniform_together() -> None:
    same = RNG.random((20_000, 1))
    for members in (np.hstack([same, same]), RNG.random((20_000, 3))):
        held_out, fresh = members[:10_000], members[10_000:]
        assert kstest(Committee.fit(held_out).judge(fresh).p_value, "uniform").pvalue > 0.01


def test_the_smallest_p_value_is_heard_and_of_equal_ones_the_first() -> None:
    committee = Committee.fit(RNG.random((100, 3)))
    judged = committee.judge(np.array([[0.5, 0.1, 0.9], [0.2, 0.2, 0.2]]))
    np.testing.assert_array_equal(judged.member, [1, 0])


def test_members_that_learn_on_are_judged_by_their_harmonic_mean() -> None:
    p_value = RNG.uniform(1e-9, 1.0, (200, 3))
    judged = Committee.fit(p_value, learns=True).judge(p_value).p_value
    np.testing.assert_allclose(judged, [hmean(row) for row in p_value], rtol=1e-12)


def test_small_p_values_of_members_that_learn_on_are_about_as_rare_as_they_say() -> None:
    same = RNG.random((400_000, 1))
    for members in (np.hstack([same, same, same]), RNG.random((400_000, 3))):
        judged = Committee.fit(members[:10], learns=True).judge(members).p_value
        assert 0.9 < np.mean(judged <= 0.003) / 0.003 < 1.2


def test_members_that_agree_say_more_than_one_alone() -> None:
    for learns in (False, True):
        committee = Committee.fit(RNG.random((5_000, 2)), learns=learns)
        alone, together = committee.judge(np.array([[1e-4, 0.6], [1e-4, 2e-4]])).p_value
        assert together < alone


def test_the_smallest_numbers_do_not_add_up_to_nothing() -> None:
    tiny = np.finfo(np.float64).tiny
    judged = Committee.fit(RNG.random((10, 3)), learns=True).judge(np.full((1, 3), tiny))
    assert 0.0 < judged.p_value[0] <= 2.0 * tiny


def test_arrays_give_the_same_committee() -> None:
    p_value = RNG.random((500, 2))
    committee = Committee.fit(p_value)
    again = Committee.from_arrays(committee.arrays())
    np.testing.assert_array_equal(again.judge(p_value).p_value, committee.judge(p_value).p_value)


def test_a_member_with_a_small_share_costs_the_others_little_and_is_heard_where_it_is_sure() -> None:
    held_out = RNG.random((20_000, 3))
    alone, beside = Committee.fit(held_out[:, :2]), Committee.fit(held_out, shares=(1.0, 1.0, 0.01))
    rows = np.array([[1e-3, 0.5, 0.5], [0.5, 0.5, 1e-3], [0.5, 0.5, 1e-7], [0.5, 1e-3, 1e-4]])
    of_two, of_three = alone.judge(rows[:, :2]).p_value, beside.judge(rows)
    assert of_three.p_value[0] < 1.1 * of_two[0]
    assert of_three.p_value[1] > 0.1
    assert of_three.p_value[2] < 1e-4
    np.testing.assert_array_equal(of_three.member, [0, 2, 2, 1])


def test_p_values_are_uniform_whatever_the_shares() -> None:
    same = RNG.random((20_000, 1))
    for members in (np.hstack([same, same]), RNG.random((20_000, 2))):
        committee = Committee.fit(members[:10_000], shares=(1.0, 0.01))
        assert kstest(committee.judge(members[10_000:]).p_value, "uniform").pvalue > 0.01


def test_shares_weight_the_harmonic_mean_of_members_that_learn_on() -> None:
    p_value = RNG.uniform(1e-9, 1.0, (200, 3))
    judged = Committee.fit(p_value, learns=True, shares=(1.0, 0.5, 0.25)).judge(p_value).p_value
    np.testing.assert_allclose(judged, hmean(p_value, axis=1, weights=[[1.0, 0.5, 0.25]]), rtol=1e-12)
