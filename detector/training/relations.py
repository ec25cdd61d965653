"""Whether features tell much about one another, for a member that hears when they no longer do."""

import numpy as np

from detector.batch import FloatArray
from detector.models.stacked_gmm import full_covariances
from detector.training.choose_predictor import trimmed_mean
from detector.training.fit_gmm import fit_gmm
from detector.training.plan import TrainingPlan
from detector.training.train_member import Material, expect

# Newer records are so much farther from what the other features lead one to expect, at most.
_STEADY = 1.5


def nats_of_relations(material: Material, plan: TrainingPlan) -> float:
    """Return how many nats a record the features tell about one another, as newer records confirm.

    One bell with the covariances of all features is compared with one that has none, both of the older
    records. A feature that strays in the newer ones from what the others lead one to expect, as a disk does
    that fills up, would sooner or later belie its relations for good: then they tell nothing.

    Args:
        material: Records that shall calibrate nothing; the held-out ones among them judge.
        plan: Of a mixture; its predictor is what the features are compared behind.

    Raises:
        TrainingError: The records are too few for the predictor.
        ValueError: They are too few to fit so many features.
    """
    rows, expectation = material.rows, expect(material, plan)
    residual = expectation.residual(rows, material.model)
    known = rows.position >= material.transforms.warmup_records + expectation.predictor.warmup_records
    older, newer = residual[known & ~rows.held_out], residual[known & rows.held_out]
    lengths = np.array([len(older)])
    together, apart = (
        fit_gmm(older, lengths=lengths, seed=plan.seed, n_components=1, covariance=covariance)
        for covariance in ("full", "diagonal")
    )
    mean, precision = together.arrays()["means"][0], np.linalg.inv(full_covariances(together)[0])
    strays = _deviation(newer, mean, precision) > _STEADY * _deviation(older, mean, precision)
    if strays.any():
        return 0.0
    return trimmed_mean(together.log_likelihood(newer) - apart.log_likelihood(newer)) or 0.0


def _deviation(x: FloatArray, mean: FloatArray, precision: FloatArray) -> FloatArray:
    """Return how far each feature usually is from what the others lead one to expect, shape (D,)."""
    complete = x[~np.isnan(x).any(axis=1)]
    if len(complete) == 0:
        return np.zeros(x.shape[1])
    return np.asarray(np.median(np.abs((complete - mean) @ precision), axis=0))
