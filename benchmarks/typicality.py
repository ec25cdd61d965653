"""Rows that are too likely: what one-sided and two-sided p-values make of signals that collapse.

    python benchmarks/typicality.py [--families gmm,rbm,vae,gan] [--seed 0]

Each family is trained, as by ``detector train``, on the same broad traffic of 30 correlated features in three
regimes. Then it scores fresh traffic, rows drawn towards the centres of their regimes, and the mean of all
traffic. The table holds the median p-value and the share below 0.01, which is 0.01 for fresh traffic if
p-values are calibrated.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
# Before numpy is imported: one thread.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np  # noqa: E402

from benchmarks import command_line  # noqa: E402
from detector.batch import FloatArray  # noqa: E402
from detector.models.families import FAMILIES  # noqa: E402
from detector.scoring.scoring_model import ScoringModel  # noqa: E402
from detector.training.job import TrainingPlan, train  # noqa: E402
from tests.made import batch, detector  # noqa: E402
from tests.pipelines import scores_of  # noqa: E402

FEATURES = 30
FACTORS = 6
REGIMES = 3
TRAINING_ROWS = 8000
FRESH_ROWS = 4000
COLLAPSED_ROWS = 300


class Traffic:
    """A mixture of correlated Gaussians: a few factors, and noise of each feature."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.centres = 1.5 * rng.normal(size=(REGIMES, FEATURES))
        self._loadings = rng.normal(size=(FACTORS, FEATURES)) / np.sqrt(FACTORS)

    def rows(self, n: int, spread: float = 1.0) -> FloatArray:
        """Draw rows whose deviation from the centre of their regime is ``spread`` times the usual one."""
        centre = self.centres[self._rng.integers(REGIMES, size=n)]
        common = self._rng.normal(size=(n, FACTORS)) @ self._loadings
        return np.asarray(centre + spread * (common + 0.7 * self._rng.normal(size=(n, FEATURES))))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--families", default="gmm,rbm,vae,gan", help="comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    families = arguments.families.split(",")
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        parser.error(f"no family is called {unknown}; known are {', '.join(FAMILIES)}")

    traffic = Traffic(np.random.default_rng(arguments.seed))
    training = traffic.rows(TRAINING_ROWS)
    cases = {
        "fresh traffic": traffic.rows(FRESH_ROWS),
        "spread 0.5": traffic.rows(COLLAPSED_ROWS, 0.5),
        "spread 0.1": traffic.rows(COLLAPSED_ROWS, 0.1),
        "centre of a regime": traffic.rows(COLLAPSED_ROWS, 0.0),
        "mean of all traffic": np.tile(training.mean(axis=0), (COLLAPSED_ROWS, 1)),
    }
    print(f"{'':24}{'one-sided':>20}{'two-sided':>20}")
    print(f"{'':24}{'median':>12}{'< 0.01':>8}{'median':>12}{'< 0.01':>8}")
    for family in families:
        plan = TrainingPlan("typicality", family, "none", seed=arguments.seed, typicality="on")
        two_sided = train(batch(training), plan, 0.0).model
        member = two_sided.members[0]
        upper_only = replace(member, calibration=replace(member.calibration, lower=None))
        one_sided = replace(two_sided, members=(upper_only,))
        print(family)
        for name, rows in cases.items():
            cells = [_cells(model, rows) for model in (one_sided, two_sided)]
            print(f"  {name:22}{''.join(cells)}", flush=True)


def _cells(model: ScoringModel, rows: FloatArray) -> str:
    p_value = scores_of(detector(model), rows).p_value
    return f"{np.nanmedian(p_value):12.2g}{np.nanmean(p_value < 0.01):8.3f}"


if __name__ == "__main__":
    main()
