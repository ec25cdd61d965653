"""Choose a predictor: the one that makes newer records likeliest, the simplest of equals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detector.batch import FloatArray
from detector.bundles.choice import PredictorTried
from detector.models.feature_densities import StudentFeature
from detector.training.fitting_rows import is_worth_having
from detector.training.plan import TrainingPlan
from detector.training.train_member import Expectation, Material, expect
from detector.training.training_rows import TrainingError

# Where a short stream drifts, ``last`` predicts best and sees least: what stays wrong, for one record.
# It shows that records follow their past, where nothing else does, and is not what they are compared with.
_IN_TURN = ("none", "autoregressive", "seasonal")
_OTHERWISE = "last"
# What a single feature is compared with besides; nobody takes it for all that can be expected.
_BESIDE = "cyclic"
_WITHOUT_EVIDENCE = "autoregressive"
_FEWEST_JUDGED = 5
# Nats a feature: rows without any order differ by less, and are many enough to make that significant.
_LEAST_GAIN = 0.03


class PredictorChoice(NamedTuple):
    """Which predictor, and what was tried."""

    name: str
    tried: tuple[PredictorTried, ...]
    reason: str


def choose_predictor(material: Material, plan: TrainingPlan) -> PredictorChoice:
    """Fit every predictor on the older records and compare them on the newer ones.

    What a predictor leaves is taken for independent features with heavy tails, scaling included, so that the
    values compare. A predictor has to be worth its while, over those tried before it: by more than 0.03 nats
    a feature, and by more than twice the standard error of the gain. Where ``last`` alone is, records follow
    their past, and ``autoregressive`` is taken. Of a single feature ``cyclic`` is tried as well, never taken.

    A predictor gains something even where records tell nothing about one another, for being fitted and scaled
    another way than none is. So what it gains over none on the same records in random order does not count.

    Args:
        material: Records that shall calibrate nothing; the held-out ones among them judge.
        plan: Its predictor is not looked at.
    """
    log_likelihood: dict[str, FloatArray] = {}
    tried: list[PredictorTried] = []
    alone = material.rows.values.shape[1] == 1
    for name in (*_IN_TURN, _OTHERWISE, *((_BESIDE,) if alone else ())):
        try:
            expectation = expect(material, replace(plan, predictor=name, order=1))
        except (ValueError, TrainingError) as error:
            tried.append(PredictorTried(name=name, nats=None, note=str(error)))
            continue
        log_likelihood[name] = _log_likelihood(material, expectation)
        tried.append(PredictorTried(name=name, nats=trimmed_mean(log_likelihood[name])))
    judged = len(log_likelihood.get("none", ()))
    if judged < _FEWEST_JUDGED:
        return without_evidence(tried, f"{judged} records are too few to compare predictors on")

    best, least = "none", _LEAST_GAIN * material.rows.values.shape[1]
    disordered: Material | None = None
    for name, nats in log_likelihood.items():
        if name == _BESIDE:
            continue
        eligible = best == "none" if name == _OTHERWISE else name != best
        gain = float(np.mean(nats - log_likelihood[best]))
        if not (eligible and gain > least and is_worth_having(nats, log_likelihood[best])):
            continue
        if best == "none":
            disordered = disordered or _disordered(material, plan.seed)
            if gain - _gain(disordered, plan, name) <= least:
                continue
        best = name
    values = ", ".join(f"{entry.name} {entry.nats:.2f}" for entry in tried if entry.nats is not None)
    why = f"nats per record on {judged} newer records: {values}"
    if best == _OTHERWISE and _WITHOUT_EVIDENCE in log_likelihood:
        best, why = _WITHOUT_EVIDENCE, f"{why}; {best} sees what lasts for one record only"
    return PredictorChoice(best, tuple(tried), f"predictor {best}: {why}")


def _disordered(material: Material, seed: int) -> Material:
    """Return the records in random order: of each run the older ones and the newer ones among themselves."""
    rows = material.rows
    part = 2 * rows.of_run + rows.held_out
    # Sorted by part alone they stay where they are; with chance as the second key, each part is shuffled.
    in_place = np.argsort(part, kind="stable")
    by_chance = np.lexsort((np.random.default_rng(seed).random(part.size), part))
    values = rows.values.copy()
    values[in_place] = rows.values[by_chance]
    shuffled = replace(rows, values=values)
    return replace(material, rows=shuffled, to_fit=shuffled.to_fit())


def _gain(material: Material, plan: TrainingPlan, name: str) -> float:
    """Return how many nats a record a predictor is better than none."""
    nats = [
        _log_likelihood(material, expect(material, replace(plan, predictor=predictor, order=1)))
        for predictor in (name, "none")
    ]
    return float(np.mean(nats[0] - nats[1]))


def without_evidence(tried: Sequence[PredictorTried], why: str) -> PredictorChoice:
    """Return what is taken where nothing can be compared."""
    return PredictorChoice(_WITHOUT_EVIDENCE, tuple(tried), f"predictor {_WITHOUT_EVIDENCE}: {why}")


def _log_likelihood(material: Material, expectation: Expectation) -> FloatArray:
    """Return the nats of the judged records, shape (M,), in the units of the transformed features."""
    rows, model = material.rows, material.model
    judged = rows.held_out & (rows.position > material.transforms.warmup_records)
    of_row = model[rows.entity][judged]
    scaling = expectation.scaling
    columns = np.arange(rows.values.shape[1]) if scaling.continuous is None else scaling.continuous
    residual = expectation.residual(rows, model)[judged][:, columns]
    unit = (expectation.residual_scale * scaling.scale)[of_row][:, columns]
    heavy_tailed = StudentFeature(np.zeros(1), np.ones(1))
    nats = np.zeros(len(residual))
    for r, scale in zip(residual.T, unit.T, strict=True):
        nats += np.where(np.isnan(r), 0.0, heavy_tailed.log_density(r)[0] - np.log(scale))
    return nats


def trimmed_mean(log_likelihood: FloatArray) -> float | None:
    """Return the mean without the highest and lowest hundredth, which may ruin it; None without a value."""
    finite = np.sort(log_likelihood[np.isfinite(log_likelihood)])
    cut = finite.size // 100
    trimmed = finite[cut : finite.size - cut]
    return float(trimmed.mean()) if trimmed.size else None
