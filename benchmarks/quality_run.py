"""What one detector found in one series: every metric of the quality benchmark."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.data_sets import Series
from benchmarks.detection import quality
from benchmarks.event_metrics import (
    EventCounts,
    best_f1,
    count_events,
    delays,
    false_alarms_in_calm,
    recall_at_best,
)
from benchmarks.nab_score import Scored, beginnings, every_record
from benchmarks.product import Answers
from detector.batch import BoolArray, FloatArray

NAN = float("nan")
VolumeUnderSurface = Callable[[FloatArray, BoolArray], float]


@dataclass(frozen=True, slots=True)
class NabFile:
    """One file of NAB, whose score is of all files together."""

    records: Scored
    """Every record can be a detection."""
    beginnings: Scored
    """Only where a run of alarms begins can."""
    own: BoolArray
    """Where runs of the detector's own alarms begin."""


@dataclass(frozen=True, slots=True)
class QualityRun:
    """One detector on one series with one seed. Ranking metrics are NaN where labels are all the same."""

    data_set: str
    entity: str
    row: str
    """Of the table: a configuration or a plain detector."""
    seed: int
    failure: str = ""
    records: int = 0
    unscored: int = 0
    prevalence: float = NAN
    """Share of anomalous records: the AUC-PR of a random ranking."""
    auc_pr: float = NAN
    roc_auc: float = NAN
    vus_pr: float = NAN
    best_f1: float = NAN
    """Over records, with a threshold chosen by the labels."""
    recall_at_best: float = NAN
    """Of events, with a threshold chosen by the labels that makes no more false alarms than the own one."""
    events: EventCounts = field(default_factory=EventCounts)
    delays: tuple[int, ...] = ()
    """Records into each event until the first alarm, of those found."""
    true_positives: int = 0
    """Anomalous records that alarm; as the three others, by the detector's own threshold."""
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0
    calm_days: float = 0.0
    """Without events, and without alarms that reach into one."""
    calm_alarms: int = 0
    """Runs of alarms in these days, ..."""
    calm_expected: float = 0.0
    """... and how many the detector itself expects."""
    fit_s: float = 0.0
    score_s: float = 0.0
    nab: NabFile | None = field(default=None, compare=False)


def judged(
    series: Series, row: str, seed: int, answers: Answers, vus: VolumeUnderSurface | None
) -> QualityRun:
    """Compare a detector's answers with the labels."""
    labels, events, days = series.test_labels, series.events, series.test_days
    anomaly = np.nan_to_num(answers.anomaly, nan=-np.inf)
    auc_pr, roc_auc = quality(anomaly, labels)
    both = labels.any() and not labels.all()
    if not series.ordered:
        events = events[:0]
    counts = count_events(answers.alarm, events, float(days.sum()))
    calm_alarms, calm_days = false_alarms_in_calm(answers.alarm, events, days)
    alarm = answers.alarm
    return QualityRun(
        series.data_set,
        series.entity,
        row,
        seed,
        records=len(labels),
        unscored=answers.unscored,
        prevalence=float(labels.mean()),
        auc_pr=auc_pr,
        roc_auc=roc_auc,
        vus_pr=vus(anomaly, labels) if vus is not None and both and series.ordered else NAN,
        best_f1=best_f1(anomaly, labels),
        recall_at_best=recall_at_best(anomaly, events, counts.false_alarms),
        events=counts,
        delays=tuple(delays(alarm, events)),
        true_positives=int((alarm & labels).sum()),
        false_positives=int((alarm & ~labels).sum()),
        false_negatives=int((~alarm & labels).sum()),
        true_negatives=int((~alarm & ~labels).sum()),
        calm_days=calm_days,
        calm_alarms=calm_alarms,
        calm_expected=calm_days * answers.expected_per_day,
        fit_s=answers.fit_s,
        score_s=answers.score_s,
        nab=_nab_file(series, np.nan_to_num(answers.anomaly_score, nan=-np.inf), alarm)
        if series.data_set == "nab"
        else None,
    )


def failed(series: Series, row: str, seed: int, failure: str) -> QualityRun:
    """Return the run of a detector that broke: it ranked nothing and never alarmed."""
    n = len(series.test)
    silent = Answers(np.zeros(n), np.full(n, np.nan), np.zeros(n, dtype=bool), n, 0.0, 0.0)
    run = judged(series, row, seed, silent, None)
    ranking = 0.0 * run.auc_pr
    return replace(
        run,
        failure=failure,
        auc_pr=ranking,
        roc_auc=ranking,
        vus_pr=ranking,
        best_f1=0.0 * run.best_f1,
        recall_at_best=0.0 * run.recall_at_best,
    )


def _nab_file(series: Series, score: FloatArray, alarm: BoolArray) -> NabFile:
    begins = alarm & ~np.concatenate(([False], alarm[:-1]))
    return NabFile(every_record(score, series.events), beginnings(score, series.events), begins)
