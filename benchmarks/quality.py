"""How well the product finds labelled incidents, as a user gets it: one configuration for every set.

    python benchmarks/quality.py [--data ../shared/data] [--sets smd,asd] [--quick] [--seeds 3] [--jobs 2]
                                 [--rows default,random] [--ablation] [--grid] [--vus] [--json FILE]

``data_sets.py`` says which files the folder of data holds. One entity at a time: the product trains on its
training rows without labels, then answers for the rest in order and looks at no later record. The
configuration is features and a budget of one false alarm per entity and day; where a set has no days, 1,000
records stand for one. Everything else is the product's default, and no set has a setting of its own.

Ranking is measured per record, alarms per event: an event counts once, runs of alarms with at most 10 records
between them are one, a run that touches no event is a false alarm. Figures marked * chose their threshold
with the labels; all others are at the detector's own. Means are over entities, then over seeds. What breaks
counts as 0. Plain detectors get the same rows and the same budget (``peer_alarms.py``).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
# Before numpy is imported, and inherited by every worker: one thread each.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from benchmarks import command_line  # noqa: E402
from benchmarks.ablations import ABLATIONS, DEFAULT, GRID, Changes  # noqa: E402
from benchmarks.data_sets import READERS, DataError, entities, newest, path_of, read, smallest  # noqa: E402
from benchmarks.peer_alarms import ROWS, peer_answers  # noqa: E402
from benchmarks.product import answers  # noqa: E402
from benchmarks.quality_run import QualityRun, failed, judged  # noqa: E402
from benchmarks.quality_tables import (  # noqa: E402
    print_bars,
    print_calibration,
    print_comparison,
    print_failures,
    print_tables,
)
from benchmarks.volume import PACKAGE, volume_under_surface  # noqa: E402

_SLOW_FITS = ("vae", "VAE", "gan", "rbm")
_HEAVY, _PLAIN = 5.0, 0.1
"""Times as long as the default configuration."""
QUICK_SERIES = 2
QUICK_TRAINING_ROWS = 3_000


@dataclass(frozen=True, slots=True)
class Task:
    """One row of the tables on one series with one seed."""

    data: Path
    data_set: str
    entity: str
    row: str
    changes: Changes | None
    """Of the product's configuration; None for a plain detector."""
    seed: int
    most_training_rows: int | None
    vus: bool


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    sets = command_line.chosen(options.sets, READERS, "set")
    rows = _rows(options)
    if options.vus and not importlib.util.find_spec(PACKAGE):
        sys.exit(f"--vus needs {PACKAGE}: pip install --no-deps TSB-AD==1.5")
    try:
        tasks = list(_tasks(options, sets, rows))
        started = time.perf_counter()
        found = dict(_results(tasks, options.jobs))
    except DataError as error:
        sys.exit(f"no data to measure on: {error}")
    runs = [found[i] for i in range(len(tasks))]
    minutes = (time.perf_counter() - started) / 60
    print_tables(runs)
    print_comparison(runs)
    print_calibration(runs)
    print_failures(runs)
    print_bars(runs)
    if options.quick:
        print("a quick run, with few series and training rows, decides none of these")
    _print_times(runs)
    print(f"{len(runs)} runs, {options.jobs} at a time, took {minutes:.1f} minutes; revision {_revision()}")
    if options.json:
        settings = {name: str(value) for name, value in vars(options).items()}
        record = {
            "revision": _revision(),
            "settings": settings,
            "configurations": {row: changes for row, changes in rows.items() if changes is not None},
            "minutes": minutes,
            "runs": [_without_arrays(run) for run in runs],
        }
        options.json.write_text(json.dumps(record, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of data")
    option("--sets", default=",".join(READERS), help="of %(default)s")
    option(
        "--rows",
        help="only these rows, by name, separated by semicolons; with * at the end, all that begin so",
    )
    option(
        "--ablation", action="store_true", help="also the default without each of its techniques, one seed"
    )
    option("--grid", action="store_true", help="also every family behind every predictor, one seed")
    option("--seeds", type=int, help="how many; 3, and 1 when quick")
    option("--first-seed", type=int, default=0, help="the others follow it")
    option("--jobs", type=int, default=1, help="processes, each on one thread")
    option("--vus", action="store_true", help="also VUS-PR, with TSB-AD")
    option("--json", type=Path, help="write every run there, with revision and settings")
    option("--quick", action="store_true", help="few series, few training rows: measures little")
    return parser


def _rows(options: argparse.Namespace) -> dict[str, Changes | None]:
    """Return the rows of the tables; a plain detector has no configuration."""
    rows: dict[str, Changes | None] = {**DEFAULT, **dict.fromkeys(ROWS)}
    if options.ablation:
        rows |= ABLATIONS
    if options.grid:
        rows |= GRID
    if options.rows is None:
        return rows
    every: dict[str, Changes | None] = {**rows, **ABLATIONS, **GRID}
    chosen: dict[str, Changes | None] = {}
    for wanted in (text.strip() for text in options.rows.split(";")):
        named = [
            row
            for row in every
            if row == wanted or (wanted.endswith("*") and row.startswith(wanted.removesuffix("*")))
        ]
        if not named:
            sys.exit(f"no row is called {wanted!r}; there are {'; '.join(every)}")
        chosen |= {row: every[row] for row in named}
    return chosen


def _tasks(
    options: argparse.Namespace, sets: list[str], rows: Mapping[str, Changes | None]
) -> Iterator[Task]:
    seeds = options.seeds if options.seeds is not None else (1 if options.quick else 3)
    most = QUICK_TRAINING_ROWS if options.quick else None
    for data_set in sets:
        if options.quick:
            series = smallest(options.data, data_set, QUICK_SERIES)
        else:
            series = entities(options.data, data_set)
        for row, changes in rows.items():
            # Techniques are compared, not varied: more seeds there would buy little for their time.
            many = changes is None or row in DEFAULT
            first = options.first_seed
            for seed in range(first, first + (seeds if many else 1)):
                for entity in series:
                    vus = options.vus and many
                    yield Task(options.data, data_set, entity, row, changes, seed, most, vus)


def _results(tasks: list[Task], jobs: int) -> Iterator[tuple[int, QualityRun]]:
    if jobs <= 1:
        for i, task in enumerate(tasks):
            yield i, _reported(measure(task), i + 1, len(tasks))
        return
    # The longest first, so that none of them is left alone at the end.
    longest_first = sorted(range(len(tasks)), key=lambda i: -_size(tasks[i]))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(measure, tasks[i]): i for i in longest_first}
        for done, future in enumerate(as_completed(waiting), start=1):
            yield waiting[future], _reported(future.result(), done, len(tasks))


def _size(task: Task) -> float:
    """Return about how long a task takes, in bytes to read for the default configuration."""
    if task.changes is None:
        weight = _PLAIN
    else:
        weight = _HEAVY if any(name in task.row for name in _SLOW_FITS) else 1.0
    return weight * path_of(task.data, task.data_set, task.entity).stat().st_size


def _reported(run: QualityRun, done: int, total: int) -> QualityRun:
    print(
        f"{done}/{total} {run.data_set} {run.entity} {run.row} seed {run.seed}: AUC-PR {run.auc_pr:.3f}, "
        f"event F1 {run.events.f1:.3f}, fit {run.fit_s:.1f} s {run.failure}",
        file=sys.stderr,
        flush=True,
    )
    return run


def measure(task: Task) -> QualityRun:
    """Train, answer and judge; whatever breaks is a run that found nothing."""
    series = read(task.data, task.data_set, task.entity, task.seed)
    if task.most_training_rows is not None:
        series = newest(series, task.most_training_rows)
    try:
        if task.changes is None:
            said = peer_answers(series, task.row, task.seed)
        else:
            said = answers(series, task.seed, task.changes)
    # A benchmark of many detectors says which of them broke and goes on, whatever broke it.
    except Exception as error:
        return failed(series, task.row, task.seed, f"{type(error).__name__}: {error}")
    return judged(series, task.row, task.seed, said, volume_under_surface if task.vus else None)


def _print_times(runs: list[QualityRun]) -> None:
    cpu: dict[str, float] = {}
    for run in runs:
        cpu[run.row] = cpu.get(run.row, 0.0) + run.fit_s + run.score_s
    print("\nCPU time of each row: " + ", ".join(f"{row} {seconds:.0f} s" for row, seconds in cpu.items()))


def _revision() -> str:
    """Return the commit that was measured, and whether files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    revision = git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{revision} with changes" if git("status", "--porcelain", "detector", "benchmarks") else revision


def _without_arrays(run: QualityRun) -> dict[str, object]:
    return asdict(replace(run, nab=None))


if __name__ == "__main__":
    main()
