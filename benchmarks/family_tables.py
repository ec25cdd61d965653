"""Tables of the families benchmark: a table per set, the means over sets, failures, and the bars."""

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.measured import Model, Run

T = TypeVar("T")

LIKE_WITH_LIKE = "none"
BETTER_THAN = {
    "gmm": ("scikit-learn GMM", "scikit-learn GMM, 70 %"),
    "naive_bayes": ("histogram naive Bayes",),
}
"""On every set."""
TIME_SERIES = ("smd", "asd")
NEURAL = ("vae", "rbm", "gan")
REFERENCE = "diagonal Gaussian"
"""What neural families are compared with, on the mean over the time series."""


class Summary(NamedTuple):
    """A model on one set, or on several: means over series and seeds."""

    auc_pr: float
    worst_auc_pr: float
    """Of the seed with the lowest mean."""
    roc_auc: float
    worst_roc_auc: float
    fit_s: float
    us_per_record: float
    failed: int


def print_tables(runs: Sequence[Run]) -> None:
    """Print a table per set, then one of the means over all sets that every model has."""
    sets = _unique(run.data_set for run in runs)
    for data_set in sets:
        own = [run for run in runs if run.data_set == data_set]
        series = {run.entity: run.prevalence for run in own if run.prevalence > 0}
        prevalence = np.mean(list(series.values())) if series else math.nan
        seeds = len({run.seed for run in own})
        n_series = len({run.entity for run in own})
        title = f"{data_set}: {n_series} series, seeds: {seeds}, AUC-PR of a random ranking {prevalence:.3f}"
        _print_table(title, {model: summary(runs, model, [data_set]) for model in _models(own)})
    if len(sets) > 1:
        everywhere = [
            model
            for model in _models(runs)
            if {run.data_set for run in runs if run.model == model} == set(sets)
        ]
        _print_table(
            f"mean over {', '.join(sets)}", {model: summary(runs, model, sets) for model in everywhere}
        )


def summary(runs: Sequence[Run], model: Model, sets: Sequence[str]) -> Summary:
    """Summarise a model; every set weighs the same, and within it every series and seed."""
    per_set = [_of_set([run for run in runs if run.model == model and run.data_set == s]) for s in sets]
    means = np.mean(per_set, axis=0).tolist()
    return Summary._make([*means[:-1], sum(own.failed for own in per_set)])


def _of_set(runs: list[Run]) -> Summary:
    by_seed = [[run for run in runs if run.seed == seed] for seed in _unique(run.seed for run in runs)]
    auc_pr = [_mean(run.auc_pr for run in own) for own in by_seed]
    roc_auc = [_mean(run.roc_auc for run in own) for own in by_seed]
    done = [run for run in runs if not run.failure]
    return Summary(
        _mean(auc_pr),
        min(auc_pr, default=math.nan),
        _mean(roc_auc),
        min(roc_auc, default=math.nan),
        _mean(run.fit_s for run in done),
        sum(run.score_s for run in done) / max(sum(run.records for run in done), 1) * 1e6,
        len(runs) - len(done),
    )


def _print_table(title: str, rows: dict[Model, Summary]) -> None:
    print(f"\n{title}")
    print(
        f"{'':24}{'predictor':16}{'AUC-PR':>8}{'worst':>7}{'ROC-AUC':>9}{'worst':>7}"
        f"{'fit s':>8}{'us/record':>11}{'failed':>8}"
    )
    for model, row in rows.items():
        print(
            f"{model.name:24}{model.predictor:16}{row.auc_pr:>8.3f}{row.worst_auc_pr:>7.3f}"
            f"{row.roc_auc:>9.3f}{row.worst_roc_auc:>7.3f}{row.fit_s:>8.1f}{row.us_per_record:>11.1f}"
            f"{row.failed or '':>8}"
        )


def print_failures(runs: Sequence[Run]) -> None:
    """Print each failure once."""
    failed = [run for run in runs if run.failure]
    if failed:
        print("\nfailed, and counted as 0:")
    for run in failed:
        print(f"  {run.data_set} {run.entity}, {run.model.title}, seed {run.seed}: {run.failure}")


def print_bars(runs: Sequence[Run]) -> None:
    """Print what each family is held to; a bar whose rows did not run is left open."""
    sets = _unique(run.data_set for run in runs)
    present = set(_models(runs))
    print()
    for family, peers in BETTER_THAN.items():
        for peer, data_set in product(peers, sets):
            _print_bar(runs, present, family, peer, [data_set])
    for family in NEURAL:
        _print_bar(runs, present, family, REFERENCE, [s for s in TIME_SERIES if s in sets])


def _print_bar(runs: Sequence[Run], present: set[Model], family: str, peer: str, sets: list[str]) -> None:
    ours, theirs = Model(family, LIKE_WITH_LIKE), Model(peer, "")
    if not sets or ours not in present or theirs not in present:
        return
    own, other = summary(runs, ours, sets), summary(runs, theirs, sets)
    for metric, measured, bar in (
        ("AUC-PR", own.auc_pr, other.auc_pr),
        ("ROC-AUC", own.roc_auc, other.roc_auc),
    ):
        verdict = "met" if measured >= bar else "MISSED"
        what = f"{metric} on {' and '.join(sets)}: {ours.title} / {peer}"
        print(f"{what:70}{measured:>8.3f} >= {bar:.3f} {verdict}")


def _models(runs: Sequence[Run]) -> list[Model]:
    return _unique(run.model for run in runs)


def _unique(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))


def _mean(values: Iterable[float]) -> float:
    """Return the mean of those that are not NaN, NaN if none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
