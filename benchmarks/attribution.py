"""Whether alerts name the feature that went wrong, and whether normal values lie in their expected band.

    python benchmarks/attribution.py [--data ../shared/data] [--sets smd,asd] [--trials 10] [--seed 0]
                                     [--json FILE]

One entity at a time, with the default configuration (``product.py``). An anomaly is put into one feature of
test rows without a label: the smallest of a few sizes, in standard deviations of the feature in training,
that raises an alert where the rows as they were raise none. It counts as named if the feature is among the
first two reasons of the alert. ``stuck`` has no size: the feature keeps the value that it had.

The band is what the first member expects, give or take standard deviations, for test rows without a label.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np  # noqa: E402

from benchmarks import command_line  # noqa: E402
from benchmarks.data_sets import Series, entities, read  # noqa: E402
from benchmarks.product import configuration  # noqa: E402
from detector.alerting.event import AlertEvent  # noqa: E402
from detector.batch import Batch, FloatArray, IntArray  # noqa: E402
from detector.bundles.serving import serve  # noqa: E402
from detector.pipeline.detector import Detector  # noqa: E402
from detector.pipeline.entity_state import initial_state  # noqa: E402
from detector.pipeline.reasons import account  # noqa: E402
from detector.pipeline.run import run  # noqa: E402
from detector.training.backtest import backtest, warmup_rows  # noqa: E402
from detector.training.job import train  # noqa: E402
from detector.training.plan import plan_of  # noqa: E402

SETS = ("smd", "asd")
KINDS = ("spike", "level", "scale", "stuck")
SIZES = (4.0, 8.0, 16.0, 32.0)
BAR, TOP = 0.9, 2
BANDS = ((1.0, 0.683), (2.0, 0.954))
"""Standard deviations to either side, and the share of a Gaussian there."""
STATED_BAND, STATED_RATE = 2.0, 0.9
"""The band that alerts are told with, and the share of normal values that users are told it holds."""
PAST, LASTS = 300, 20
_BAND_ROWS = 200


@dataclass(frozen=True, slots=True)
class Trial:
    """One anomaly that raised an alert."""

    data_set: str
    entity: str
    kind: str
    feature: str
    size: float
    member: str
    place: int
    """Of the feature among the reasons, from 0; -1 where it is none of them."""


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    trials: list[Trial] = []
    inside: dict[str, list[FloatArray]] = {}
    silent = 0
    for data_set in options.sets.split(","):
        for entity in entities(options.data, data_set):
            series = read(options.data, data_set, entity, options.seed)
            config = configuration(series, options.seed, {})
            bundle = train(series.batch(0, series.n_train), plan_of(config), now_s=0.0)
            detector = serve(bundle, config.alerting.rules(), min_features_share=config.min_features)
            rng = np.random.default_rng(options.seed)
            found = list(_trials(detector, series, options.trials, rng))
            trials += [trial for trial in found if trial is not None]
            silent += sum(trial is None for trial in found)
            inside.setdefault(data_set, []).append(_deviations(detector, series, rng))
            print(f"{data_set} {entity}: {len(found)} anomalies", file=sys.stderr, flush=True)
    _print_tables(trials, silent, inside)
    if options.json:
        options.json.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))


def _trials(
    detector: Detector, series: Series, per_kind: int, rng: np.random.Generator
) -> Iterator[Trial | None]:
    """Yield what became of every anomaly, None where no size raised an alert."""
    spread = np.nanstd(series.values[: series.n_train], axis=0)
    moving = np.flatnonzero(spread > 0)
    starts = _calm_starts(series)
    for kind in KINDS:
        for start in rng.choice(starts, per_kind).tolist():
            j = int(rng.choice(moving))
            past = series.batch(start - PAST, start + LASTS)
            if _alert(detector, past) is not None:
                continue
            yield _smallest(detector, series, past, kind, j, float(spread[j]), rng)


def _smallest(
    detector: Detector,
    series: Series,
    rows: Batch,
    kind: str,
    j: int,
    spread: float,
    rng: np.random.Generator,
) -> Trial | None:
    sign = rng.choice([-1.0, 1.0], size=LASTS)
    for size in SIZES if kind != "stuck" else (0.0,):
        event = _alert(
            detector, replace(rows, values=with_anomaly(rows.values, kind, j, size * spread, sign))
        )
        if event is not None:
            named = [reason.feature for reason in event.reasons]
            feature = series.feature_names[j]
            place = named.index(feature) if feature in named else -1
            return Trial(series.data_set, series.entity, kind, feature, size, event.member, place)
    return None


def with_anomaly(values: FloatArray, kind: str, j: int, by: float, sign: FloatArray) -> FloatArray:
    """Return rows with an anomaly in feature j, from row ``PAST`` on."""
    changed = values.copy()
    column = changed[PAST:, j]
    if kind == "spike":
        column[0] += by * sign[0]
    elif kind == "level":
        column += by * sign[0]
    elif kind == "scale":
        column += by * sign
    else:
        column[:] = changed[PAST - 1, j]
    return changed


def _alert(detector: Detector, rows: Batch) -> AlertEvent | None:
    """Return the first alert of the rows after the past."""
    events = backtest(detector, rows, warmup_rows(rows, PAST)).events
    return next((event for event in events if event.transition == "firing"), None)


def _calm_starts(series: Series) -> IntArray:
    """Return test rows with no label anywhere near."""
    labels = np.concatenate([np.zeros(series.n_train, dtype=bool), series.test_labels])
    marked = np.concatenate([[0], np.cumsum(labels)])
    row = np.arange(series.n_train + PAST, len(series.values) - LASTS)
    return np.asarray(row[marked[row + LASTS] == marked[row - PAST]])


def _deviations(detector: Detector, series: Series, rng: np.random.Generator) -> FloatArray:
    """Return how many expected standard deviations normal values are off, (rows, D); NaN without any."""
    starts = _calm_starts(series)
    off = []
    for start in rng.choice(starts, min(_BAND_ROWS, len(starts)), replace=False).tolist():
        rows = series.batch(start - PAST, start + 1)
        past = np.arange(len(rows)) < PAST
        before = rows.take(past)
        state = initial_state(detector, [series.entity])
        state = run(detector, state, before, np.arange(PAST), np.array([PAST])).state
        told = account(detector, state, rows.take(~past), 0)
        off.append(
            [
                (float(part.actual) - float(part.expected)) / part.std
                if part.std and isinstance(part.actual, float) and part.expected is not None
                else np.nan
                for part in told
            ]
        )
    return np.array(off)


def _print_tables(trials: list[Trial], silent: int, inside: dict[str, list[FloatArray]]) -> None:
    print(f"\n{'anomaly, or the member that was heard':66}{'alerts':>8}{'first':>8}{'top 2':>8}")
    groups: dict[str, list[int]] = {}
    for trial in trials:
        for name in (trial.data_set, f"{trial.data_set} {trial.kind}", f"{trial.data_set} by {trial.member}"):
            groups.setdefault(name, []).append(trial.place)
    for name, places in groups.items():
        place = np.array(places)
        first, top = (place == 0).mean(), ((place >= 0) & (place < TOP)).mean()
        bar = "" if " " in name else f"  >= {BAR} {'met' if top >= BAR else 'MISSED'}"
        print(f"{name:66}{len(places):8d}{first:8.2f}{top:8.2f}{bar}")
    print(f"{silent} anomalies raised no alert, however large")
    for data_set, parts in inside.items():
        for width, promised in BANDS:
            shares = np.concatenate([np.nanmean(np.abs(part) <= width, axis=0) for part in parts])
            low, middle, high = np.quantile(shares, [0.1, 0.5, 0.9])
            bar = ""
            if width == STATED_BAND:
                bar = f"  mean >= {STATED_RATE} {'met' if shares.mean() >= STATED_RATE else 'MISSED'}"
            print(
                f"{data_set}: within {width:g} standard deviations, a Gaussian {promised:.3f}; "
                f"features: mean {shares.mean():.3f}, "
                f"a tenth below {low:.3f}, median {middle:.3f}, a tenth above {high:.3f}{bar}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of data")
    option("--sets", default=",".join(SETS), help="of %(default)s")
    option("--trials", type=int, default=10, help="of each kind, on each entity")
    option("--seed", type=int, default=0)
    option("--json", type=Path, help="write every alert there")
    return parser


if __name__ == "__main__":
    main()
