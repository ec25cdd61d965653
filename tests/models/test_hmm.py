"""Tests for detector.models.hmm."""

from itertools import product

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from detector.models.hmm import Hmm
from detector.models.sequences import starts_of
from tests.models.families_by_hand import log_likelihood, random_hmm, scan, step_by_step, with_gaps

NO_GAP = np.array([np.nan])


def log_emissions(hmm: Hmm, x: np.ndarray) -> np.ndarray:
    """Log density of what is observed of each record under each state, by scipy, shape (T, K)."""
    arrays = hmm.arrays()
    weights = arrays.get("weights", np.ones((hmm.n_states, 1)))
    result = np.zeros((len(x), weights.size))
    for t, record in enumerate(x):
        seen = ~np.isnan(record)
        for k, (mean, spread) in enumerate(zip(arrays["means"], arrays["covariances"], strict=True)):
            covariance = np.diag(spread) if spread.ndim == 1 else spread
            if seen.any():
                block = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
                result[t, k] = block.logpdf(record[seen])
    by_state = result.reshape(len(x), *weights.shape)
    return np.asarray(logsumexp(by_state + np.log(weights), axis=2))


def log_probability_by_enumeration(hmm: Hmm, x: np.ndarray) -> float:
    """log p(x_1..T), summed over every path of states."""
    arrays, emissions = hmm.arrays(), log_emissions(hmm, x)
    log_start, log_transition = np.log(arrays["start"]), np.log(arrays["transition"])
    paths = []
    for path in product(range(hmm.n_states), repeat=len(x)):
        value = log_start[path[0]] + emissions[0, path[0]]
        for t in range(1, len(x)):
            value += log_transition[path[t - 1], path[t]] + emissions[t, path[t]]
        paths.append(value)
    return float(logsumexp(paths))


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("mixtures", [1, 3])
@pytest.mark.parametrize("gaps", [False, True])
def test_filtering_agrees_with_the_sum_over_every_path(diagonal: bool, mixtures: int, gaps: bool) -> None:
    hmm = random_hmm(3, 2, diagonal=diagonal, mixtures=mixtures)
    x = hmm.sample(6, np.random.default_rng(4))
    if gaps:
        x[2, 0] = x[3, 1] = np.nan
        x[4] = np.nan
    ours = log_likelihood(hmm, x)
    assert np.isnan(ours[4]) == gaps
    totals = [0.0] + [log_probability_by_enumeration(hmm, x[:t]) for t in range(1, 7)]
    np.testing.assert_allclose(np.nan_to_num(ours), np.diff(totals), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_sum_agrees_with_hmmlearn(diagonal: bool) -> None:
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    hmm = random_hmm(5, 4, diagonal=diagonal)
    arrays = hmm.arrays()
    peer = hmmlearn.GaussianHMM(5, covariance_type="diag" if diagonal else "full")
    peer.startprob_, peer.transmat_ = arrays["start"], arrays["transition"]
    peer.means_, peer.covars_ = arrays["means"], arrays["covariances"]
    x = hmm.sample(700, np.random.default_rng(1))
    lengths = np.array([300, 1, 399])
    assert scan(hmm, x, lengths)[1].sum() == pytest.approx(peer.score(x, lengths), rel=1e-9)


@pytest.mark.parametrize("diagonal", [True, False])
def test_the_sum_with_mixtures_agrees_with_hmmlearn(diagonal: bool) -> None:
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    hmm = random_hmm(4, 3, diagonal=diagonal, mixtures=3)
    arrays = hmm.arrays()
    peer = hmmlearn.GMMHMM(4, 3, covariance_type="diag" if diagonal else "full")
    peer.startprob_, peer.transmat_, peer.weights_ = (
        arrays[name] for name in ("start", "transition", "weights")
    )
    peer.means_ = arrays["means"].reshape(4, 3, 3)
    peer.covars_ = arrays["covariances"].reshape(4, 3, *arrays["covariances"].shape[1:])
    x = hmm.sample(700, np.random.default_rng(1))
    lengths = np.array([300, 1, 399])
    assert scan(hmm, x, lengths)[1].sum() == pytest.approx(peer.score(x, lengths), rel=1e-9)


def test_a_mixture_of_one_gaussian_twice_is_that_gaussian() -> None:
    plain = random_hmm(3, 2, diagonal=True)
    arrays = plain.arrays()
    for name in ("means", "covariances"):
        arrays[name] = np.repeat(arrays[name], 2, axis=0)
    doubled = Hmm.from_arrays({**arrays, "weights": np.tile([0.3, 0.7], (3, 1))})
    x = with_gaps(plain.sample(50, np.random.default_rng(0)))
    np.testing.assert_allclose(log_likelihood(doubled, x), log_likelihood(plain, x), rtol=1e-12)
    rows = scan(plain, x, np.array([50]))[0]
    one, other = (hmm.explain(rows, x[:1], NO_GAP).expected for hmm in (plain, doubled))
    np.testing.assert_allclose(other, one, rtol=1e-12)


def test_samples_of_a_state_follow_its_mixture() -> None:
    weights = np.array([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]])
    means = np.array([-200.0, -150.0, -100.0, 100.0, 150.0, 200.0])[:, None]
    hmm = Hmm(np.full(2, 0.5), np.full((2, 2), 0.5), means, np.ones((6, 1)), weights=weights)
    x = hmm.sample(20_000, np.random.default_rng(0))[:, 0]
    shares = np.array([(np.abs(x - mean) < 20).mean() for mean in means[:, 0]])
    np.testing.assert_allclose(shares, 0.5 * weights.ravel(), atol=4 * np.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 2), (8, 10)])
def test_scan_is_repeated_step_to_the_bit(k: int, d: int, diagonal: bool) -> None:
    hmm = random_hmm(k, d, diagonal=diagonal)
    lengths = np.array([1, 120, 3, 40, 40, 96])
    x = hmm.sample(300, np.random.default_rng(1))
    x[::2] = with_gaps(x[::2])
    x[20] = 1e200
    x[30] = 1e6
    rows, scanned = scan(hmm, x, lengths)
    expected_rows, stepped = step_by_step(hmm, x, lengths)
    np.testing.assert_array_equal(scanned, stepped)
    np.testing.assert_array_equal(rows, expected_rows)


def test_how_a_run_is_cut_and_how_many_entities_share_a_call_change_no_bit() -> None:
    hmm, rng = random_hmm(4, 3, diagonal=False), np.random.default_rng(2)
    x = hmm.sample(200, rng)
    lengths = np.array([50, 50, 50, 50])
    rows, together = scan(hmm, x, lengths)
    state, parts = hmm.initial_state(1), []
    for part in np.split(x[50:100], [1, 2, 17]):
        state, values = hmm.scan(state, part, np.full(len(part), np.nan), np.array([len(part)]))
        parts.append(values)
    np.testing.assert_array_equal(np.concatenate(parts), together[50:100])
    np.testing.assert_array_equal(state[0], rows[1])
    entities = rng.permutation(4)
    shuffled_rows, shuffled = scan(hmm, x.reshape(4, 50, 3)[entities].reshape(200, 3), lengths)
    np.testing.assert_array_equal(shuffled.reshape(4, 50), together.reshape(4, 50)[entities])
    np.testing.assert_array_equal(shuffled_rows, rows[entities])


@pytest.mark.parametrize(
    ("gap_s", "steps"), [([9.0, 10.0, 14.9], [1, 1, 1]), ([0.0, 40.0, 16.0], [1, 4, 2]), ([71.0], [7])]
)
def test_a_silence_is_as_if_records_without_any_feature_lay_in_it(
    gap_s: list[float], steps: list[int]
) -> None:
    hmm = random_hmm(3, 2, diagonal=True, interval_s=10.0)
    x = hmm.sample(1 + len(gap_s), np.random.default_rng(4))
    _, ours = hmm.scan(hmm.initial_state(1), x, np.array([np.nan, *gap_s]), np.array([len(x)]))
    filled = [x[:1]]
    for record, k in zip(x[1:], steps, strict=True):
        filled += [np.full((k - 1, 2), np.nan), record[None]]
    by_enumeration = log_probability_by_enumeration(hmm, np.concatenate(filled))
    assert ours.sum() == pytest.approx(by_enumeration, rel=1e-9)


def test_after_a_long_silence_an_entity_is_where_the_chain_is_in_the_long_run() -> None:
    transition = np.array([[0.999, 0.001], [0.003, 0.997]])
    means = np.array([[-50.0], [50.0]])
    hmm = Hmm(np.array([0.5, 0.5]), transition, means, np.ones((2, 1)), interval_s=1.0)
    rows, _ = hmm.step(hmm.initial_state(3), np.full((3, 1), 50.0), np.full(3, np.nan))
    gap_s = np.array([1e5, 1e18, np.inf])
    after = hmm.latent(rows, np.full((3, 1), np.nan), gap_s)
    np.testing.assert_allclose(after, np.tile([0.75, 0.25], (3, 1)), rtol=1e-9)
    expected = hmm.explain(rows, np.full((3, 1), np.nan), gap_s).expected
    np.testing.assert_allclose(expected, np.full((3, 1), -25.0), rtol=1e-9)


def test_a_silence_of_a_chain_that_never_settles_is_followed_step_by_step() -> None:
    circle = np.roll(np.eye(3), 1, axis=1)
    hmm = Hmm(np.array([1.0, 0.0, 0.0]), circle, np.zeros((3, 1)), np.ones((3, 1)), interval_s=1.0)
    rows, _ = hmm.step(hmm.initial_state(1), np.zeros((1, 1)), NO_GAP)
    for gap_s in (1.0, 2.0, 3.0, 1000.0):
        after = hmm.latent(rows, np.zeros((1, 1)), np.array([gap_s]))
        np.testing.assert_array_equal(after, np.eye(3)[[int(gap_s) % 3]])


def test_without_an_interval_every_gap_is_one_step() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    x, lengths = hmm.sample(20, np.random.default_rng(0)), np.array([20])
    gap_s = np.random.default_rng(0).exponential(1000.0, size=20)
    np.testing.assert_array_equal(
        hmm.scan(hmm.initial_state(1), x, gap_s, lengths)[1], scan(hmm, x, lengths)[1]
    )


def test_silences_of_neighbours_change_no_bit() -> None:
    hmm = random_hmm(4, 3, diagonal=True, interval_s=10.0)
    lengths = np.array([60, 1, 9, 30])
    x = hmm.sample(100, np.random.default_rng(2))
    gap_s = np.where(np.arange(100) % 3 == 0, np.random.default_rng(3).exponential(2e3, size=100), 10.0)
    gap_s[[0, 60, 61, 70]] = np.nan
    rows, together = hmm.scan(hmm.initial_state(4), x, gap_s, lengths)
    apart = []
    for start, length in zip(starts_of(lengths), lengths, strict=True):
        state = hmm.initial_state(1)
        for t in range(start, start + length):
            state, value = hmm.step(state, x[t : t + 1], gap_s[t : t + 1])
            apart.append(value[0])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(state, rows[-1:])


def test_an_impossible_record_keeps_the_predicted_belief() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    x = np.array([[0.1, 0.2]])
    rows, _ = hmm.step(hmm.initial_state(1), x, NO_GAP)
    predicted = hmm.latent(hmm.initial_state(1), x, NO_GAP) @ hmm.arrays()["transition"]
    impossible, nothing = np.array([[1e200, 0.0]]), np.array([[np.nan, np.nan]])
    assert np.isneginf(hmm.step(rows, impossible, NO_GAP)[1]).all()
    assert np.isnan(hmm.step(rows, nothing, NO_GAP)[1]).all()
    np.testing.assert_allclose(hmm.latent(rows, impossible, NO_GAP), predicted, rtol=1e-12)
    np.testing.assert_allclose(hmm.latent(rows, nothing, NO_GAP), predicted, rtol=1e-12)


def test_a_likely_state_that_cannot_be_reached_does_not_hide_the_others() -> None:
    """The only state near the record has probability zero; products of floats would underflow to 0."""
    hmm = Hmm(np.array([1.0, 0.0]), np.eye(2), np.array([[0.0], [60.0]]), np.ones((2, 1)))
    value = log_likelihood(hmm, np.array([[0.0], [60.0], [0.0]]))
    expected = -0.5 * np.array([0.0, 3600.0, 0.0]) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_beliefs_are_the_posterior_of_the_last_state_by_enumeration() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    x = hmm.sample(4, np.random.default_rng(0))
    beliefs = hmm.beliefs(hmm.initial_state(1), x, np.full(4, np.nan), np.array([4]))
    arrays, emissions = hmm.arrays(), np.exp(log_emissions(hmm, x))
    weight = np.zeros(3)
    for path in product(range(3), repeat=4):
        value = arrays["start"][path[0]] * emissions[0, path[0]]
        for t in range(1, 4):
            value *= arrays["transition"][path[t - 1], path[t]] * emissions[t, path[t]]
        weight[path[-1]] += value
    np.testing.assert_allclose(beliefs[-1], weight / weight.sum(), rtol=1e-10)
    np.testing.assert_array_equal(beliefs[-1], scan(hmm, x, np.array([4]))[0][0, :3])
    before = scan(hmm, x[:3], np.array([3]))[0]
    np.testing.assert_array_equal(hmm.latent(before, x[3:], NO_GAP), beliefs[-1:])


def test_regime_tells_the_state_that_was_left_the_stay_in_it_and_how_probable_that_was() -> None:
    transition = np.array([[0.9, 0.1 - 1e-7, 1e-7], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7]])
    means = np.array([[-50.0], [0.0], [50.0]])
    hmm = Hmm(np.full(3, 1 / 3), transition, means, np.ones((3, 1)), interval_s=60.0)
    x = np.repeat([0.0, -50.0, 50.0], [3, 240, 2])[:, None]
    gap_s = np.full(245, 60.0)
    gap_s[0] = np.nan
    rows, _ = hmm.scan(hmm.initial_state(1), x[:-1], gap_s[:-1], np.array([244]))
    regime = hmm.regime(rows, x[-1:], gap_s[-1:])
    assert (regime.kind, regime.index, regime.for_s) == ("state", 2, 60.0)
    assert regime.probability == pytest.approx(1.0)
    assert regime.left is not None
    assert (regime.left.index, regime.left.for_s) == (0, 240 * 60.0)
    assert regime.left.transition_probability == pytest.approx(1e-7)
    silent = hmm.regime(rows, x[:1], np.array([180.0]))
    assert silent.left is not None
    by_hand = np.linalg.matrix_power(transition, 3)[2, 1]
    assert silent.left.transition_probability == pytest.approx(by_hand)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("mixtures", [1, 2])
def test_explanation_agrees_with_the_conditional_by_quadrature(diagonal: bool, mixtures: int) -> None:
    hmm = random_hmm(3, 2, diagonal=diagonal, mixtures=mixtures)
    rows, _ = scan(hmm, hmm.sample(5, np.random.default_rng(0)), np.array([5]))
    record = np.array([0.4, -1.0])
    explanation = hmm.explain(rows, record[None], NO_GAP)
    grid = np.linspace(-40.0, 40.0, 40001)
    for j in range(2):
        candidates = np.tile(record, (len(grid), 1))
        candidates[:, j] = grid
        _, joint = hmm.step(np.repeat(rows, len(grid), axis=0), candidates, np.full(len(grid), np.nan))
        conditional = np.exp(joint) / np.trapezoid(np.exp(joint), grid)
        mean = np.trapezoid(grid * conditional, grid)
        variance = np.trapezoid((grid - mean) ** 2 * conditional, grid)
        assert explanation.expected[0, j] == pytest.approx(mean, rel=1e-8)
        assert explanation.std[0, j] == pytest.approx(np.sqrt(variance), rel=1e-8)
        hidden = record.copy()
        hidden[j] = np.nan
        _, without = hmm.step(rows, hidden[None], NO_GAP)
        _, with_it = hmm.step(rows, record[None], NO_GAP)
        assert explanation.nats[0, j] == pytest.approx((without - with_it)[0], rel=1e-9)


def test_the_first_record_of_an_entity_awaits_the_start_distribution() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    explanation = hmm.explain(hmm.initial_state(1), np.full((1, 2), np.nan), NO_GAP)
    arrays = hmm.arrays()
    np.testing.assert_allclose(explanation.expected[0], arrays["start"] @ arrays["means"], rtol=1e-12)


def test_samples_follow_the_start_and_the_transitions() -> None:
    transition = np.array([[0.9, 0.1], [0.4, 0.6]])
    hmm = Hmm(np.array([0.25, 0.75]), transition, np.array([[-100.0], [100.0]]), np.ones((2, 1)))
    rng = np.random.default_rng(0)
    states = (hmm.sample(20_000, rng)[:, 0] > 0).astype(int)
    for state in range(2):
        followers = states[1:][states[:-1] == state]
        error = 4 * np.sqrt(transition[state, 0] * transition[state, 1] / len(followers))
        assert abs(followers.mean() - transition[state, 1]) < error
    firsts = np.array([hmm.sample(1, rng)[0, 0] > 0 for _ in range(2000)])
    assert abs(firsts.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / 2000)


def test_no_records_are_no_error() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    nothing = np.empty(0)
    rows, value = hmm.step(hmm.initial_state(0), np.empty((0, 2)), nothing)
    assert rows.shape == (0, hmm.state_size)
    assert value.shape == (0,)
    rows, value = hmm.scan(hmm.initial_state(0), np.empty((0, 2)), nothing, np.empty(0, dtype=np.int64))
    assert rows.shape == (0, hmm.state_size)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("mixtures", [1, 3])
def test_arrays_round_trip_exactly(diagonal: bool, mixtures: int) -> None:
    hmm = random_hmm(3, 4, diagonal=diagonal, mixtures=mixtures)
    x = with_gaps(hmm.sample(50, np.random.default_rng(0)))
    rebuilt = Hmm.from_arrays(hmm.arrays())
    np.testing.assert_array_equal(log_likelihood(rebuilt, x), log_likelihood(hmm, x))
    assert "interval_s" not in hmm.arrays()
    assert ("weights" in hmm.arrays()) == (mixtures > 1)
    assert (rebuilt.n_features, rebuilt.n_states, rebuilt.warmup_records) == (4, 3, 3)


def test_an_entity_seen_for_the_first_time_has_left_no_state() -> None:
    hmm = random_hmm(3, 2, diagonal=True)
    regime = hmm.regime(hmm.initial_state(1), np.zeros((1, 2)), NO_GAP)
    assert (regime.for_s, regime.left) == (0.0, None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("start", np.array([0.5, 0.6]), "no distribution"),
        ("transition", np.full((2, 2), 0.6), "no distribution"),
        ("transition", np.eye(3), "shape"),
        ("covariances", np.zeros((2, 3)), "not positive"),
        ("covariances", np.ones((2, 2)), "shape"),
        ("warmup_records", np.array([0.5]), "whole number"),
        ("interval_s", np.array([0.0]), "more than 0"),
        ("weights", np.full((2, 2), 0.4), "no distribution"),
        ("weights", np.full((2, 2), 0.5), "shape"),
    ],
)
def test_arrays_of_no_chain_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hmm.from_arrays({**random_hmm(2, 3, diagonal=True).arrays(), name: value})
