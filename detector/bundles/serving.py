"""From a bundle and the operator's rules to a detector that scores."""

import math

from detector.alerting.budget import threshold_for, threshold_while_learning
from detector.alerting.rules import AlertRules
from detector.alerting.steering import Steering
from detector.bundles.store import Bundle
from detector.pipeline import Detector


def serve(
    bundle: Bundle, rules: AlertRules, *, min_features_share: float = 0.5, role: str = "champion"
) -> Detector:
    """Return the detector that scores with ``bundle`` and alerts by ``rules``.

    The threshold is found here, from the p-values that the bundle keeps of held-out traffic: another budget
    needs no other bundle.

    Args:
        bundle: A checked bundle.
        rules: The budget, m of n, and hysteresis.
        min_features_share: A record with a smaller share of its features is not scored.
        role: Written into every score.

    Raises:
        ValueError: The bundle holds no held-out time.
    """
    manifest = bundle.manifest
    entities = max(len(bundle.held_out.lengths), 1)
    interval_s = manifest.training.interval_s
    threshold = (
        threshold_while_learning(bundle.held_out, rules, entities, interval_s)
        if bundle.model.learns
        else threshold_for(bundle.held_out, rules, entities)
    )
    return Detector(
        name=manifest.detector,
        role=role,
        version=manifest.version,
        model=bundle.model,
        rules=rules,
        threshold=threshold,
        steering=(
            None
            if bundle.model.learns
            else Steering.of(bundle.held_out, threshold.p_value, threshold.budget_rate)
        ),
        min_features=fewest_features(min_features_share, len(manifest.features)),
        interval_s=interval_s,
    )


def fewest_features(share: float, n_features: int) -> int:
    """Return how many of its features a record needs to be scored."""
    return max(1, math.ceil(share * n_features))
