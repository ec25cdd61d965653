"""Tests for detector.training.fit_hmm."""

import numpy as np
import pytest

from detector.models.hmm import Hmm
from detector.training.fit_hmm import (
    COVARIANCE_FLOOR,
    Covariance,
    count_warmup_records,
    fit_hmm,
    stationary_distribution,
)

pytest.importorskip("hmmlearn")

TRUTH = Hmm(
    np.array([0.75, 0.25]),
    np.array([[0.95, 0.05], [0.15, 0.85]]),
    np.array([[-2.0, 0.0], [2.0, 1.0]]),
    np.array([[1.0, 0.5], [0.5, 1.0]]),
)
NO_GAPS = np.full(3000, np.nan)


def drawn(n: int, seed: int = 0) -> np.ndarray:
    return TRUTH.sample(n, np.random.default_rng(seed))


def mean_log_likelihood(hmm: Hmm, x: np.ndarray) -> float:
    gap_s = np.full(len(x), np.nan)
    return float(np.nanmean(hmm.scan(hmm.initial_state(1), x, gap_s, np.array([len(x)]))[1]))


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_finds_the_chain_that_the_rows_were_drawn_from(covariance: Covariance) -> None:
    x = drawn(3000)
    hmm = fit_hmm(x, lengths=np.array([2000, 1000]), seed=0, covariance=covariance)
    arrays = hmm.arrays()
    assert hmm.n_states == 2
    order = np.argsort(arrays["means"][:, 0])
    np.testing.assert_allclose(
        arrays["transition"][np.ix_(order, order)], TRUTH.arrays()["transition"], atol=0.03
    )
    np.testing.assert_allclose(arrays["start"][order], [0.75, 0.25], atol=0.05)
    fresh = drawn(4000, seed=1)
    assert mean_log_likelihood(TRUTH, fresh) - mean_log_likelihood(hmm, fresh) < 0.02


def test_independent_rows_need_one_state() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 3))
    assert fit_hmm(x, lengths=np.array([2000]), seed=0).n_states == 1


def test_same_seed_same_bits() -> None:
    x = drawn(800)
    first = fit_hmm(x, lengths=np.array([800]), seed=3, n_states=2).arrays()
    again = fit_hmm(x, lengths=np.array([800]), seed=3, n_states=2).arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_constant_duplicated_and_mostly_zero_features_keep_a_spread(covariance: Covariance) -> None:
    x = drawn(1500)
    bursts = np.where(np.random.default_rng(1).random(1500) < 0.02, 3.0, 0.0)
    x = np.column_stack([x, x[:, 0], np.full(1500, 5.0), bursts])
    hmm = fit_hmm(x, lengths=np.array([1500]), seed=0, n_states=3, covariance=covariance)
    covariances = hmm.arrays()["covariances"]
    smallest = covariances.min() if covariance == "diag" else np.linalg.eigvalsh(covariances).min()
    assert smallest > 0.05 * COVARIANCE_FLOOR
    assert np.isfinite(mean_log_likelihood(hmm, x))


def test_a_transition_never_seen_is_not_impossible() -> None:
    x = np.concatenate([np.full((300, 1), -5.0), np.full((300, 1), 5.0)])
    x += 0.1 * np.random.default_rng(0).normal(size=x.shape)
    hmm = fit_hmm(x, lengths=np.array([600]), seed=0, n_states=2)
    assert (hmm.arrays()["transition"] > 0).all()
    assert np.isfinite(mean_log_likelihood(hmm, x[::-1]))


def test_rows_with_gaps_are_fitted() -> None:
    x = drawn(3000)
    x[::20, 0] = np.nan
    hmm = fit_hmm(x, lengths=np.array([3000]), seed=0)
    fresh = drawn(4000, seed=1)
    assert mean_log_likelihood(TRUTH, fresh) - mean_log_likelihood(hmm, fresh) < 0.05


@pytest.mark.parametrize(("n", "stretch"), [(3000, 5), (6000, 1)])
def test_transitions_are_learnt_over_one_interval_whatever_went_missing(n: int, stretch: int) -> None:
    """A third of the records never arrived, in stretches; those of one record are too many to end a run."""
    arrived = np.repeat(np.random.default_rng(0).random(n // stretch) > 0.3, stretch)
    time = 60.0 * np.flatnonzero(arrived)
    gap_s = np.diff(time, prepend=np.nan)
    x, lengths = drawn(n)[arrived], np.array([len(time)])
    hmm = fit_hmm(x, lengths=lengths, seed=0, gap_s=gap_s, interval_s=60.0, n_states=2, n_mixtures=1)
    arrays = hmm.arrays()
    assert arrays["interval_s"] == [60.0]
    order = np.argsort(arrays["means"][:, 0])
    np.testing.assert_allclose(
        arrays["transition"][np.ix_(order, order)], TRUTH.arrays()["transition"], atol=0.03
    )
    blind = fit_hmm(x, lengths=lengths, seed=0, n_states=2, n_mixtures=1)
    gain = hmm.scan(hmm.initial_state(1), x, gap_s, lengths)[1]
    gain -= blind.scan(blind.initial_state(1), x, gap_s, lengths)[1]
    assert gain.mean() > 0.0
    assert gain[gap_s > 60.0].mean() > 0.01


MIXED = Hmm(
    np.array([0.5, 0.5]),
    np.array([[0.97, 0.03], [0.03, 0.97]]),
    np.array([[-6.0, -6.0], [-6.0, 6.0], [6.0, -6.0], [6.0, 6.0]]),
    np.ones((4, 2)),
    weights=np.array([[0.5, 0.5], [0.2, 0.8]]),
)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_finds_the_mixtures_that_the_rows_were_drawn_from(covariance: Covariance) -> None:
    x = MIXED.sample(3000, np.random.default_rng(0))
    lengths = np.array([2000, 1000])
    hmm = fit_hmm(x, lengths=lengths, seed=0, n_states=2, n_mixtures=2, covariance=covariance)
    assert (hmm.n_states, hmm.n_mixtures) == (2, 2)
    fresh = MIXED.sample(4000, np.random.default_rng(1))
    assert mean_log_likelihood(MIXED, fresh) - mean_log_likelihood(hmm, fresh) < 0.02


def test_heavy_tails_within_a_state_lead_to_mixtures_and_plain_states_do_not() -> None:
    rng = np.random.default_rng(0)
    wide = np.where(rng.random((4000, 1)) < 0.1, 5.0, 1.0)
    heavy = fit_hmm(rng.normal(size=(4000, 3)) * wide, lengths=np.array([4000]), seed=0, n_states=1)
    assert heavy.n_mixtures == 2
    variances = np.sort(heavy.arrays()["covariances"].mean(axis=1))
    np.testing.assert_allclose(variances, [1.0, 25.0], rtol=0.2)
    assert fit_hmm(drawn(3000), lengths=np.array([3000]), seed=0, n_states=2).n_mixtures == 1


def test_eight_gaussians_are_enough_unless_more_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2)) * np.where(rng.random((3000, 1)) < 0.1, 5.0, 1.0)
    lengths = np.array([3000])
    assert fit_hmm(x, lengths=lengths, seed=0, n_states=8).n_mixtures == 1
    assert fit_hmm(x, lengths=lengths, seed=0, n_states=8, n_mixtures=2).n_mixtures == 2


def test_a_state_that_no_row_belongs_to_spoils_no_other() -> None:
    x = np.repeat([[-1.0], [1.0]], 300, axis=0)
    hmm = fit_hmm(x, lengths=np.array([600]), seed=0, n_states=6, n_mixtures=1)
    assert np.isfinite(mean_log_likelihood(hmm, x))


def test_mixtures_fit_their_rows_no_worse_than_single_gaussians() -> None:
    x = drawn(1500)
    plain = fit_hmm(x, lengths=np.array([1500]), seed=0, n_states=2, n_mixtures=1)
    mixed = fit_hmm(x, lengths=np.array([1500]), seed=0, n_states=2, n_mixtures=3)
    assert mean_log_likelihood(mixed, x) > mean_log_likelihood(plain, x) - 1e-3


def test_mixtures_of_constant_and_repeated_values_keep_a_spread() -> None:
    x = np.column_stack([np.repeat([-1.0, 1.0, 5.0], 200), np.full(600, 3.0)])
    hmm = fit_hmm(x, lengths=np.array([600]), seed=0, n_states=2, n_mixtures=3)
    assert np.isfinite(mean_log_likelihood(hmm, x))
    assert hmm.arrays()["covariances"].min() > 0.05 * COVARIANCE_FLOOR


def test_progress_is_told_and_ends_complete() -> None:
    told: list[tuple[str, int, int]] = []
    fit_hmm(drawn(600), lengths=np.array([600]), seed=0, progress=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][2]


def test_fewer_rows_than_the_parameters_need_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    with pytest.raises(ValueError, match=r"hidden Markov model of 1 states .* give at least"):
        fit_hmm(x, lengths=np.array([9]), seed=0)


def test_stationary_distribution_stays_under_the_transition() -> None:
    transition = np.random.default_rng(0).dirichlet(np.ones(5), size=5)
    share = stationary_distribution(transition)
    np.testing.assert_allclose(share @ transition, share, rtol=1e-10)
    assert share.sum() == pytest.approx(1.0, rel=1e-12)


def test_warmup_is_short_where_states_are_plain_and_long_where_they_are_hidden() -> None:
    def warmup(distance: float, stay: float) -> int:
        transition = np.array([[stay, 1 - stay], [1 - stay, stay]])
        means = np.array([[-distance], [distance]])
        hmm = Hmm(np.array([0.5, 0.5]), transition, means, np.ones((2, 1)))
        x = hmm.sample(3000, np.random.default_rng(0))
        return count_warmup_records(hmm, x, np.array([3000]), NO_GAPS[:3000])

    plain, hidden = warmup(5.0, 0.9), warmup(0.3, 0.97)
    assert 1 <= plain <= 3
    assert 10 < hidden <= 60


def test_warmup_is_nothing_for_one_state_and_the_most_where_runs_are_too_short_to_tell() -> None:
    single = Hmm(np.ones(1), np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    assert count_warmup_records(single, np.zeros((200, 1)), np.array([200]), NO_GAPS[:200]) == 0
    assert count_warmup_records(TRUTH, drawn(100), np.array([50, 50]), NO_GAPS[:100]) == 60


def test_warmup_counts_the_records_until_restarted_filters_agree() -> None:
    hmm = Hmm(np.array([0.5, 0.5]), np.full((2, 2), 0.5), np.array([[-1.0], [1.0]]), np.ones((2, 1)))
    x = hmm.sample(1000, np.random.default_rng(0))
    # Every row of the transition is the start distribution, so one record tells all there is to know.
    assert count_warmup_records(hmm, x, np.array([1000]), NO_GAPS[:1000]) == 1
