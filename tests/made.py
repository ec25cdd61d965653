"""Models, detectors and batches made by hand, for tests of what comes after training."""

from functools import cache

import numpy as np
import pytest

from detector.alerting.budget import HeldOut, Threshold
from detector.alerting.rules import AlertRules
from detector.batch import Batch, FloatArray, Source
from detector.models.contract import Family, Predictor
from detector.models.cyclic import CyclicPredictor
from detector.models.ewma import EwmaPredictor
from detector.models.feature_transforms import FeatureTransforms
from detector.models.gmm import Gmm
from detector.models.level import LevelAndRangePredictor, LevelPredictor
from detector.models.predictors import AutoregressivePredictor, LastPredictor, NoPredictor
from detector.models.regression import N_REGRESSORS, RegressionPredictor
from detector.models.scaling import Scaling
from detector.models.seasonal import N_BINS, SeasonalPredictor
from detector.models.sequences import starts_of
from detector.pipeline.detector import Detector
from detector.scoring.committee import Committee
from detector.scoring.density import Density
from detector.scoring.member import Member
from detector.scoring.scoring_model import ScoringModel
from detector.scoring.typicality import Choice
from detector.training.calibrate import calibrate
from detector.training.fit_gmm import fit_gmm
from detector.training.fit_hmm import fit_hmm
from detector.training.fit_naive_bayes import fit_naive_bayes
from detector.training.fit_rbm import fit_rbm
from detector.training.fitting import Fitting


def gmm(n_features: int = 3, n_components: int = 2, seed: int = 0) -> Gmm:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_components, n_features, n_features)) * 0.4
    covariances = factors @ factors.transpose(0, 2, 1) + 0.5 * np.eye(n_features)
    weights = rng.uniform(0.5, 1.5, n_components)
    return Gmm(weights / weights.sum(), rng.normal(size=(n_components, n_features)), covariances)


@cache
def fitted(family: str) -> Family:
    """A family fitted to three features that two regimes and their correlation shape."""
    rng = np.random.default_rng(3)
    regime = np.cumsum(rng.uniform(size=2000) < 0.05) % 2
    x = rng.normal(size=(2000, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
    x += np.where(regime[:, None] == 0, -1.5, 1.5)
    lengths = np.array([len(x)])
    if family == "gmm":
        return fit_gmm(x, lengths=lengths, seed=0, n_components=2)
    if family == "hmm":
        return fit_hmm(x, lengths=lengths, seed=0, n_states=2, n_mixtures=1)
    if family == "naive_bayes":
        return fit_naive_bayes(x, lengths=lengths, seed=0, n_classes=2)
    if family == "rbm":
        return fit_rbm(x, lengths=lengths, seed=0, n_hidden=6)
    pytest.importorskip("torch", reason="torch is not installed: neither VAE nor GAN can be fitted")
    if family == "gan":
        from detector.training.fit_gan import fit_gan

        return fit_gan(x, lengths=lengths, seed=0, max_epochs=4)
    from detector.training.fit_vae import fit_vae

    return fit_vae(x, lengths=lengths, seed=0, window=2, hidden=(16,), max_epochs=15)


def unbounded(coefficients: FloatArray, intercept: FloatArray) -> AutoregressivePredictor:
    """An autoregression that takes every past value as it is."""
    farthest = np.full(intercept.shape, np.inf)
    return AutoregressivePredictor(coefficients, intercept, -farthest, farthest)


def predictor_called(name: str, d: int, *, order: int = 1, seed: int = 0) -> Predictor:
    rng = np.random.default_rng(seed)
    if name == "autoregressive":
        weights = 0.3 * rng.normal(size=(1, order * d, d)) / np.sqrt(order * d)
        return unbounded(weights, np.zeros((1, d)))
    if name == "level":
        return LevelPredictor(d)
    if name == "level_and_range":
        return LevelAndRangePredictor(d)
    if name == "regression":
        return RegressionPredictor(0.3 * rng.normal(size=(1, N_REGRESSORS, d)), np.ones((1, d)))
    if name == "ewma":
        return EwmaPredictor(np.array([0.2]), d)
    if name == "seasonal":
        return SeasonalPredictor(0.5 * rng.normal(size=(1, N_BINS, d)))
    if name == "cyclic":
        profile = 0.5 * rng.normal(size=(1, 12, d))
        return CyclicPredictor(profile, np.ones_like(profile), period_s=720.0, begins_s=0.0, records=12.0)
    return LastPredictor(d) if name == "last" else NoPredictor(d)


def density(family: Family, predictor: Predictor | None = None, *, predict: bool = False) -> Density:
    d = family.n_features
    predictor = predictor or predictor_called("autoregressive" if predict else "none", d)
    return Density(Scaling(np.zeros((1, d)), np.ones((1, d))), predictor, np.ones((1, d)), family)


def scoring_model(
    family: Family,
    *,
    records: int = 4000,
    predict: bool = False,
    predictor: Predictor | None = None,
    seed: int = 1,
    typicality: Choice = "auto",
) -> tuple[ScoringModel, HeldOut]:
    """A model calibrated on one sequence of its own samples; ``predict`` is for an autoregressive one."""
    own = density(family, predictor, predict=predict)
    rng = np.random.default_rng(seed)
    z = records_like(own, records, rng)
    calibration, examples, held_out, *_ = calibrate(
        own,
        z,
        np.arange(records, dtype=float),
        lengths=np.array([records]),
        model=np.zeros(1, dtype=np.int64),
        held_out=np.ones(records, dtype=bool),
        interval_s=1.0,
        min_features=1,
        typicality=typicality,
    )
    names = tuple(f"f{j}" for j in range(family.n_features))
    member = Member(own, examples, calibration)
    transforms = FeatureTransforms.none(len(names))
    model = ScoringModel(names, (None,) * len(names), (), (member,), Committee(None), transforms)
    return model, held_out


def records_like(own: Density, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw one sequence from the density itself, in standardised units.

    Around a predictor that is neither autoregressive nor a moving mean the records are residuals alone.
    """
    x = own.family.sample(n, rng)
    if isinstance(own.predictor, AutoregressivePredictor):
        order, (_, d) = own.predictor.order, x.shape
        for t in range(1, n):
            lags = min(order, t)
            x[t] += x[t - lags : t][::-1].ravel() @ own.predictor.coefficients[0, : lags * d]
    if isinstance(own.predictor, EwmaPredictor):
        mean = x[0].copy()
        for t in range(1, n):
            x[t] += mean
            mean += own.predictor.weight[0] * (x[t] - mean)
    return x


def detector(
    model: ScoringModel,
    *,
    threshold: float = 0.01,
    rules: AlertRules | None = None,
    min_features: int | None = None,
) -> Detector:
    return Detector(
        "watch",
        "champion",
        "v1",
        model,
        rules or AlertRules(),
        Threshold(threshold, 1e-6, 1e-6, 1e-7),
        None,
        max(1, model.n_features // 2) if min_features is None else min_features,
        1.0,
    )


def batch(values: FloatArray, *, entity: list[str] | None = None, time: FloatArray | None = None) -> Batch:
    n, d = values.shape
    return Batch(
        "telemetry",
        tuple(f"f{j}" for j in range(d)),
        (Source("telemetry", 0),),
        np.zeros(n, dtype=np.int64),
        np.arange(n, dtype=np.int64),
        entity or ["e"] * n,
        np.arange(n, dtype=float) if time is None else time,
        values,
    )


def fitting(x: FloatArray, *of_entity: int) -> Fitting:
    """Continuous rows a second apart: the first so many of one entity, then of the next; without, of one."""
    lengths = np.array(of_entity or [len(x)])
    entity = np.repeat(np.arange(len(lengths)), lengths)
    gap_s = np.ones(len(x))
    gap_s[starts_of(lengths)] = np.nan
    return Fitting(x, entity, entity, gap_s, 1.0, None, None, None)
