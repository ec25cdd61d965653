"""The product on one series: configured as in a file, trained, and run over the rest as a backtest does.

This is the one place where quality benchmarks touch the product: what they measure is what it answers here.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.ablations import COMMITTEES, Changes
from benchmarks.data_sets import Series
from benchmarks.detection import ranking
from detector.batch import BoolArray, FloatArray, Status
from detector.bundles.serving import serve
from detector.config.detectors import DetectorConfig
from detector.training.backtest import backtest, warmup_rows
from detector.training.choose import choose
from detector.training.fit_family import no_report
from detector.training.job import train
from detector.training.plan import plan_of

_NO_PART = ("committee", "steering", "echo")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a detector says of the M test rows of a series, and what that took."""

    anomaly: FloatArray
    """Shape (M,), ranks, high is anomalous; 0 where there is no score."""
    anomaly_score: FloatArray
    """Shape (M,), 1.0 is the detector's own threshold: so one threshold means the same in every series; not a
    number where there is no score."""
    alarm: BoolArray
    """Shape (M,), by the detector's own threshold."""
    unscored: int
    """Rows without a score."""
    fit_s: float
    """CPU time of this process; as is ``score_s``."""
    score_s: float
    expected_per_day: float = 1.0
    """Alarms of normal traffic that the detector itself expects."""


def configuration(series: Series, seed: int, changes: Changes) -> DetectorConfig:
    """Return what a user would write: features, one false alarm per entity and day, and the changes."""
    budget = {"false_alarms": 1, "per": "entity", "every": f"{series.day_s:.0f}s"}
    plain = {
        "name": "quality",
        "input": series.data_set,
        "features": series.feature_names,
        "alerting": {"budget": budget},
        "training": {"seed": seed},
    }
    return DetectorConfig.model_validate(_changed(plain, changes))


def answers(series: Series, seed: int, changes: Changes) -> Answers:
    """Train on the training rows and score those after them, with the training rows as their past.

    Raises:
        TrainingError: These rows cannot give a model.
        ValueError: The changes make no configuration.
    """
    configured = {key: value for key, value in changes.items() if key not in _NO_PART}
    config = configuration(series, seed, configured)
    started = time.process_time()
    records, plan = series.batch(0, series.n_train), plan_of(config)
    if "committee" in changes:
        plan = choose(records, plan, no_report, None).plan
        plan = plan.with_members(COMMITTEES[changes["committee"]](list(plan.members), len(records)))
    bundle = train(records, plan, now_s=0.0)
    detector = serve(bundle, config.alerting.rules(), min_features_share=config.min_features)
    if changes.get("steering") == "off":
        detector = replace(detector, steering=None)
    if changes.get("echo") == "off":
        detector = replace(detector, echoes=False)
    fitted = time.process_time()
    batch = series.batch(0, len(series.values))
    scores = backtest(detector, batch, warmup_rows(batch, series.n_train)).scores
    score_s = time.process_time() - fitted
    tested = slice(series.n_train, None)
    scored = scores.status[tested] == Status.SCORED
    return Answers(
        anomaly=ranking(scores.p_value[tested], scores.log_likelihood[tested], scored),
        anomaly_score=scores.anomaly_score[tested],
        alarm=scores.alert[tested],
        unscored=int((~scored).sum()),
        fit_s=fitted - started,
        score_s=score_s,
        expected_per_day=detector.threshold.aimed_rate * series.day_s,
    )


def _changed(plain: Changes, changes: Changes) -> dict[str, Any]:
    """Return a configuration with other values; a section keeps the keys that are not named."""
    changed = dict(plain)
    for key, value in changes.items():
        kept = changed.get(key, {})
        sections = isinstance(value, Mapping) and isinstance(kept, Mapping)
        changed[key] = _changed(kept, value) if sections else value
    return changed
