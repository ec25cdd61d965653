"""The plain detectors beside the product: what they answer, alarms included.

Each is fitted on the older 70 % of the training rows. The newest 30 % give it a threshold as the product
finds one, from ranks, a generalised Pareto tail and the same budget; but it alarms at every record beyond the
threshold, since m of n and hysteresis are the product's own.
"""

import time

import numpy as np

from benchmarks.data_sets import Series
from benchmarks.event_metrics import MERGED_GAP
from benchmarks.peer_models import SANITY
from benchmarks.product import Answers
from detector.alerting.budget import HeldOut, threshold_for
from detector.alerting.rules import AlertRules, Budget
from detector.batch import FloatArray
from detector.models.scaling import fit_scaling
from detector.scoring.tail import Tail

RANDOM, EVERYTHING = "random", "alarm on everything"
ROWS = (RANDOM, EVERYTHING, *SANITY)
_FITTING_SHARE = 0.7


def peer_answers(series: Series, name: str, seed: int) -> Answers:
    """Return what one of ``ROWS`` says of the test rows."""
    n_test = len(series.test)
    if name == EVERYTHING:
        same = np.ones(n_test)
        return Answers(same, same, np.ones(n_test, dtype=bool), 0, 0.0, 0.0)
    started = time.process_time()
    n_fit = int(_FITTING_SHARE * series.n_train)
    if name == RANDOM:
        anomaly = np.random.default_rng(seed).random(len(series.values))[n_fit:]
        fitted = time.process_time()
    else:
        # Peers know nothing of missing values: the mean of a feature says the least.
        of_row = np.zeros(len(series.values), dtype=np.int64)
        scaling = fit_scaling(series.values[:n_fit], of_row[:n_fit], 2)
        z = np.nan_to_num(scaling.standardise(series.values, of_row))
        scorer = SANITY[name](z[:n_fit], seed)
        fitted = time.process_time()
        anomaly = scorer(z[n_fit:])
    n_held_out = series.n_train - n_fit
    score = _anomaly_score(series, anomaly[:n_held_out], anomaly[n_held_out:])
    score_s = time.process_time() - fitted
    return Answers(anomaly[n_held_out:], score, score >= 1.0, 0, fitted - started, score_s)


def _anomaly_score(series: Series, held_out: FloatArray, tested: FloatArray) -> FloatArray:
    tail = Tail.fit(held_out)
    time_s = series.time[series.n_train - len(held_out) : series.n_train]
    rules = AlertRules(
        Budget(1.0, "entity", series.day_s),
        fire_m=1,
        fire_of=1,
        resolve_below=1.0,
        resolve_records=MERGED_GAP + 1,
        cooldown_s=0.0,
    )
    lengths, span_s = np.array([len(held_out)]), np.array([time_s[-1] - time_s[0]])
    seen = HeldOut(tail.p_value(held_out), lengths, span_s, time_s)
    return np.asarray(np.log(tail.p_value(tested)) / np.log(threshold_for(seen, rules, 1).p_value))
