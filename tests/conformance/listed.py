"""Where a family is listed to get every test of the suite: a teacher of its own kind, and its own fit.

The teacher has parameters drawn by hand. It draws the rows that the family is fitted to, and the held-out
rows that it is tested on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray
from detector.models.contract import Family
from detector.models.families import FAMILIES
from detector.models.feature_transforms import FeatureTransforms
from detector.models.kinds import Kind
from detector.pipeline.detector import Detector
from detector.scoring.committee import Committee
from detector.scoring.member import Member
from detector.scoring.scoring_model import ScoringModel
from detector.training.calibrate import calibrate
from detector.training.fit_gmm import fit_gmm
from detector.training.fit_hmm import fit_hmm
from detector.training.fit_naive_bayes import fit_naive_bayes
from detector.training.fit_rbm import fit_rbm
from tests.made import density, detector
from tests.models.families_by_hand import (
    N_CATEGORIES,
    random_gan,
    random_gmm,
    random_hmm,
    random_mixed_naive_bayes,
    random_naive_bayes,
    random_rbm,
    random_vae,
)

MANY = 200
"""Features of the wide case."""
THINNING = 25
"""Records of one sequence so far apart are nearly independent."""

Fit = Callable[[FloatArray, IntArray], Family]


def _all_continuous(n_features: int) -> tuple[Kind, ...]:
    every: tuple[Kind, ...] = ("continuous",)
    return every * n_features


@dataclass(frozen=True)
class Listed:
    """One family, or a variant of one."""

    family: str
    teacher: Callable[[int], Family]
    """From a number of features to a family of the same kind."""
    fit: Fit
    """Its real fit, cheap: seconds for 3,000 rows of 3 features."""
    options: dict[str, int] = field(default_factory=dict)
    """Settings that make it cheap to train through the job as well."""
    latent_is_distribution: bool = False
    """Whether ``latent`` is the posterior of one discrete cause."""
    kinds: Callable[[int], tuple[Kind, ...]] = _all_continuous
    """From a number of features to their kinds; the first two are continuous."""


def _fit_vae(x: FloatArray, lengths: IntArray) -> Family:
    pytest.importorskip("torch", reason="torch is not installed: the VAE cannot be fitted")
    from detector.training.fit_vae import fit_vae

    return fit_vae(x, lengths=lengths, seed=0, window=2, hidden=(24,), samples=16, max_epochs=_epochs(x, 40))


def _fit_gan(x: FloatArray, lengths: IntArray) -> Family:
    pytest.importorskip("torch", reason="torch is not installed: the GAN cannot be fitted")
    from detector.training.fit_gan import fit_gan

    return fit_gan(x, lengths=lengths, seed=0, hidden=(32, 32), max_epochs=_epochs(x, 6))


def _epochs(x: FloatArray, usual: int) -> int:
    """The wide case is there for its width, not for a good fit."""
    return 2 if x.shape[1] == MANY else usual


def _mixed_naive_bayes(own: tuple[Kind, ...]) -> Listed:
    """Naive Bayes with features of several kinds, the given ones again and again."""

    def kinds(d: int) -> tuple[Kind, ...]:
        return tuple(islice(cycle(own), d))

    def fit(x: FloatArray, lengths: IntArray) -> Family:
        d = x.shape[1]
        return fit_naive_bayes(
            x, lengths=lengths, seed=0, n_classes=2, kinds=kinds(d), n_categories=[N_CATEGORIES] * d
        )

    return Listed(
        "naive_bayes",
        lambda d: random_mixed_naive_bayes(2, kinds(d)),
        fit,
        {"n_classes": 2},
        latent_is_distribution=True,
        kinds=kinds,
    )


def _n_binary(n_features: int) -> int:
    return n_features // 3


def _fit_mixed_rbm(x: FloatArray, lengths: IntArray) -> Family:
    d = x.shape[1]
    binary = np.arange(d) >= d - _n_binary(d)
    return fit_rbm(x, lengths=lengths, seed=0, n_hidden=3, max_epochs=_epochs(x, 100), binary=binary)


def _binary_last(n_features: int) -> tuple[Kind, ...]:
    n = _n_binary(n_features)
    binary: tuple[Kind, ...] = ("binary",)
    return _all_continuous(n_features - n) + binary * n


LISTED: dict[str, Listed] = {
    "gmm": Listed(
        "gmm",
        lambda d: random_gmm(2, d),
        lambda x, lengths: fit_gmm(x, lengths=lengths, seed=0, n_components=2),
        {"n_components": 2},
        latent_is_distribution=True,
    ),
    "hmm": Listed(
        "hmm",
        lambda d: random_hmm(2, d, diagonal=True),
        lambda x, lengths: fit_hmm(x, lengths=lengths, seed=0, n_states=2, n_mixtures=1),
        {"n_states": 2, "n_mixtures": 1},
        latent_is_distribution=True,
    ),
    "hmm-mixtures": Listed(
        "hmm",
        lambda d: random_hmm(2, d, diagonal=True, mixtures=2),
        lambda x, lengths: fit_hmm(x, lengths=lengths, seed=0, n_states=2, n_mixtures=2),
        {"n_states": 2, "n_mixtures": 2},
        latent_is_distribution=True,
    ),
    "naive_bayes": Listed(
        "naive_bayes",
        lambda d: random_naive_bayes(2, d),
        lambda x, lengths: fit_naive_bayes(x, lengths=lengths, seed=0, n_classes=2),
        {"n_classes": 2},
        latent_is_distribution=True,
    ),
    "naive_bayes-counts": _mixed_naive_bayes(("continuous", "continuous", "count", "categorical", "binary")),
    "naive_bayes-categories": _mixed_naive_bayes(("continuous", "continuous", "categorical", "count")),
    "rbm": Listed(
        "rbm",
        lambda d: random_rbm(d, 3),
        lambda x, lengths: fit_rbm(x, lengths=lengths, seed=0, n_hidden=3, max_epochs=_epochs(x, 100)),
        {"n_hidden": 6},
    ),
    "rbm-binary": Listed(
        "rbm",
        lambda d: random_rbm(d, 3, binary=_n_binary(d)),
        _fit_mixed_rbm,
        {"n_hidden": 6},
        kinds=_binary_last,
    ),
    "gan": Listed("gan", random_gan, _fit_gan),
    "vae": Listed("vae", lambda d: random_vae(d, window=2), _fit_vae),
}


@cache
def teacher(name: str, n_features: int = 3) -> Family:
    return LISTED[name].teacher(n_features)


@cache
def fitted(name: str, n_features: int = 3) -> Family:
    """The family as fitted to rows of its teacher."""
    n = 1500 if n_features == MANY else 3000
    return LISTED[name].fit(drawn(name, n, 0, n_features), np.array([n]))


def drawn(name: str, n: int, seed: int, n_features: int = 3) -> FloatArray:
    """One sequence of n rows from the teacher; seed 0 is what was fitted on."""
    return teacher(name, n_features).sample(n, np.random.default_rng(seed))


@cache
def calibrated(name: str) -> tuple[ScoringModel, Detector]:
    """The fitted family calibrated on held-out rows of its teacher, and a detector of it."""
    own, n = density(fitted(name)), 20_000
    rows = drawn(name, n, seed=1)
    one, all_rows, model = np.array([n]), np.ones(n, dtype=bool), np.zeros(1, dtype=np.int64)
    calibration, examples, *_ = calibrate(
        own,
        rows,
        np.arange(n, dtype=float),
        lengths=one,
        model=model,
        held_out=all_rows,
        interval_s=1.0,
        min_features=1,
    )
    member = Member(own, examples, calibration)
    scoring_model = ScoringModel(
        ("f0", "f1", "f2"), (None,) * 3, (), (member,), Committee(None), FeatureTransforms.none(3)
    )
    rules = AlertRules(fire_m=1, fire_of=1)
    return scoring_model, detector(scoring_model, threshold=1e-4, rules=rules, min_features=1)


def of_kind(name: str, n_features: int, *kinds: Kind) -> IntArray:
    """Which features are of one of these kinds."""
    return np.flatnonzero(np.isin(LISTED[name].kinds(n_features), kinds))


def of_evidence(*evidence: str) -> list[str]:
    """Names of what is listed whose log-likelihood is of one of these kinds."""
    return [name for name, listed in LISTED.items() if FAMILIES[listed.family].evidence in evidence]
