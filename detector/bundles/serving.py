"""From a bundle and the operator's rules to a detector that scores."""

import math
from collections.abc import Sequence
from dataclasses import replace

from detector.alerting.budget import Threshold, threshold_for, threshold_while_learning
from detector.alerting.entity_rules import EntityRules, Override
from detector.alerting.feature_rules import FeatureRule, FeatureRules
from detector.alerting.rules import RECORDS_OF_A_LEVEL, AlertRules
from detector.alerting.steering import Steering
from detector.bundles.store import Bundle
from detector.pipeline.detector import Detector


def serve(
    bundle: Bundle,
    rules: AlertRules,
    *,
    min_features_share: float = 0.5,
    role: str = "champion",
    feature_rules: Sequence[FeatureRule] = (),
    overrides: Sequence[Override] = (),
) -> Detector:
    """Return the detector that scores with ``bundle`` and alerts by ``rules``.

    The threshold is found here, from the p-values that the bundle keeps of held-out traffic: another budget
    needs no other bundle.

    Args:
        bundle: A checked bundle.
        rules: The budget, m of n, and hysteresis.
        min_features_share: A record with a smaller share of its features is not scored.
        role: Written into every score.
        feature_rules: Of each feature, in the order of the bundle's; nothing: none has any.
        overrides: What is different for some entities.

    Raises:
        ValueError: The bundle holds no held-out time.
    """
    manifest = bundle.manifest
    entities = manifest.training.entities_at_once
    interval_s = manifest.training.interval_s
    # Of slow records an alert may have ended before anybody knows what is usual now.
    release_after_s = max(rules.release_after_s, RECORDS_OF_A_LEVEL * interval_s)
    rules = replace(rules, release_after_s=release_after_s)

    def threshold_by(rules: AlertRules) -> Threshold:
        if bundle.model.learns:
            return threshold_while_learning(bundle.held_out, rules, entities, interval_s)
        return threshold_for(bundle.held_out, rules, entities)

    def nats_above(override: Override) -> float:
        if override.budget is None and override.fire is None:
            return 0.0
        own = threshold_by(override.rules(rules))
        return math.log(threshold.p_value / own.p_value)

    threshold = threshold_by(rules)
    if bundle.model.learns:
        steering = Steering.while_learning(threshold, rules)
    else:
        steering = Steering.of(bundle.held_out, threshold, rules, bundle.model.of_an_absurd_record())
    return Detector(
        name=manifest.detector,
        role=role,
        version=manifest.version,
        model=bundle.model,
        rules=rules,
        threshold=threshold,
        steering=steering,
        min_features=fewest_features(min_features_share, len(manifest.features)),
        interval_s=interval_s,
        feature_rules=FeatureRules.of(feature_rules),
        entity_rules=EntityRules.of(overrides, [nats_above(own) for own in overrides]) if overrides else None,
        # Of several features each may bring news of its own while another still settles.
        echoes=bundle.model.learns and len(manifest.features) == 1,
    )


def fewest_features(share: float, n_features: int) -> int:
    """Return how many of its features a record needs to be scored."""
    return max(1, math.ceil(share * n_features))
