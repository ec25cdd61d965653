"""One detector on one series: trained, timed, and how well its ranking finds the anomalies.

Families take the product's own path: ``training.job.train`` with its defaults, then the pipeline that a
backtest and the daemon share. Peers get the same training rows, standardised as the product standardises.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.data_sets import Series
from benchmarks.peer_models import PeerFit
from detector.alerting.budget import Threshold
from detector.alerting.rules import AlertRules
from detector.batch import BoolArray, FloatArray, Status
from detector.bundles.serving import serve
from detector.models.scaling import fit_scaling
from detector.training.backtest import backtest
from detector.training.job import TrainingPlan, train

# No p-value is as small as this, so no record is suspicious and no time goes into writing alerts.
_NEVER = Threshold(p_value=float(np.nextafter(0.0, 1.0)), budget_rate=0.0, aimed_rate=0.0, smallest_rate=0.0)


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector says of the M test rows of a series, and what that took."""

    anomaly: FloatArray
    """Shape (M,), high is anomalous; only the order means something."""
    fit_s: float
    """CPU time of this process, so that what else the machine does is left out; as is ``score_s``."""
    score_s: float


def by_family(series: Series, family: str, predictor: str, seed: int) -> Detection:
    """Train a family as ``detector train`` does, calibration included, and score the test rows in order.

    The last training rows are the past of the first test row, as many as the model asks for.

    Raises:
        TrainingError: The family cannot be trained on these rows.
    """
    plan = TrainingPlan(detector="benchmark", family=family, predictor=predictor, seed=seed)
    started = time.process_time()
    bundle = train(series.batch(0, series.n_train), plan, now_s=0.0)
    fit_s = time.process_time() - started

    detector = replace(serve(bundle, AlertRules()), threshold=_NEVER)
    n_past = min(bundle.model.density.warmup_records, series.n_train)
    batch = series.batch(series.n_train - n_past, len(series.values))
    is_past = np.arange(len(batch)) < n_past
    started = time.process_time()
    scores = backtest(detector, batch, is_past).scores
    score_s = time.process_time() - started
    tested = slice(n_past, None)
    scored = scores.status[tested] == Status.SCORED
    return Detection(ranking(scores.p_value[tested], scores.log_likelihood[tested], scored), fit_s, score_s)


def by_peer(series: Series, peer: PeerFit, seed: int) -> Detection:
    """Fit a peer to the standardised training rows and score the test rows; it knows nothing of time."""
    started = time.process_time()
    of_row = np.zeros(len(series.values), dtype=np.int64)
    scaling = fit_scaling(series.train, of_row[: series.n_train], 2)
    score = peer(scaling.standardise(series.train, of_row[: series.n_train]), seed)
    fitted = time.process_time()
    anomaly = score(scaling.standardise(series.test, of_row[series.n_train :]))
    return Detection(anomaly, fitted - started, time.process_time() - fitted)


def ranking(p_value: FloatArray, log_likelihood: FloatArray, scored: BoolArray) -> FloatArray:
    """Return ranks by p-value, among equal ones by log-likelihood; unscored rows are the least anomalous.

    Among ordinary rows many share a p-value, because it counts calibration rows; a daemon's operator looks at
    the tail alone, but a ranking of all rows would be judged by its ties.

    Args:
        p_value: Shape (N,), small is anomalous.
        log_likelihood: Shape (N,), nats, low is anomalous.
        scored: Shape (N,); the others' values mean nothing.
    """
    rank = np.zeros(len(scored))
    keys = np.column_stack([-p_value[scored], -log_likelihood[scored]])
    rank[scored] = 1 + np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return rank


def quality(anomaly: FloatArray, labels: BoolArray) -> tuple[float, float]:
    """Return AUC-PR (average precision) and ROC-AUC, NaN where labels are all the same.

    Raises:
        ValueError: An anomaly is NaN.
    """
    if labels.all() or not labels.any():
        return float("nan"), float("nan")
    # Surprise without bound is the most anomalous there is, and scikit-learn refuses infinities.
    finite = np.clip(anomaly, -np.finfo(np.float64).max, np.finfo(np.float64).max)
    return float(average_precision_score(labels, finite)), float(roc_auc_score(labels, finite))
