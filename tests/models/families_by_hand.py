"""Families with parameters drawn by hand, and how to score them one record at a time."""

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from scipy.special import expit, logsumexp

from detector.batch import FloatArray, IntArray
from detector.models.contract import Family
from detector.models.discrete_densities import CategoricalFeature, PoissonFeature
from detector.models.feature_densities import (
    FeatureDensity,
    GaussianFeature,
    HistogramFeature,
    KernelFeature,
)
from detector.models.gan import Gan, GanOutcome, GanParameters
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.models.kinds import Kind
from detector.models.naive_bayes import NaiveBayes
from detector.models.networks import Layer
from detector.models.rbm import Rbm
from detector.models.rbm_energy import RbmParameters
from detector.models.vae import Vae, VaeParameters

N_CATEGORIES = 4


def random_covariances(rng: np.random.Generator, k: int, d: int) -> FloatArray:
    factors = rng.normal(size=(k, d, d))
    return np.asarray(factors @ factors.swapaxes(1, 2) / d + 0.1 * np.eye(d))


def random_gmm(k: int, d: int, seed: int = 0, covariance: str = "full") -> Gmm:
    rng = np.random.default_rng(seed)
    weights, means = rng.dirichlet(np.full(k, 2.0)), 2.0 * rng.normal(size=(k, d))
    if covariance == "diagonal":
        return Gmm(weights, means, rng.gamma(3.0, size=(k, d)) / 3.0)
    return Gmm(weights, means, random_covariances(rng, 1 if covariance == "tied" else k, d))


def random_hmm(
    k: int, d: int, *, diagonal: bool, seed: int = 0, interval_s: float | None = None, mixtures: int = 1
) -> Hmm:
    rng = np.random.default_rng(seed)
    n = k * mixtures
    covariances = rng.gamma(2.0, size=(n, d)) if diagonal else random_covariances(rng, n, d)
    start, transition = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.5), size=k)
    means = 2.0 * rng.normal(size=(n, d))
    weights = rng.dirichlet(np.full(mixtures, 2.0), size=k) if mixtures > 1 else None
    return Hmm(start, transition, means, covariances, 3, interval_s, weights)


def random_naive_bayes(c: int, d: int, *, histograms: bool = True, seed: int = 0) -> NaiveBayes:
    """Gaussians and histograms in turn, or Gaussians only."""
    rng = np.random.default_rng(seed)

    def feature(j: int) -> FeatureDensity:
        if histograms and j % 2:
            edges = np.cumsum(rng.uniform(0.2, 0.8, size=8)) - 2.0
            return HistogramFeature(edges, rng.dirichlet(np.ones(9), size=c), rng.uniform(0.2, 1.0, size=2))
        return GaussianFeature(2.0 * rng.normal(size=c), rng.gamma(3.0, size=c) / 3.0)

    return NaiveBayes(rng.dirichlet(np.full(c, 2.0)), [feature(j) for j in range(d)])


def random_mixed_naive_bayes(c: int, kinds: Sequence[Kind], seed: int = 0) -> NaiveBayes:
    """Kernels, Poisson, and categories of a vocabulary of four, which no feature ever leaves."""
    rng = np.random.default_rng(seed)

    def feature(kind: Kind) -> FeatureDensity:
        if kind == "continuous":
            knots = np.linspace(-3.0, 3.0, 41)
            humps = np.logaddexp(-2.0 * (knots - rng.normal(size=(c, 1))) ** 2, -0.5 * knots**2)
            return KernelFeature(knots[[0, -1]], humps, rng.uniform(0.2, 0.6, size=2))
        if kind == "count":
            return PoissonFeature(rng.gamma(2.0, 4.0, size=c))
        shares = rng.dirichlet(np.ones(2 if kind == "binary" else N_CATEGORIES), size=c)
        return CategoricalFeature(np.column_stack((shares, np.zeros(c))))

    return NaiveBayes(rng.dirichlet(np.full(c, 2.0)), [feature(kind) for kind in kinds])


def random_network(rng: np.random.Generator, sizes: list[int]) -> tuple[Layer, ...]:
    return tuple(
        (rng.normal(size=(n_outputs, n_inputs)) / np.sqrt(n_inputs), 0.1 * rng.normal(size=n_outputs))
        for n_inputs, n_outputs in pairwise(sizes)
    )


def random_vae(d: int, window: int, seed: int = 0, latent: int = 2, draws: int = 4, units: int = 12) -> Vae:
    rng = np.random.default_rng(seed)
    context = (window - 1) * d
    return Vae(
        VaeParameters(
            window=window,
            encoder=random_network(rng, [2 * d + context, units, units, 2 * latent]),
            decoder=random_network(rng, [latent + context, units, units, 2 * d]),
            noise=rng.normal(size=(draws, latent)),
            scale=rng.uniform(0.5, 2.0, size=d),
            variance_floor=1e-3,
            input_limit=10.0,
        )
    )


def random_rbm_parameters(d: int, h: int, seed: int = 0, binary: int = 0) -> RbmParameters:
    """Each hidden unit moves features by about one of their standard deviations, and is on or off.

    The last ``binary`` features are binary; a hidden unit moves their log odds by about two nats.
    """
    rng = np.random.default_rng(seed)
    weights, variances = rng.normal(size=(h, d)), rng.uniform(0.3, 1.0, size=d)
    mask = np.arange(d) >= d - binary
    weights[:, mask] *= 2.0
    variances[mask] = 1.0
    undecided = -0.5 * (weights**2 / variances)[:, ~mask].sum(axis=1)
    undecided -= (np.logaddexp(0.0, weights[:, mask]) - np.log(2.0)).sum(axis=1)
    visible_bias = 0.3 * rng.normal(size=d)
    return RbmParameters(weights, visible_bias, undecided + rng.normal(size=h), variances, mask)


def mixture_of_rbm(p: RbmParameters) -> tuple[FloatArray, FloatArray, float]:
    """The same density as a mixture of independent features, by enumeration: weights, means and log Z."""
    settings = np.array(list(product([0.0, 1.0], repeat=len(p.weights))))
    inputs = p.visible_bias + settings @ p.weights
    quadratic = (inputs**2 - p.visible_bias**2) / (2 * p.variances)
    log_weights = settings @ p.hidden_bias + quadratic[:, ~p.binary].sum(axis=1)
    log_weights += np.logaddexp(0.0, inputs[:, p.binary]).sum(axis=1)
    log_partition = logsumexp(log_weights) + 0.5 * np.log(2 * np.pi * p.variances[~p.binary]).sum()
    means = np.where(p.binary, expit(inputs), inputs)
    return np.exp(log_weights - logsumexp(log_weights)), means, float(log_partition)


def drawn_from_rbm(p: RbmParameters, n: int, rng: np.random.Generator) -> FloatArray:
    """Records drawn from the mixture, without chains."""
    weights, means, _ = mixture_of_rbm(p)
    of_record = means[rng.choice(len(weights), size=n, p=weights)]
    gaussian = of_record + np.sqrt(p.variances) * rng.normal(size=of_record.shape)
    return np.where(p.binary, rng.random(of_record.shape) < of_record, gaussian)


def random_rbm(d: int, h: int, seed: int = 0, binary: int = 0) -> Rbm:
    p = random_rbm_parameters(d, h, seed, binary)
    chains = drawn_from_rbm(p, 500, np.random.default_rng(seed))
    return Rbm(p, mixture_of_rbm(p)[2], 0.01, chains)


def random_gan(d: int, latent: int = 2, seed: int = 0) -> Gan:
    rng = np.random.default_rng(seed)
    return Gan(
        GanParameters(
            encoder=random_network(rng, [d, 12, latent]),
            generator=random_network(rng, [latent, 12, d]),
            critic=random_network(rng, [d + latent, 12, 7]),
            location=rng.normal(size=d),
            scale=rng.uniform(0.5, 2.0, size=d),
            reconstruction_variances=rng.uniform(0.1, 0.3, size=d),
            critic_variances=rng.uniform(0.1, 0.3, size=7),
            imputation_variances=rng.uniform(0.3, 0.6, size=d),
            noise_variances=rng.uniform(0.1, 0.3, size=d),
            input_limit=10.0,
        ),
        GanOutcome(watched=rng.random((3, 3)), best_epoch=1, restarts=0),
    )


def with_gaps(x: FloatArray, share: float = 0.2, seed: int = 1) -> FloatArray:
    """Hide a share of the values; the last record loses all of them."""
    hidden = np.random.default_rng(seed).random(x.shape) < share
    hidden[-1] = True
    return np.where(hidden, np.nan, x)


def scan(family: Family, x: FloatArray, lengths: IntArray) -> tuple[FloatArray, FloatArray]:
    return family.scan(family.initial_state(len(lengths)), x, np.full(len(x), np.nan), lengths)


def log_likelihood(family: Family, x: FloatArray) -> FloatArray:
    """Of one sequence from its first record on."""
    return scan(family, x, np.array([len(x)]))[1]


def step_by_step(family: Family, x: FloatArray, lengths: IntArray) -> tuple[FloatArray, FloatArray]:
    """What ``scan`` gives, by one call of ``step`` per record."""
    states, log_likelihoods, start = [], [np.empty(0)], 0
    for length in lengths:
        rows = family.initial_state(1)
        for t in range(start, start + length):
            rows, value = family.step(rows, x[t : t + 1], np.array([np.nan]))
            log_likelihoods.append(value)
        states.append(rows)
        start += length
    return np.concatenate(states), np.concatenate(log_likelihoods)
