"""The plain detectors that families are compared with: each fits rows and says how anomalous others are."""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from detector.batch import FloatArray

COMPONENTS = 8
BINS = 10
PCA_VARIANCE = 0.9
FITTED_SHARE = 0.7

Scorer = Callable[[FloatArray], FloatArray]
"""From rows, shape (N, D), to anomaly, shape (N,): high is anomalous."""
PeerFit = Callable[[FloatArray, int], Scorer]
"""From training rows without labels and a seed to a scorer."""


def isolation_forest(train: FloatArray, seed: int) -> Scorer:
    """scikit-learn's, as it comes."""
    forest = IsolationForest(random_state=seed).fit(train)
    return lambda x: np.asarray(-forest.score_samples(x))


def gaussian_mixture(train: FloatArray, seed: int) -> Scorer:
    """scikit-learn's, 8 full components, the rest as it comes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(min(COMPONENTS, len(train)), random_state=seed).fit(train)
    return lambda x: np.asarray(-mixture.score_samples(x))


def gaussian_mixture_of_fewer(train: FloatArray, seed: int) -> Scorer:
    """The same, on the rows that a family is fitted on: the newest 30 % only calibrate it."""
    return gaussian_mixture(train[: int(FITTED_SHARE * len(train))], seed)


def histogram_naive_bayes(train: FloatArray, _seed: int) -> Scorer:
    """Ten bins of equal width per feature, one row added to each; outside all bins only the added row."""
    edges, surprise = [], []
    for column in train.T:
        counts, own_edges = np.histogram(column, bins=BINS)
        # The last bin includes its upper edge, as in numpy.histogram.
        own_edges[-1] = np.nextafter(own_edges[-1], np.inf)
        edges.append(own_edges)
        surprise.append(-np.log((np.pad(counts, 1) + 1.0) / (len(train) + BINS + 1.0)))

    def score(x: FloatArray) -> FloatArray:
        total = np.zeros(len(x))
        for own_edges, own_surprise, column in zip(edges, surprise, x.T, strict=True):
            total += own_surprise[np.searchsorted(own_edges, column, side="right")]
        return total

    return score


def diagonal_gaussian(train: FloatArray, _seed: int) -> Scorer:
    """One bell per feature; a constant one keeps the scale that standardising gave it."""
    mean, variance = train.mean(axis=0), train.var(axis=0)
    variance[variance < 1e-12] = 1.0
    return lambda x: np.asarray(((x - mean) ** 2 / variance).sum(axis=1))


def pca_error(train: FloatArray, _seed: int) -> Scorer:
    """Squared distance from the fewest principal components with 90 % of the variance, never from all."""
    mean = train.mean(axis=0)
    _, singular, components = np.linalg.svd(train - mean, full_matrices=False)
    held = np.cumsum(singular**2) / max(float((singular**2).sum()), np.finfo(np.float64).tiny)
    n = min(int(np.searchsorted(held, PCA_VARIANCE)) + 1, train.shape[1] - 1)
    kept = components[:n]

    def score(x: FloatArray) -> FloatArray:
        centred = x - mean
        return np.asarray(((centred - centred @ kept.T @ kept) ** 2).sum(axis=1))

    return score


PEERS: dict[str, PeerFit] = {
    "isolation forest": isolation_forest,
    "scikit-learn GMM": gaussian_mixture,
    "scikit-learn GMM, 70 %": gaussian_mixture_of_fewer,
    "histogram naive Bayes": histogram_naive_bayes,
    "diagonal Gaussian": diagonal_gaussian,
}

SANITY: dict[str, PeerFit] = {
    "diagonal Gaussian": diagonal_gaussian,
    "isolation forest": isolation_forest,
    "PCA error": pca_error,
}
"""Those that the product's quality is compared with."""
