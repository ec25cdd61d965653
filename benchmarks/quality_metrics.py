"""From the runs of one detector on one set with one seed to figures: means over series, pooled counts."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import poisson

from benchmarks.event_metrics import EventCounts
from benchmarks.nab_score import PROFILES, best_score, score
from benchmarks.quality_run import NAN, NabFile, QualityRun

Runs = Sequence[QualityRun]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a set, and how it is printed."""

    title: str
    of: Callable[[Runs], float]
    digits: int = 3
    high_is_good: bool = True

    def text(self, value: float) -> str:
        return "" if math.isnan(value) else f"{value:.{self.digits}f}"


def mean_of(what: Callable[[QualityRun], float]) -> Callable[[Runs], float]:
    """Return the mean over the series in which the figure is known; NaN if it is in none."""
    return lambda runs: _mean(what(run) for run in runs)


def pooled(runs: Runs) -> EventCounts:
    """Return the counts of all series together."""
    counts = [run.events for run in runs]
    return EventCounts(
        sum(count.events for count in counts),
        sum(count.found for count in counts),
        sum(count.false_alarms for count in counts),
        sum(count.days for count in counts),
    )


def _precision(run: QualityRun) -> float:
    return run.events.precision if run.events.events else NAN


def _worst_false_alarms(runs: Runs) -> float:
    return max(run.events.false_alarms_per_day for run in runs)


def _median_delay(runs: Runs) -> float:
    found = [delay for run in runs for delay in run.delays]
    return float(np.median(found)) if found else NAN


def _point_f1(runs: Runs) -> float:
    judged = [run for run in runs if run.prevalence > 0]
    true = sum(run.true_positives for run in judged)
    wrong = sum(run.false_positives + run.false_negatives for run in judged)
    return 2 * true / (2 * true + wrong) if true + wrong else NAN


def _false_alarm_rate(runs: Runs) -> float:
    judged = [run for run in runs if run.prevalence > 0]
    false = sum(run.false_positives for run in judged)
    calm = false + sum(run.true_negatives for run in judged)
    return 100.0 * false / calm if calm else NAN


AUC_PR = Metric("AUC-PR", mean_of(lambda run: run.auc_pr))
ROC_AUC = Metric("ROC-AUC", mean_of(lambda run: run.roc_auc))
VUS_PR = Metric("VUS-PR", mean_of(lambda run: run.vus_pr))
BEST_F1 = Metric("best F1*", mean_of(lambda run: run.best_f1))
RECALL_AT_BEST = Metric("recall*", mean_of(lambda run: run.recall_at_best))
EVENT_PRECISION = Metric("precision", mean_of(_precision))
EVENT_RECALL = Metric("recall", mean_of(lambda run: run.events.recall))
EVENT_F1 = Metric("event F1", mean_of(lambda run: run.events.f1))
POOLED_EVENT_F1 = Metric("pooled", lambda runs: pooled(runs).f1)
FALSE_ALARMS = Metric("FA/day", mean_of(lambda run: run.events.false_alarms_per_day), 2, high_is_good=False)
WORST_FALSE_ALARMS = Metric("worst", _worst_false_alarms, 2, high_is_good=False)
MEDIAN_DELAY = Metric("delay", _median_delay, 0, high_is_good=False)
POINT_F1 = Metric("point F1", _point_f1)
FALSE_ALARM_RATE = Metric("FAR %", _false_alarm_rate, 1, high_is_good=False)
FIT_S = Metric("fit s", mean_of(lambda run: run.fit_s if not run.failure else NAN), 1, high_is_good=False)
US_PER_RECORD = Metric(
    "us/rec",
    lambda runs: 1e6 * sum(run.score_s for run in runs) / max(sum(run.records for run in runs), 1),
    1,
    high_is_good=False,
)
UNSCORED = Metric("unscored", lambda runs: float(sum(run.unscored for run in runs)), 0, high_is_good=False)
FAILED = Metric("failed", lambda runs: float(sum(bool(run.failure) for run in runs)), 0, high_is_good=False)


def _nab_files(runs: Runs) -> list[NabFile]:
    return [run.nab for run in runs if run.nab is not None]


def _nab_metrics(profile: str) -> tuple[Metric, Metric, Metric]:
    weights = PROFILES[profile]
    return (
        Metric(
            f"{profile}: every record*",
            lambda runs: best_score([file.records for file in _nab_files(runs)], weights),
            1,
        ),
        Metric(
            "beginnings*", lambda runs: best_score([file.beginnings for file in _nab_files(runs)], weights), 1
        ),
        Metric(
            "own",
            lambda runs: score(
                [file.own for file in _nab_files(runs)],
                [file.records.windows for file in _nab_files(runs)],
                weights,
            ),
            1,
        ),
    )


NAB = {profile: _nab_metrics(profile) for profile in PROFILES}
"""Per profile: with the best threshold, every record or every beginning of a run of alarms being a detection;
and at the detector's own threshold, where runs of its alarms begin."""
NAB_BEST, _, NAB_OWN = NAB["standard"]

FEWEST_EXPECTED = 10
"""Episodes; where one expects fewer, their number says nothing."""
COSTS = (FIT_S, US_PER_RECORD, UNSCORED, FAILED)
OF_STREAMS = (
    AUC_PR,
    VUS_PR,
    BEST_F1,
    RECALL_AT_BEST,
    EVENT_PRECISION,
    EVENT_RECALL,
    EVENT_F1,
    POOLED_EVENT_F1,
    FALSE_ALARMS,
    WORST_FALSE_ALARMS,
    MEDIAN_DELAY,
    POINT_F1,
    FALSE_ALARM_RATE,
    *COSTS,
)
OF_TABLES = (ROC_AUC, AUC_PR, BEST_F1, POINT_F1, FALSE_ALARM_RATE, *COSTS)


@dataclass(frozen=True, slots=True)
class Calm:
    """Alarms while nothing happened, beside those that the detector expects: a budget is a ceiling."""

    expected: float
    observed: int

    @property
    def lowest(self) -> float:
        """Return the lower end of the 95 % Poisson interval of half the expected number."""
        return float(poisson.ppf(0.025, self.expected / 2))

    @property
    def highest(self) -> float:
        """Return the upper end of the 95 % Poisson interval of twice the expected number."""
        return float(poisson.ppf(0.975, self.expected * 2))

    @property
    def verdict(self) -> str:
        if self.expected < FEWEST_EXPECTED:
            return "too little time to judge"
        return "met" if self.lowest <= self.observed <= self.highest else "MISSED"


def calm(runs: Runs) -> Calm:
    """Return the alarms of a set's label-free stretches."""
    return Calm(sum(run.calm_expected for run in runs), sum(run.calm_alarms for run in runs))


def over_seeds(runs: Runs, metric: Metric) -> tuple[float, float]:
    """Return the mean over seeds, and the worst seed's figure."""
    seeds = dict.fromkeys(run.seed for run in runs)
    figures = [metric.of([run for run in runs if run.seed == seed]) for seed in seeds]
    known = [figure for figure in figures if not math.isnan(figure)]
    if not known:
        return NAN, NAN
    return sum(known) / len(known), (min if metric.high_is_good else max)(known)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else NAN
