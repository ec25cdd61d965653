"""Tables of the quality benchmark: a table per set, calibration, failures, and the bars."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks import quality_metrics as figures
from benchmarks.data_sets import RECORDS_FOR_A_DAY, WITHOUT_DAYS
from benchmarks.peer_alarms import ROWS
from benchmarks.quality_metrics import Metric, over_seeds
from benchmarks.quality_run import QualityRun

T = TypeVar("T")
Runs = Sequence[QualityRun]

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Bar:
    """What the default configuration is held to on a set, and what it should reach."""

    metric: Metric
    what: str
    bar: float
    reach: float | None = None

    def verdict(self, figure: float) -> str:
        """Return whether a figure meets it: a high one is at least the bar, a low one below it."""
        if math.isnan(figure):
            return "unknown"
        met = figure >= self.bar if self.metric.high_is_good else figure < self.bar
        return "met" if met else "MISSED"


_WORST = Bar(figures.WORST_FALSE_ALARMS, "false alarms per day of the worst entity", 3.0)
BARS: dict[str, tuple[Bar, ...]] = {
    "smd": (
        Bar(figures.AUC_PR, "AUC-PR", 0.58, 0.65),
        Bar(figures.EVENT_F1, "event F1", 0.50, 0.65),
        Bar(figures.FALSE_ALARMS, "false alarms per day", 1.0),
        _WORST,
    ),
    "asd": (
        Bar(figures.AUC_PR, "AUC-PR", 0.45, 0.55),
        Bar(figures.EVENT_F1, "event F1", 0.75, 0.85),
        Bar(figures.FALSE_ALARMS, "false alarms per day", 0.5),
        _WORST,
    ),
    "skab": (
        Bar(figures.AUC_PR, "AUC-PR", 0.84, 0.90),
        Bar(figures.POINT_F1, "pooled F1 of records", 0.80, 0.85),
        Bar(figures.FALSE_ALARM_RATE, "false-alarm rate, %", 20.0),
    ),
    "ms_cloud": (
        Bar(figures.AUC_PR, "AUC-PR", 0.66, 0.75),
        Bar(figures.EVENT_F1, "event F1", 0.55, 0.65),
        Bar(figures.FALSE_ALARMS, "false alarms per day", 0.5),
        _WORST,
    ),
    "nab": (
        Bar(figures.NAB_BEST, "NAB score, best threshold", 62.0, 75.0),
        Bar(figures.NAB_OWN, "NAB score, own threshold", 55.0, 65.0),
        _WORST,
    ),
    "donut_kpi": (Bar(figures.AUC_PR, "AUC-PR", 0.40, 0.60), _WORST),
    "adbench": (Bar(figures.ROC_AUC, "ROC-AUC", 0.765, 0.80),),
}


def print_tables(runs: Runs) -> None:
    """Print a table per set."""
    for data_set in unique(run.data_set for run in runs):
        own = [run for run in runs if run.data_set == data_set]
        series = {run.entity: run.prevalence for run in own}
        shown = [prevalence for prevalence in series.values() if prevalence > 0]
        prevalence = sum(shown) / len(shown) if shown else math.nan
        events = sum({run.entity: run.events.events for run in own}.values())
        print(
            f"\n{data_set}: {len(series)} series, {events} events, "
            f"AUC-PR of a random ranking {prevalence:.3f}"
        )
        if data_set in WITHOUT_DAYS:
            print(f"no days: {RECORDS_FOR_A_DAY:,} records count as one")
        _print_table(own, figures.OF_TABLES if data_set == "adbench" else figures.OF_STREAMS)
        if data_set == "nab":
            for metrics in figures.NAB.values():
                _print_table(own, metrics)
    print("\n* an oracle: its threshold is chosen with the labels")


def _print_table(runs: Runs, metrics: Sequence[Metric], title: str = "") -> None:
    rows = {row: [run for run in runs if run.row == row] for row in unique(run.row for run in runs)}
    table = {row: [over_seeds(own, metric) for metric in metrics] for row, own in rows.items()}
    seeds = {row: len(unique(run.seed for run in own)) for row, own in rows.items()}
    shown = [i for i in range(len(metrics)) if any(not math.isnan(row[i][0]) for row in table.values())]
    widths = [max(len(metrics[i].title), 6) + 2 for i in shown]
    name = max(len(row) for row in rows) + 9
    titles = "".join(f"{metrics[i].title:>{width}}" for i, width in zip(shown, widths, strict=True))
    print(f"{title:{name}}{titles}")
    for row, found in table.items():
        _print_row(row, name, [metrics[i].text(found[i][0]) for i in shown], widths)
        if seeds[row] > 1 and any(
            found[i][0] != found[i][1] for i in shown if metrics[i] not in figures.COSTS
        ):
            _print_row("  worst", name, [metrics[i].text(found[i][1]) for i in shown], widths)


def _print_row(name: str, width: int, texts: Sequence[str], widths: Sequence[int]) -> None:
    cells = "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
    print(f"{name:{width}}{cells}")


def print_comparison(runs: Runs) -> None:
    """Print the product's configurations beside each other: what bars are about, all with the first seed."""
    first = min((run.seed for run in runs), default=0)
    own = [run for run in runs if run.row not in ROWS and run.seed == first]
    if len(unique(run.row for run in own)) < 2:
        return
    print("\nconfigurations, the first seed of each")
    for data_set in unique(run.data_set for run in own):
        _print_table(
            [run for run in own if run.data_set == data_set],
            [bar.metric for bar in BARS[data_set]],
            title=data_set,
        )


def print_calibration(runs: Runs) -> None:
    """Print, per set and row of the product, alarms in label-free stretches beside what it expects."""
    printed = False
    for data_set in unique(run.data_set for run in runs if run.data_set != "adbench"):
        for row in unique(run.row for run in runs if run.row not in ROWS):
            own = [run for run in runs if run.data_set == data_set and run.row == row]
            if not own:
                continue
            if not printed:
                print("\nalarms in label-free stretches; the budget is one a day, the detector aims at less")
                printed = True
            for seed in unique(run.seed for run in own):
                calm = figures.calm([run for run in own if run.seed == seed])
                print(
                    f"{data_set}, {row}, seed {seed}: expected {calm.expected:.0f}, "
                    f"observed {calm.observed}, allowed {calm.lowest:.0f} to {calm.highest:.0f}: "
                    f"{calm.verdict}"
                )


def print_bars(runs: Runs) -> None:
    """Print what the default configuration is held to; every seed has to meet it."""
    print()
    for data_set, bars in BARS.items():
        own = [run for run in runs if run.data_set == data_set and run.row == DEFAULT]
        if not own:
            continue
        for bar in bars:
            mean, worst = over_seeds(own, bar.metric)
            sign = ">=" if bar.metric.high_is_good else "<"
            reach = f", to reach {bar.reach:g}" if bar.reach is not None else ""
            print(
                f"{data_set + ': ' + bar.what:60}{bar.metric.text(mean):>8} (worst seed "
                f"{bar.metric.text(worst)}) {sign} {bar.bar:g} {bar.verdict(worst)}{reach}"
            )


def print_failures(runs: Runs) -> None:
    """Print each failure once."""
    broken = [run for run in runs if run.failure]
    if broken:
        print("\nfailed, and counted as 0:")
    for run in broken:
        print(f"  {run.data_set} {run.entity}, {run.row}, seed {run.seed}: {run.failure}")


def unique(values: Iterable[T]) -> list[T]:
    """Return the values in order, each once."""
    return list(dict.fromkeys(values))
