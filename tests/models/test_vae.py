"""Tests for detector.models.vae."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from detector.batch import FloatArray
from detector.models.vae import Vae, VaeParameters
from tests.models.families_by_hand import log_likelihood, random_vae, scan, step_by_step, with_gaps

D, LATENT = 3, 2
LOADINGS = np.array([[1.0, 0.5], [-0.7, 1.2], [0.3, 0.9]])
OFFSET = np.array([0.4, -0.2, 0.1])
PAST = np.array([[0.5, 0.0, 0.1], [0.0, -0.4, 0.2], [0.3, 0.0, 0.3]])
NOISE_VARIANCE = np.array([0.5, 0.3, 0.8])
SCALE = np.array([2.0, 0.5, 1.0])
NO_GAP = np.array([np.nan])


def linear_gaussian(draws: int, *, window: int = 1, mismatch: float = 0.0, wide: bool = False) -> Vae:
    """x / scale = offset + loadings z + past x_before / scale + noise, with a linear encoder.

    Without mismatch the encoder has the exact mean of z given all features, but independent deviations
    where the true ones are correlated, so draws weigh unequally. A wide one has the prior's deviations. Of a
    missing feature the encoder knows only that it makes z less certain.
    """
    gain = LOADINGS / NOISE_VARIANCE[:, None]
    precision = np.eye(LATENT) + LOADINGS.T @ gain
    to_mean = np.linalg.solve(precision, gain.T)
    log_variance = np.zeros(LATENT) if wide else -np.log(np.diag(precision))
    context = (window - 1) * D
    past = np.zeros((D, context))
    if context:
        past[:, -D:] = PAST
    encoder = np.zeros((2 * LATENT, 2 * D + context))
    encoder[:LATENT, :D] = to_mean
    encoder[:LATENT, 2 * D :] = -to_mean @ past
    encoder[LATENT:, D : 2 * D] = log_variance[:, None] / D
    encoder_bias = np.concatenate([mismatch - to_mean @ OFFSET, np.zeros(LATENT)])
    decoder = np.zeros((2 * D, LATENT + context))
    decoder[:D] = np.hstack([LOADINGS, past])
    decoder_bias = np.concatenate([OFFSET, np.log(NOISE_VARIANCE - 0.01)])
    return Vae(
        VaeParameters(
            window=window,
            encoder=((encoder, encoder_bias),),
            decoder=((decoder, decoder_bias),),
            noise=np.random.default_rng(5).standard_normal((draws, LATENT)),
            scale=SCALE,
            variance_floor=0.01,
            input_limit=1e6,
        )
    )


def known_log_likelihood(x: FloatArray, before: FloatArray) -> float:
    """Of the observed features of one record, given the scaled one before it."""
    seen = ~np.isnan(x)
    mean = SCALE * (OFFSET + PAST @ before)
    covariance = np.outer(SCALE, SCALE) * (LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCE))
    return float(multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(x[seen]))


def standard_errors_off(vae: Vae, rows: FloatArray, x: FloatArray, known: float) -> float:
    """How far the bound is from the known log-likelihood, in standard errors of its L draws.

    The mean weight estimates p(x) without bias; the delta method gives the error of its logarithm, from the
    means of 40 parts of the draws.
    """
    parts = []
    for noise in np.split(vae.arrays()["noise"], 40):
        with_part = Vae.from_arrays({**vae.arrays(), "noise": noise})
        parts.append(with_part.step(rows, x[None], NO_GAP)[1][0])
    weights = np.exp(np.array(parts) - max(parts))
    _, bound = vae.step(rows, x[None], NO_GAP)
    assert bound[0] == pytest.approx(logsumexp(parts) - np.log(40), rel=1e-9)
    return float(abs(bound[0] - known) / (weights.std() / weights.mean() / np.sqrt(40)))


@pytest.mark.parametrize("mismatch", [0.0, 0.5])
@pytest.mark.parametrize("x", [[0.1, 0.2, 0.3], [4.0, -1.0, 1.5]])
def test_bound_agrees_with_a_known_likelihood(mismatch: float, x: list[float]) -> None:
    vae, record = linear_gaussian(2000, mismatch=mismatch), np.array(x)
    known = known_log_likelihood(record, np.zeros(D))
    assert standard_errors_off(vae, vae.initial_state(1), record, known) < 3


@pytest.mark.parametrize("mismatch", [0.0, 0.5])
def test_bound_of_a_window_agrees_with_a_known_likelihood(mismatch: float) -> None:
    vae = linear_gaussian(2000, window=3, mismatch=mismatch)
    before, record = np.array([[1.0, -2.0, 0.5], [2.0, 0.5, -1.0]]), np.array([1.0, 0.3, 0.4])
    rows, _ = scan(vae, before, np.array([2]))
    known = known_log_likelihood(record, before[1] / SCALE)
    assert standard_errors_off(vae, rows, record, known) < 3
    assert standard_errors_off(vae, rows, record, known_log_likelihood(record, np.zeros(D))) > 3


@pytest.mark.parametrize("missing", [[0], [1], [2], [0, 2], [1, 2]])
@pytest.mark.parametrize("mismatch", [0.0, 0.3])
def test_missing_features_leave_a_bound_on_the_marginal_of_the_others(
    missing: list[int], mismatch: float
) -> None:
    vae, record = linear_gaussian(2000, mismatch=mismatch), np.array([1.0, -0.8, 0.4])
    record[missing] = np.nan
    known = known_log_likelihood(record, np.zeros(D))
    assert standard_errors_off(vae, vae.initial_state(1), record, known) < 3


def test_missing_features_of_a_window_leave_a_bound_on_the_marginal_given_the_past() -> None:
    vae, record = linear_gaussian(2000, window=2), np.array([np.nan, 0.3, 0.4])
    rows, _ = scan(vae, np.array([[2.0, 0.5, -1.0]]), np.array([1]))
    assert standard_errors_off(vae, rows, record, known_log_likelihood(record, rows[0])) < 3


def test_imputing_loses_less_than_more_draws_of_an_encoder_that_sees_zeros() -> None:
    """Six features that say nearly the same, one of them missing: zero is far from what it must have been."""
    rng = np.random.default_rng(0)
    loadings, variance, n = rng.normal(size=(6, 2)), 0.01, 300
    precision = np.eye(2) + loadings.T @ loadings / variance
    encoder = np.zeros((4, 12))
    encoder[:2, :6] = np.linalg.solve(precision, loadings.T / variance)
    encoder_bias = np.concatenate([np.zeros(2), -np.log(np.diag(precision))])
    decoder, decoder_bias = np.vstack([loadings, np.zeros((6, 2))]), np.repeat([0.0, np.log(variance)], 6)
    x = rng.normal(size=(n, 2)) @ loadings.T + np.sqrt(variance) * rng.normal(size=(n, 6))
    seen = np.where(np.arange(6) == 1, 0.0, x)
    mean, std = seen @ encoder[:2, :6].T, np.exp(0.5 * encoder_bias[2:])
    others = [0, 2, 3, 4, 5]
    covariance = loadings @ loadings.T + variance * np.eye(6)
    known = multivariate_normal(np.zeros(5), covariance[np.ix_(others, others)]).logpdf(x[:, others])
    lost, lost_with_zeros = [], []
    for _ in range(10):
        noise = rng.standard_normal((16, 2))
        vae = Vae(
            VaeParameters(
                window=1,
                encoder=((encoder, encoder_bias),),
                decoder=((decoder, decoder_bias),),
                noise=noise[:8],
                scale=np.ones(6),
                variance_floor=0.0,
                input_limit=1e6,
            )
        )
        lost.append(known - log_likelihood(vae, np.where(np.arange(6) == 1, np.nan, x)))
        z = mean[:, None] + std * noise
        log_weights = norm.logpdf(z).sum(axis=2) - norm.logpdf(noise).sum(axis=1) + np.log(std).sum()
        decoded = z @ loadings[others].T
        log_weights += norm.logpdf(x[:, None, others], decoded, np.sqrt(variance)).sum(axis=2)
        lost_with_zeros.append(known - logsumexp(log_weights, axis=1) + np.log(16))
    assert 0 < np.mean(lost) < 0.1 * np.mean(lost_with_zeros), (np.mean(lost), np.mean(lost_with_zeros))


def nonlinear(d: int, draws: int) -> Vae:
    """One latent dimension, a decoder with a hidden layer, and a wide encoder."""
    rng = np.random.default_rng(1)
    first = 2.0 * rng.normal(size=(6, 1)), rng.normal(size=6)
    second = rng.normal(size=(2 * d, 6)) / 2.0, np.zeros(2 * d)
    return Vae(
        VaeParameters(
            window=1,
            encoder=((np.zeros((2, 2 * d)), np.zeros(2)),),
            decoder=(first, second),
            noise=rng.standard_normal((draws, 1)),
            scale=rng.uniform(0.5, 2.0, size=d),
            variance_floor=0.05,
            input_limit=10.0,
        )
    )


@pytest.mark.parametrize(
    "record", [[0.7], [-2.5], [0.7, 0.2, -0.5], [0.7, np.nan, -0.5], [np.nan, np.nan, 1.0]]
)
def test_bound_agrees_with_numerical_integration_over_the_latent_dimension(record: list[float]) -> None:
    x = np.array(record)
    vae, seen = nonlinear(len(x), 4000), ~np.isnan(x)
    a = vae.arrays()
    unscaled = x[seen] / a["scale"][seen]

    def density(z: float) -> float:
        hidden = np.maximum(a["decoder_0_weight"][:, 0] * z + a["decoder_0_bias"], 0.0)
        mean, log_variance = np.split(a["decoder_1_weight"] @ hidden, 2)
        std = np.sqrt(np.exp(log_variance) + 0.05)
        return float(norm.pdf(z) * norm.pdf(unscaled, mean[seen], std[seen]).prod())

    kinks = np.sort(-a["decoder_0_bias"] / a["decoder_0_weight"][:, 0]).clip(-9.0, 9.0)
    total = sum(quad(density, low, high, epsrel=1e-9)[0] for low, high in pairwise([-10.0, *kinks, 10.0]))
    known = np.log(total) - np.log(a["scale"][seen]).sum()
    assert standard_errors_off(vae, vae.initial_state(1), x, known) < 3


@pytest.mark.parametrize("missing", [False, True])
def test_few_draws_give_less_than_the_likelihood_on_average(missing: bool) -> None:
    """And more draws lose less, until nothing is lost."""
    rng = np.random.default_rng(0)
    x = linear_gaussian(1).sample(2000, rng)
    x[:, 1] = np.nan if missing else x[:, 1]
    known = np.array([known_log_likelihood(record, np.zeros(D)) for record in x])
    bounds = []
    for draws in (1, 8, 64):
        losses = []
        for _ in range(10):
            vae = linear_gaussian(draws, mismatch=0.5)
            noise = rng.standard_normal((draws, LATENT))
            shifted = Vae.from_arrays({**vae.arrays(), "noise": noise})
            losses.append((known - log_likelihood(shifted, x)).mean())
        bounds.append(np.mean(losses))
    assert bounds[0] > bounds[1] > bounds[2] > 0


@pytest.mark.parametrize(("d", "window"), [(1, 1), (3, 1), (10, 1), (1, 4), (3, 4), (10, 3)])
def test_scan_is_repeated_step_to_the_bit(d: int, window: int) -> None:
    vae = random_vae(d, window)
    lengths = np.array([1, 70, 3, 2, 24])
    x = np.random.default_rng(1).normal(size=(100, d))
    x[::2] = with_gaps(x[::2])
    x[20] = 1e200
    x[30] = 1e4
    rows, scanned = scan(vae, x, lengths)
    expected_rows, stepped = step_by_step(vae, x, lengths)
    np.testing.assert_array_equal(scanned, stepped)
    np.testing.assert_array_equal(rows, expected_rows)


@pytest.mark.parametrize("window", [1, 3])
def test_batch_size_and_order_change_no_bit(window: int) -> None:
    vae, rng = random_vae(5, window), np.random.default_rng(2)
    x = with_gaps(rng.normal(size=(300, 5)))
    rows = rng.normal(size=(300, vae.state_size))
    after, together = vae.step(rows, x, np.full(300, np.nan))
    order = rng.permutation(300)
    shuffled_after, shuffled = vae.step(rows[order], x[order], np.full(300, np.nan))
    np.testing.assert_array_equal(shuffled, together[order])
    np.testing.assert_array_equal(shuffled_after, after[order])
    for part in np.split(np.arange(300), [1, 2, 40, 107]):
        _, values = vae.step(rows[part], x[part], np.full(len(part), np.nan))
        np.testing.assert_array_equal(values, together[part])


def test_an_absurd_value_is_improbable_and_leaves_the_next_records_a_score() -> None:
    vae = random_vae(3, 4)
    x = vae.sample(20, np.random.default_rng(0))
    ordinary = log_likelihood(vae, x)
    x[5] = [1e200, 0.0, 0.0]
    x[10] = [1e6, 0.0, 0.0]
    value = log_likelihood(vae, x)
    assert np.isneginf(value[5])
    assert value[10] < ordinary.min() - 1e6
    assert np.isfinite(np.delete(value, 5)).all()


def test_a_record_without_features_has_no_score_and_fills_the_window_with_zeros() -> None:
    vae = random_vae(2, 3)
    rows, _ = scan(vae, np.array([[1.0, 2.0], [0.5, 0.5]]), np.array([2]))
    after, value = vae.step(rows, np.full((1, 2), np.nan), NO_GAP)
    assert np.isnan(value).all()
    np.testing.assert_array_equal(after[0], [*rows[0, 2:], 0.0, 0.0])


@pytest.mark.parametrize("missing", [False, True])
def test_explanation_agrees_with_the_conditional_of_a_linear_model(missing: bool) -> None:
    record = np.array([1.0, 0.3, np.nan if missing else -0.8])
    vae = linear_gaussian(20_000, window=2, wide=True)
    rows, _ = scan(vae, np.array([[1.0, -0.5, 0.7]]), np.array([1]))
    explanation = vae.explain(rows, record[None], NO_GAP)
    mean = SCALE * (OFFSET + PAST @ rows[0])
    covariance = np.outer(SCALE, SCALE) * (LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCE))
    for j in range(D):
        others = [i for i in range(D) if i != j and not np.isnan(record[i])]
        gain = covariance[j, others] @ np.linalg.inv(covariance[np.ix_(others, others)])
        expected = mean[j] + gain @ (record[others] - mean[others])
        std = np.sqrt(covariance[j, j] - gain @ covariance[others, j])
        assert explanation.expected[0, j] == pytest.approx(expected, abs=0.05 * std)
        assert explanation.std[0, j] == pytest.approx(std, rel=0.05)
        if np.isnan(record[j]):
            assert np.isnan(explanation.nats[0, j])
        else:
            nats = 0.5 * ((record[j] - expected) / std) ** 2 + np.log(std) + 0.5 * np.log(2 * np.pi)
            assert explanation.nats[0, j] == pytest.approx(nats, abs=0.05)


@pytest.mark.parametrize("window", [1, 3])
def test_latent_mean_is_that_of_the_exact_posterior_of_a_linear_model(window: int) -> None:
    vae = linear_gaussian(2, window=window)
    rng = np.random.default_rng(3)
    rows, x = rng.normal(size=(7, (window - 1) * D)), 2.0 * rng.normal(size=(7, D))
    before = rows[:, -D:] if window > 1 else np.zeros((7, D))
    error = x / SCALE - OFFSET - before @ PAST.T
    covariance = LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCE)
    expected = error @ np.linalg.solve(covariance, LOADINGS)
    np.testing.assert_allclose(vae.latent(rows, x, np.full(7, np.nan)), expected, rtol=1e-9)


def test_explanation_stays_finite_for_absurd_values() -> None:
    vae = random_vae(3, 1)
    explanation = vae.explain(vae.initial_state(1), np.array([[1e300, 0.0, np.nan]]), NO_GAP)
    assert np.isfinite(explanation.expected).all()
    assert np.isfinite(explanation.std).all()
    assert explanation.nats[0, 0] > explanation.nats[0, 1]


@pytest.mark.parametrize("window", [1, 2])
def test_samples_have_the_moments_of_a_linear_model(window: int) -> None:
    x = linear_gaussian(1, window=window).sample(20_000, np.random.default_rng(0)) / SCALE
    noise = LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCE)
    mean, covariance = OFFSET, noise
    if window == 2:
        mean = np.linalg.solve(np.eye(D) - PAST, OFFSET)
        for _ in range(200):
            covariance = PAST @ covariance @ PAST.T + noise
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.08)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.15)


def test_samples_score_like_the_model_says_on_average() -> None:
    """The mean log-likelihood of a model's own samples is its negative entropy."""
    x = linear_gaussian(1).sample(5000, np.random.default_rng(3))
    covariance = np.outer(SCALE, SCALE) * (LOADINGS @ LOADINGS.T + np.diag(NOISE_VARIANCE))
    entropy = multivariate_normal(np.zeros(D), covariance).entropy()
    values = log_likelihood(linear_gaussian(200), x)
    assert values.mean() == pytest.approx(-entropy, abs=4 * values.std() / np.sqrt(len(x)) + 0.02)


def test_arrays_round_trip_exactly() -> None:
    vae = random_vae(3, 2)
    x = with_gaps(np.random.default_rng(0).normal(size=(30, 3)))
    rebuilt = Vae.from_arrays(vae.arrays())
    np.testing.assert_array_equal(log_likelihood(rebuilt, x), log_likelihood(vae, x))
    assert (rebuilt.n_features, rebuilt.window, rebuilt.state_size, rebuilt.warmup_records) == (3, 2, 3, 1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("window", np.array([3.0]), "encoder layer 0"),
        ("window", np.array([0.0]), "at least 1"),
        ("noise", np.zeros((4, 3)), "encoder layer 2"),
        ("scale", np.array([1.0, 0.0, 1.0]), "positive"),
        ("encoder_1_weight", np.zeros((12, 7)), "encoder layer 1"),
        ("decoder_2_bias", np.zeros(5), "shape"),
        ("decoder_0_weight", np.full((12, 2), np.nan), "not finite"),
    ],
)
def test_arrays_of_no_network_are_refused(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vae.from_arrays({**random_vae(3, 1).arrays(), name: value})


def test_an_absent_layer_is_refused() -> None:
    arrays = random_vae(3, 1).arrays()
    del arrays["encoder_1_weight"]
    with pytest.raises(ValueError, match="encoder"):
        Vae.from_arrays(arrays)


def test_records_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 3 features"):
        log_likelihood(random_vae(3, 1), np.zeros((2, 4)))
