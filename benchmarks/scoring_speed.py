"""Records that each family scores in a second on one core: polls of 1,000 records of 10 features.

    python benchmarks/scoring_speed.py [--rounds 30] [--json FILE] [--quick]

Models have parameters drawn by hand; nothing is fitted. A row is the family alone, from standardised records
to log-likelihood, or the p-values alone, from surprise. Each round measures every row once, in turn, so that
a slow minute of the machine hits all of them; the table holds medians over the rounds, of CPU time.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
# Before numpy is imported: one thread.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np  # noqa: E402

from benchmarks import command_line  # noqa: E402
from detector.batch import BoolArray, FloatArray, IntArray  # noqa: E402
from detector.models.contract import Family  # noqa: E402
from detector.scoring.calibration import Calibration  # noqa: E402
from detector.scoring.moments import Moments  # noqa: E402
from detector.scoring.tail import Tail  # noqa: E402
from detector.scoring.typicality import LowerSide  # noqa: E402
from tests.models.families_by_hand import (  # noqa: E402
    random_gan,
    random_gmm,
    random_hmm,
    random_naive_bayes,
    random_rbm,
    random_vae,
)

RECORDS = 1_000
FEATURES = 10
SHARE_WITH_A_GAP = 0.05
CALIBRATION_ROWS = 10_000
SHORTEST_MEASUREMENT_S = 0.02


@dataclass(frozen=True)
class Row:
    """Something done to a poll of records again and again."""

    name: str
    poll: Callable[[], object]
    bar: float | None = None
    """Records per second that it is held to."""


def main(arguments: list[str] | None = None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the rates of every round there")
    parser.add_argument("--quick", action="store_true", help="three rounds: shows that it works")
    options = parser.parse_args(arguments)
    rows = make_rows()
    rates = measure(rows, 3 if options.quick else options.rounds)
    print_table(rows, rates)
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1))


def make_rows() -> list[Row]:
    """Return everything that is measured: each family with all features and with some missing, p-values."""
    families: list[tuple[str, Family, int, float | None]] = [
        ("GMM, 8 full", random_gmm(8, FEATURES), RECORDS, 1e6),
        ("HMM, 8 diagonal, 1,000 entities", random_hmm(8, FEATURES, diagonal=True), RECORDS, 5e5),
        ("HMM, 8 diagonal, one entity", random_hmm(8, FEATURES, diagonal=True), 1, 1e5),
        ("naive Bayes, 8 classes, Gaussian", random_naive_bayes(8, FEATURES, histograms=False), RECORDS, 1e6),
        ("naive Bayes, 8, half histograms", random_naive_bayes(8, FEATURES), RECORDS, 1e6),
        (
            "VAE, 2 x 64 units, 8 draws",
            random_vae(FEATURES, window=1, latent=FEATURES // 2, draws=8, units=64),
            RECORDS,
            5e4,
        ),
        ("RBM, 8 hidden", random_rbm(FEATURES, 8), RECORDS, None),
        ("GAN", random_gan(FEATURES), RECORDS, None),
    ]
    rng = np.random.default_rng(0)
    rows = []
    for name, family, n_entities, bar in families:
        x = family.sample(RECORDS, rng)
        rows.append(Row(name, _scan(family, x, n_entities), bar))
        rows.append(Row(f"  {SHARE_WITH_A_GAP:.0%} of records miss a feature", _gappy(family, x, n_entities)))
    return rows + _p_value_rows(rng)


def _scan(family: Family, x: FloatArray, n_entities: int) -> Callable[[], object]:
    state = family.initial_state(n_entities)
    gap_s = np.full(len(x), 60.0)
    lengths = np.full(n_entities, len(x) // n_entities)
    if n_entities == len(x):
        return lambda: family.step(state, x, gap_s)
    return lambda: family.scan(state, x, gap_s, lengths)


def _gappy(family: Family, x: FloatArray, n_entities: int) -> Callable[[], object]:
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(x))[: round(SHARE_WITH_A_GAP * len(x))]
    gappy = x.copy()
    gappy[rows, rng.integers(FEATURES, size=rows.size)] = np.nan
    return _scan(family, gappy, n_entities)


@dataclass(frozen=True, slots=True)
class _OfAnyPattern:
    """Of any pattern of missing features the same: the tails are cached, and only looked up here."""

    surprise: FloatArray
    model: IntArray
    complete: bool = False

    def __call__(
        self, missing: BoolArray, past_missing: BoolArray, *, most: int
    ) -> list[tuple[FloatArray, IntArray]]:
        return [(self.surprise[:most], self.model[:most])] * len(missing)


def _p_value_rows(rng: np.random.Generator) -> list[Row]:
    held_out = rng.gamma(FEATURES / 2, size=CALIBRATION_ROWS)
    everyone = np.zeros(CALIBRATION_ROWS, dtype=np.int64)
    moments = Moments.fit(held_out, everyone, 2)

    of_pattern = _OfAnyPattern(held_out, everyone)
    calibration = Calibration(moments, Tail.fit(moments.normalise(held_out, everyone)), of_pattern)
    two_sided = replace(calibration, lower=LowerSide.fit(held_out, everyone, 2))
    surprise = rng.gamma(FEATURES / 2, size=RECORDS)
    model = np.zeros(RECORDS, dtype=np.int64)
    complete = np.zeros((RECORDS, FEATURES), dtype=bool)
    gaps = complete.copy()
    rows = rng.permutation(RECORDS)[: round(SHARE_WITH_A_GAP * RECORDS)]
    gaps[rows, rng.integers(FEATURES, size=rows.size)] = True
    past = np.zeros((RECORDS, 0), dtype=bool)
    return [
        Row("p-values", lambda: calibration.p_value(surprise, model, complete, past)),
        Row("  two-sided", lambda: two_sided.p_value(surprise, model, complete, past)),
        Row(
            f"  {SHARE_WITH_A_GAP:.0%} of records miss a feature",
            lambda: calibration.p_value(surprise, model, gaps, past),
        ),
    ]


def measure(rows: Sequence[Row], rounds: int) -> list[list[float]]:
    """Return records per second of every row, a list of all rounds for each."""
    rates: list[list[float]] = [[] for _ in rows]
    for row in rows:
        row.poll()
    for _ in range(rounds):
        for row, of_row in zip(rows, rates, strict=True):
            of_row.append(_rate(row.poll))
    return rates


def _rate(poll: Callable[[], object]) -> float:
    polls, started = 0, time.process_time()
    while True:
        poll()
        polls += 1
        took_s = time.process_time() - started
        if took_s >= SHORTEST_MEASUREMENT_S:
            return polls * RECORDS / took_s


def print_table(rows: Sequence[Row], rates: Sequence[Sequence[float]]) -> None:
    """Print each row's median rate with its bar."""
    print(
        f"{RECORDS:,} records of {FEATURES} features at a time, one core, medians of {len(rates[0])} rounds\n"
    )
    print(f"{'':40}{'records/s':>12}{'us/record':>11}{'bar':>12}")
    for row, of_row in zip(rows, rates, strict=True):
        rate = median(of_row)
        verdict = ""
        if row.bar is not None:
            verdict = f"{row.bar:>12,.0f} {'met' if rate >= row.bar else 'MISSED'}"
        print(f"{row.name:40}{rate:>12,.0f}{1e6 / rate:>11.2f}{verdict}")


if __name__ == "__main__":
    main()
