"""Every family beside plain detectors on labelled public data: how well it ranks, and what it costs.

    python benchmarks/families.py [--data ../shared/data] [--quick] [--sets smd,asd] [--families gmm,vae]
                                  [--seeds 3] [--jobs 2] [--json FILE]

``data_sets.py`` says which files the folder of data holds. Each family is trained by the product's own job
with its defaults and scores through the product's own pipeline; it ranks by p-value. Peers get the same
training rows, standardised the same way, as they are: they know nothing of time, and keep no rows back to
calibrate on (one line, marked 70 %, fits the rows that a family fits). So where rows follow each other, a
family has two lines: ``none`` compares the family itself with the peers, like with like, and
``autoregressive`` is what the product takes for most streams. Rows of adbench are independent and
have ``none`` alone.

AUC-PR and ROC-AUC are means over a set's series and over seeds (of the models, and of adbench's shuffle); a
seed's mean that is the worst stands beside. A model that fails on a series counts as 0 there. Times are those
of the CPU on one thread: fitting includes calibration, us per record the whole way from values to p-values.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
# Before numpy is imported, and inherited by every worker: one thread each.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from benchmarks import command_line  # noqa: E402
from benchmarks.data_sets import DataError, entities, newest, read, smallest  # noqa: E402
from benchmarks.detection import by_family, by_peer, quality  # noqa: E402
from benchmarks.family_tables import print_bars, print_failures, print_tables  # noqa: E402
from benchmarks.measured import Model, Run  # noqa: E402
from benchmarks.peer_models import PEERS  # noqa: E402
from detector.models.families import FAMILIES  # noqa: E402
from detector.training.job import TrainingPlan  # noqa: E402

DEFAULT_PREDICTOR = TrainingPlan(detector="", family="").predictor
NEED_TORCH = ("vae", "gan")
QUICK_SERIES = {"adbench": 5, "smd": 1, "asd": 2}
SETS = tuple(QUICK_SERIES)
QUICK_TRAINING_ROWS = 3_000


@dataclass(frozen=True, slots=True)
class Task:
    """One model on one series with one seed."""

    data: Path
    data_set: str
    entity: str
    model: Model
    seed: int
    most_training_rows: int | None


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    families = command_line.chosen(options.families, FAMILIES, "family")
    sets = command_line.chosen(options.sets, SETS, "set")
    absent = [family for family in families if family in NEED_TORCH and not importlib.util.find_spec("torch")]
    families = [family for family in families if family not in absent]
    try:
        tasks = list(_tasks(options, sets, families))
    except DataError as error:
        sys.exit(f"no data to measure on: {error}")
    started = time.perf_counter()
    runs = list(_results(tasks, options.jobs))
    print_tables(runs)
    print_failures(runs)
    print_bars(runs)
    if options.quick:
        print("a quick run, with few series and training rows, decides none of these")
    for family in absent:
        print(f"{family} was not measured: torch is not installed")
    jobs = f"{options.jobs} at a time" if options.jobs > 1 else "one at a time"
    print(f"{len(runs)} fits and scorings, {jobs}, took {(time.perf_counter() - started) / 60:.1f} minutes")
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("--data", type=Path, default=ROOT.parent / "shared" / "data", help="the folder of data")
    option("--sets", default=",".join(SETS), help="of %(default)s")
    option("--families", default=",".join(FAMILIES), help="of %(default)s; the peers always run")
    option("--seeds", type=int, default=1, help="how many")
    option("--jobs", type=int, default=1, help="processes, each on one thread")
    option("--json", type=Path, help="write every run there")
    option("--quick", action="store_true", help="few series, few training rows: measures little")
    return parser


def _tasks(options: argparse.Namespace, sets: list[str], families: list[str]) -> Iterator[Task]:
    for data_set in sets:
        if options.quick:
            series = smallest(options.data, data_set, QUICK_SERIES[data_set])
        else:
            series = entities(options.data, data_set)
        predictors = ("none",) if data_set == "adbench" else ("none", DEFAULT_PREDICTOR)
        models = [Model(family, predictor) for family in families for predictor in predictors]
        models += [Model(peer, "") for peer in PEERS]
        rows = QUICK_TRAINING_ROWS if options.quick else None
        for seed in range(options.seeds):
            for entity in series:
                for model in models:
                    yield Task(options.data, data_set, entity, model, seed, rows)


def _results(tasks: list[Task], jobs: int) -> Iterator[Run]:
    if jobs <= 1:
        for done, task in enumerate(tasks, start=1):
            yield _reported(measure(task), done, len(tasks))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(measure, task) for task in tasks]
        for done, future in enumerate(as_completed(waiting), start=1):
            yield _reported(future.result(), done, len(tasks))


def _reported(run: Run, done: int, total: int) -> Run:
    print(
        f"{done}/{total} {run.data_set} {run.entity} {run.model.title} seed {run.seed}: "
        f"AUC-PR {run.auc_pr:.3f}, ROC-AUC {run.roc_auc:.3f}, fit {run.fit_s:.1f} s {run.failure}",
        file=sys.stderr,
        flush=True,
    )
    return run


def measure(task: Task) -> Run:
    """Fit and score; whatever fails is a run that found nothing."""
    model = task.model
    run = Run(task.data_set, task.entity, model, task.seed)
    try:
        series = read(task.data, task.data_set, task.entity, task.seed)
        if task.most_training_rows is not None:
            series = newest(series, task.most_training_rows)
        if model.name in PEERS:
            detection = by_peer(series, PEERS[model.name], task.seed)
        else:
            detection = by_family(series, model.name, model.predictor, task.seed)
        auc_pr, roc_auc = quality(detection.anomaly, series.test_labels)
    # A benchmark of many models says which of them broke and goes on, whatever broke it.
    except Exception as error:
        return replace(run, failure=f"{type(error).__name__}: {error}")
    return replace(
        run,
        auc_pr=auc_pr,
        roc_auc=roc_auc,
        prevalence=float(series.test_labels.mean()),
        fit_s=detection.fit_s,
        score_s=detection.score_s,
        records=len(series.test),
    )


if __name__ == "__main__":
    main()
