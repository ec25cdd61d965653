"""Tests for detector.alerting.feature_rules: which deviations matter, and how much of a record they are."""

import numpy as np
import pytest

from detector.alerting.feature_rules import FeatureRule, FeatureRules
from detector.models.contract import Explanation


def rules_of(*rules: FeatureRule) -> FeatureRules:
    made = FeatureRules.of(rules)
    assert made is not None
    return made


def test_rules_that_say_nothing_are_none() -> None:
    assert FeatureRules.of([FeatureRule(), FeatureRule()]) is None
    assert FeatureRules.of([]) is None


@pytest.mark.parametrize(
    ("rule", "actual", "matters"),
    [
        (FeatureRule("above"), 11.0, True),
        (FeatureRule("above"), 9.0, False),
        (FeatureRule("above"), 10.0, False),
        (FeatureRule("below"), 9.0, True),
        (FeatureRule("below"), 11.0, False),
        (FeatureRule("both"), 9.0, True),
        (FeatureRule(smallest_absolute=2.0), 12.0, True),
        (FeatureRule(smallest_absolute=2.0), 11.9, False),
        (FeatureRule(smallest_absolute=2.0), 8.0, True),
        (FeatureRule(smallest_relative=0.5), 15.0, True),
        (FeatureRule(smallest_relative=0.5), 14.0, False),
        # Of both, both must be reached.
        (FeatureRule(smallest_absolute=6.0, smallest_relative=0.5), 15.5, False),
        (FeatureRule(smallest_absolute=2.0, smallest_relative=0.5), 12.5, False),
        (FeatureRule(smallest_absolute=2.0, smallest_relative=0.5), 15.5, True),
        (FeatureRule("below", smallest_absolute=2.0), 12.5, False),
    ],
)
def test_deviations_that_matter(rule: FeatureRule, actual: float, matters: bool) -> None:
    rules = rules_of(rule, FeatureRule("above"))
    found = rules.matter(np.array([[actual, 0.0]]), np.array([[10.0, 0.0]]))
    assert found[0, 0] == matters


def test_of_a_negative_expectation_the_size_counts() -> None:
    rules = rules_of(FeatureRule(smallest_relative=0.5))
    assert rules.matter(np.array([[-16.0], [-14.0]]), np.array([[-10.0], [-10.0]]))[:, 0].tolist() == [
        True,
        False,
    ]


def test_ranges_have_open_ends_and_hold_their_limits() -> None:
    rules = rules_of(FeatureRule(low=0.0), FeatureRule(low=-1.0, high=1.0), FeatureRule())
    values = np.array([[0.0, 1.0, 1e300], [-0.1, 1.1, np.nan], [np.nan, np.nan, 0.0]])
    assert rules.out_of_range(values).tolist() == [
        [False, False, False],
        [True, True, False],
        [False, False, False],
    ]
    assert rules.range_left(0, -0.1) == (0.0, None)
    assert rules.range_left(1, 1.1) == (-1.0, 1.0)
    assert rules.range_left(1, 1.0) is None
    assert rules.range_left(1, np.nan) is None


def test_excess_is_what_a_gaussian_of_that_spread_does_not_explain() -> None:
    rules = rules_of(FeatureRule("above"), FeatureRule("above"), FeatureRule())
    z, std = np.array([[3.0, -4.0, np.nan], [0.5, 0.0, 5.0]]), np.array([2.0, 0.1, 30.0])
    nats = 0.5 * z**2 + 0.5 * np.log(2 * np.pi) + np.log(std)
    explanation = Explanation(nats, np.zeros((2, 3)), np.tile(std, (2, 1)))
    found = rules.excess_nats(explanation, z * std, np.zeros((2, 3)))
    # Half of (z squared minus its mean, one), where that is positive; and what matters of it.
    np.testing.assert_allclose(found, [[4.0, 4.0 + 7.5], [12.0, 12.0]], atol=1e-12)


def test_what_has_no_spread_counts_whole_and_infinity_has_shares() -> None:
    rules = rules_of(FeatureRule(), FeatureRule("above"))
    explanation = Explanation(np.array([[2.0, np.inf]]), np.zeros((1, 2)), np.array([[np.nan, 1.0]]))
    found = rules.excess_nats(explanation, np.array([[0.0, -5.0]]), np.zeros((1, 2)))
    assert found[0, 0] == 2.0
    assert 2.0 < found[0, 1] < np.inf


def test_a_record_stays_suspicious_by_half_of_its_surprise_or_by_enough_of_it() -> None:
    rules = rules_of(FeatureRule("above"), FeatureRule())
    share, score = np.array([0.5, 0.49, 0.26, 0.24]), np.array([1.1, 1.1, 4.0, 4.0])
    assert rules.stays(share, score, np.zeros(4, dtype=bool)).tolist() == [True, False, True, False]


def test_a_record_that_is_too_likely_deviates_nowhere() -> None:
    share, score, too_likely = np.zeros(1), np.ones(1), np.ones(1, dtype=bool)
    assert rules_of(FeatureRule("above"), FeatureRule()).stays(share, score, too_likely).all()
    assert not rules_of(FeatureRule("above"), FeatureRule("below")).stays(share, score, too_likely).any()


def by_hand(nats: np.ndarray, weight: np.ndarray, suspicious: np.ndarray) -> list[float]:
    """Shares of one entity's suspicious rows, one record after the other."""
    average, shares, k = None, [], 0
    for loud in suspicious:
        if not loud:
            average = None
            continue
        average = nats[k] if average is None else average + weight[k] * (nats[k] - average)
        shares.append(average[0] / average[1])
        k += 1
    return shares


@pytest.mark.parametrize("at_once", [1, 3, 40])
def test_shares_are_averages_over_suspicious_records_in_a_row_whatever_the_batches(at_once: int) -> None:
    rng = np.random.default_rng(0)
    rules = rules_of(FeatureRule("above"))
    n, entities = 40, 3
    suspicious = rng.uniform(size=(entities, n)) < 0.7
    parts = rng.uniform(size=(entities, n, 2))
    nats = np.stack([parts[..., 0], parts.sum(axis=2)], axis=2)
    weight = rng.choice([1.0, 0.3, 0.05], size=(entities, n))
    state = rules.initial_state(entities)
    found: list[list[float]] = [[] for _ in range(entities)]
    for start in range(0, n, at_once):
        part = slice(start, start + at_once)
        loud = suspicious[:, part]
        own = np.full(entities, loud.shape[1])
        if loud.any():
            state, share = rules.shares(state, nats[:, part][loud], weight[:, part][loud], loud.ravel(), own)
            for e, value in zip(np.nonzero(loud)[0].tolist(), share.tolist(), strict=True):
                found[e].append(value)
        else:
            state = rules.initial_state(entities)
    for e in range(entities):
        expected = by_hand(nats[e][suspicious[e]], weight[e][suspicious[e]], suspicious[e])
        np.testing.assert_allclose(found[e], expected, rtol=1e-12)


def test_a_record_without_any_excess_has_the_whole_share() -> None:
    rules = rules_of(FeatureRule("above"))
    _, share = rules.shares(
        rules.initial_state(1), np.zeros((1, 2)), np.ones(1), np.ones(1, dtype=bool), np.array([1])
    )
    assert share.tolist() == [1.0]
