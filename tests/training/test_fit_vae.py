"""Tests for detector.training.fit_vae and its network."""

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_normal, norm

from detector.models.vae import Vae
from detector.training.fit_vae import fit_vae, stratified_noise

torch = pytest.importorskip("torch", reason="torch is not installed: the VAE cannot be fitted")


def log_likelihood(vae: Vae, x: np.ndarray) -> np.ndarray:
    return vae.scan(vae.initial_state(1), x, np.full(len(x), np.nan), np.array([len(x)]))[1]


def correlated(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]], size=n)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
def test_training_and_scoring_compute_the_same_bound(window: int, hidden: tuple[int, ...]) -> None:
    from detector.training.vae_network import VaeNetwork

    rng = np.random.default_rng(0)
    d, latent, scale = 3, 2, np.array([2.0, 0.5, 1e-5])
    noise = rng.standard_normal((4, latent))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VaeNetwork(d, window, latent, hidden, variance_floor=0.01, input_limit=2.0).double()
    vae = Vae(network.scoring_parameters(scale, noise))
    scaled = rng.normal(size=(20, d)) * 2.0
    # Of incomplete records scoring takes other draws, see tests/models/test_vae.py.
    observed = np.ones((20, d), dtype=bool)
    context = rng.uniform(-2.0, 2.0, size=(20, (window - 1) * d))
    with torch.no_grad():
        expected = network.bound(
            *(torch.from_numpy(a.astype(np.float64)) for a in (scaled * observed, observed, context, noise))
        ).numpy() - observed @ np.log(scale)
    np.testing.assert_allclose(vae.step(context, scaled * scale, np.full(20, np.nan))[1], expected, rtol=1e-9)


def test_learns_a_correlation_and_what_a_mask_means() -> None:
    x, fresh = correlated(3000), correlated(1000, seed=1)
    vae = fit_vae(x, lengths=np.array([3000]), seed=0, hidden=(16,), max_epochs=40)
    truth = multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
    independent = multivariate_normal([0.0, 0.0], np.eye(2)).logpdf(fresh).mean()
    loss = truth.logpdf(fresh).mean() - log_likelihood(vae, fresh).mean()
    assert abs(loss) < 0.15
    assert truth.logpdf(fresh).mean() - independent > 0.7
    first_only = np.column_stack([fresh[:, 0], np.full(1000, np.nan)])
    marginal = multivariate_normal(0.0, 1.0).logpdf(fresh[:, 0]).mean()
    assert abs(marginal - log_likelihood(vae, first_only).mean()) < 0.15


def test_a_window_learns_from_the_record_before() -> None:
    rng = np.random.default_rng(0)
    x = np.empty((3000, 1))
    x[0] = rng.normal()
    for t in range(1, len(x)):
        x[t] = 0.95 * x[t - 1] + np.sqrt(1 - 0.95**2) * rng.normal()
    train, fresh, lengths = x[:2400], x[2400:], np.array([2400])
    values = [
        log_likelihood(fit_vae(train, lengths=lengths, seed=0, window=window, max_epochs=30), fresh).mean()
        for window in (1, 2)
    ]
    assert values[1] > values[0] + 0.7


def test_stratified_noise_is_standard_normal_with_a_draw_in_every_stratum() -> None:
    rng = np.random.default_rng(0)
    noise = np.stack([stratified_noise(rng, 8, 3) for _ in range(2000)])
    strata = np.sort(np.floor(8 * norm.cdf(noise)), axis=1)
    np.testing.assert_array_equal(strata, np.broadcast_to(np.arange(8)[None, :, None], strata.shape))
    assert kstest(noise[:, 0, 0], "norm").pvalue > 0.001
    assert abs(np.corrcoef(noise[:, 0, 0], noise[:, 0, 1])[0, 1]) < 0.1


def test_missing_values_are_trained_around() -> None:
    x = correlated(3000)
    x[np.random.default_rng(2).random(x.shape) < 0.3] = np.nan
    vae = fit_vae(x, lengths=np.array([3000]), seed=0, hidden=(16,), max_epochs=40)
    fresh = correlated(1000, seed=1)
    truth = multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
    assert truth.logpdf(fresh).mean() - log_likelihood(vae, fresh).mean() < 0.25


def test_labelled_anomalies_are_not_learnt_and_what_follows_them_is() -> None:
    rng = np.random.default_rng(0)
    anomalous = rng.random(3000) < 0.05
    x = correlated(3000)
    x[anomalous] = [4.0, -4.0] + 0.3 * rng.normal(size=(anomalous.sum(), 2))
    # Every spike leaves a dent behind, which is as normal as anything.
    dent = np.roll(anomalous, 1) & ~anomalous
    x[dent] -= 3.0
    with_labels, without = (
        log_likelihood(
            fit_vae(
                x, lengths=np.array([3000]), seed=0, anomalous=labels, window=2, hidden=(24,), max_epochs=30
            ),
            x,
        )
        for labels in (anomalous, None)
    )
    assert with_labels[anomalous].mean() < without[anomalous].mean() - 20.0
    assert with_labels[~anomalous].mean() > without[~anomalous].mean() - 0.05
    assert with_labels[dent].mean() > without[dent].mean() - 0.5


def test_labels_that_leave_nothing_to_learn_from_are_refused() -> None:
    x, lengths = correlated(400), np.array([400])
    with pytest.raises(ValueError, match="80 usable rows, and 80 in the last fifth, are too few"):
        fit_vae(x, lengths=lengths, seed=0, anomalous=np.arange(400) < 240)
    with pytest.raises(ValueError, match="0 in the last fifth"):
        fit_vae(x, lengths=lengths, seed=0, anomalous=np.arange(400) >= 320)
    with pytest.raises(ValueError, match=r"anomalous has shape \(399,\)"):
        fit_vae(x, lengths=lengths, seed=0, anomalous=np.zeros(399, dtype=bool))
    x[10:, 1] = np.nan
    with pytest.raises(ValueError, match=r"features \[1\] .* are missing in every row"):
        fit_vae(x, lengths=lengths, seed=0, anomalous=np.arange(400) < 20)


def test_same_seed_same_bits_and_the_global_generator_is_left_alone() -> None:
    x = correlated(400)
    before = torch.random.get_rng_state()
    first, again = (
        fit_vae(x, lengths=np.array([400]), seed=3, hidden=(8,), max_epochs=2).arrays() for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_constant_features_keep_a_spread() -> None:
    x = np.column_stack([correlated(600), np.full(600, 5.0)])
    vae = fit_vae(x, lengths=np.array([600]), seed=0, hidden=(8,), max_epochs=5)
    assert np.isfinite(log_likelihood(vae, x)).all()


def test_progress_ends_complete_where_training_stops_early() -> None:
    told: list[tuple[str, int, int]] = []
    x = correlated(300)
    fit_vae(
        x,
        lengths=np.array([300]),
        seed=0,
        hidden=(64, 64),
        max_epochs=200,
        progress=lambda *step: told.append(step),
    )
    assert len(told) < 200
    assert told[-1][1] == told[-1][2] == 200


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (100, {}, "are too few for a variational autoencoder"),
        (400, {"window": 0}, "window is 0"),
        (400, {"samples": 0}, "samples is 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(rows: int, options: dict[str, int], message: str) -> None:
    x = correlated(rows)
    with pytest.raises(ValueError, match=message):
        fit_vae(x, lengths=np.array([rows]), seed=0, **options)  # type: ignore[arg-type]
