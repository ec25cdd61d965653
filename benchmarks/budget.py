"""Whether the budget of false alarms is kept, on made-up traffic in which every alarm is false.

    python benchmarks/budget.py [--families gmm,hmm,vae,auto] [--kinds independent,drifting] [--entities 200]
                                [--interval 600] [--train-days 28] [--days 60] [--seed 0] [--jobs 2]
                                [--quick] [--json FILE]

``synthetic.py`` draws the traffic. The product trains on the first days as a user would have it, then the
daemon's own pipeline scores the days after them, with a day before as their past. A cell is met if the
episodes that fired are within a factor of the number that the budget promises: 2, and 3 where traffic drifts.

The threshold rests on episodes counted in held-out time. *borne* is how many of them the budget allows there:
with few the aim is low on purpose, down to half of the budget.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
# Before numpy is imported, and inherited by every worker: one thread each.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

from scipy.stats import chi2  # noqa: E402

from benchmarks import command_line  # noqa: E402
from benchmarks.synthetic import FEATURES, KINDS, Kind, Traffic, traffic  # noqa: E402
from detector.bundles.serving import serve  # noqa: E402
from detector.bundles.store import Bundle  # noqa: E402
from detector.config.detectors import DetectorConfig  # noqa: E402
from detector.training.backtest import backtest, warmup_rows  # noqa: E402
from detector.training.job import train  # noqa: E402
from detector.training.plan import plan_of  # noqa: E402

T = TypeVar("T", bound=str)
DAY_S = 86400.0
FAMILIES = ("gmm", "hmm", "vae", "auto")
BUDGETS: tuple[dict[str, object], ...] = (
    {"false_alarms": 1, "per": "entity", "every": "7d"},
    {"false_alarms": 1, "per": "entity", "every": "30d"},
    {"false_alarms": 2, "per": "fleet", "every": "1d"},
)
FACTOR, FACTOR_DRIFTING = 2.0, 3.0
_FEWEST_EXPECTED = 30.0
# So many entities' records at a time, to spare memory; an entity's alarms do not depend on the others.
_ENTITIES_AT_ONCE = 25
_PAST_DAYS = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What is trained, on what."""

    family: str
    kind: Kind
    entities: int
    interval_s: float
    train_days: float
    days: float
    seed: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One budget on one traffic."""

    setting: Setting
    budget: str
    members: tuple[str, ...]
    young: bool
    """Whether the p-values went on learning while it scored."""
    threshold: float
    borne: float
    """Episodes that the budget allows in held-out time."""
    expected: float
    """Episodes that the budget allows in the days scored."""
    observed: int
    cpu_s: float
    """Of scoring these days, and of training in the first budget's cell."""

    @property
    def ratio(self) -> float:
        """Return how much of the budget was spent."""
        return self.observed / self.expected

    @property
    def factor(self) -> float:
        """Return the bar."""
        return FACTOR_DRIFTING if self.setting.kind == "drifting" else FACTOR

    @property
    def met(self) -> bool:
        """Return whether the ratio is within the factor of one, in either direction."""
        return 1 / self.factor <= self.ratio <= self.factor


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    settings = [
        Setting(
            family, kind, options.entities, options.interval, options.train_days, options.days, options.seed
        )
        for family in command_line.chosen(options.families, FAMILIES, "family")
        for kind in command_line.chosen(options.kinds, KINDS, "kind of traffic")
    ]
    if options.quick:
        settings = [Setting(s.family, s.kind, 10, 1800.0, 14.0, 20.0, s.seed) for s in settings]
    started = time.perf_counter()
    cells = list(_measured(settings, options.jobs))
    _print_table(cells)
    print(f"{len(cells)} cells took {(time.perf_counter() - started) / 60:.1f} minutes")
    if options.quick:
        print("a quick run, with few entities and days, decides none of these")
    if options.json:
        record = [asdict(cell) | {"ratio": cell.ratio, "met": cell.met} for cell in cells]
        options.json.write_text(json.dumps(record, indent=1))


def measure(setting: Setting) -> list[Cell]:
    """Train once, and count the episodes under every budget.

    Raises:
        TrainingError: These records cannot give a model.
    """
    days = setting.train_days + setting.days
    records = traffic(setting.kind, setting.entities, days, setting.interval_s, setting.seed)
    n_train = round(setting.train_days * DAY_S / setting.interval_s)
    started = time.process_time()
    bundle = train(records.batch(0, n_train), plan_of(_configured(setting, BUDGETS[0])), now_s=0.0)
    cells = []
    for budget in BUDGETS:
        cell = _cell(setting, bundle, budget, records, n_train, started)
        cells.append(cell)
        started = time.process_time()
    return cells


def _configured(setting: Setting, budget: dict[str, object]) -> DetectorConfig:
    """Return what a user would write."""
    return DetectorConfig.model_validate(
        {
            "name": "budget",
            "input": "synthetic",
            "features": FEATURES,
            "family": setting.family,
            "alerting": {"budget": budget},
            "training": {"seed": setting.seed},
        }
    )


def _cell(
    setting: Setting,
    bundle: Bundle,
    budget: dict[str, object],
    records: Traffic,
    n_train: int,
    started: float,
) -> Cell:
    config = _configured(setting, budget)
    detector = serve(bundle, config.alerting.rules(), min_features_share=config.min_features)
    past = round(_PAST_DAYS * DAY_S / setting.interval_s)
    observed, scored_s = 0, 0.0
    for first in range(0, setting.entities, _ENTITIES_AT_ONCE):
        some = slice(first, first + _ENTITIES_AT_ONCE)
        batch = records.batch(n_train - past, len(records.time), some)
        result = backtest(detector, batch, warmup_rows(batch, past))
        observed += sum(event.transition == "firing" for event in result.events)
        scored_s += result.scored_s
    return Cell(
        setting,
        f"{budget['false_alarms']} per {budget['per']} in {budget['every']}",
        tuple(member.name for member in bundle.model.members),
        bundle.model.learns,
        detector.threshold.p_value,
        detector.threshold.budget_rate * float(bundle.held_out.span_s.sum()),
        detector.threshold.budget_rate * scored_s,
        observed,
        time.process_time() - started,
    )


def poisson_interval(observed: int) -> tuple[float, float]:
    """Return the exact 95 % interval of the mean of a Poisson variable of which one value was seen."""
    low = float(chi2.ppf(0.025, 2 * observed)) / 2 if observed else 0.0
    return low, float(chi2.ppf(0.975, 2 * observed + 2)) / 2


def _measured(settings: list[Setting], jobs: int) -> Iterator[Cell]:
    if jobs <= 1:
        results: Iterator[list[Cell]] = map(measure, settings)
        yield from _reported(results)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from _reported(pool.map(measure, settings))


def _reported(results: Iterator[list[Cell]]) -> Iterator[Cell]:
    for cells in results:
        first = cells[0]
        print(
            f"{first.setting.family} on {first.setting.kind}: {', '.join(first.members)}; "
            + ", ".join(f"{cell.ratio:.2f}" for cell in cells),
            file=sys.stderr,
            flush=True,
        )
        yield from cells


def _print_table(cells: list[Cell]) -> None:
    print(
        f"\n{'family':7}{'traffic':16}{'budget':24}{'p <=':>9}{'borne':>8}{'expected':>10}{'observed':>10}"
        f"{'ratio':>7}  {'95 % of ratio':14}{'bar':12}"
    )
    for cell in cells:
        low, high = (bound / cell.expected for bound in poisson_interval(cell.observed))
        verdict = "met" if cell.met else "MISSED"
        if cell.expected < _FEWEST_EXPECTED:
            verdict = "too few"
        young = ", young" if cell.young else ""
        print(
            f"{cell.setting.family:7}{cell.setting.kind:16}{cell.budget:24}{cell.threshold:9.1e}"
            f"{cell.borne:8.0f}{cell.expected:10.0f}{cell.observed:10d}{cell.ratio:7.2f}"
            f"  {low:.2f} to {high:.2f}  1/{cell.factor:.0f} to {cell.factor:.0f} {verdict}{young}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("--families", default=",".join(FAMILIES), help="of %(default)s")
    option("--kinds", default=",".join(KINDS), help="of traffic, of %(default)s")
    option("--entities", type=int, default=200)
    option("--interval", type=float, default=600.0, help="seconds between two records of an entity")
    option("--train-days", type=float, default=28.0)
    option("--days", type=float, default=60.0, help="scored after training")
    option("--seed", type=int, default=0)
    option("--jobs", type=int, default=1, help="processes, each on one thread")
    option("--json", type=Path, help="write every cell there")
    option("--quick", action="store_true", help="few entities and days: measures little")
    return parser


if __name__ == "__main__":
    main()
