"""Tests for detector.bundles.serving."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import Override
from detector.alerting.rules import AlertRules, Budget, FireRules
from detector.bundles.serving import serve
from detector.training.job import TrainingPlan, train
from tests.bundles.test_store import records


def test_the_threshold_of_an_override_is_that_of_a_detector_with_its_budget_and_fire() -> None:
    plan = TrainingPlan("hosts", "gmm", options={"n_components": 2})
    bundle = train(records(4000), plan, now_s=1.8e9)
    assert not bundle.model.learns
    rules, monthly = AlertRules(Budget(1, "entity", 600.0), 1, 1), Budget(1, "entity", 6000.0)
    overrides = [
        Override(EntityPatterns(("a",)), fire=FireRules(2, 3, 0.0)),
        Override(EntityPatterns(("b",)), budget=monthly, fire=FireRules(2, 3, 20.0)),
        Override(EntityPatterns(("c",)), severity="info"),
    ]
    own = serve(bundle, rules, overrides=overrides)
    alone = [
        serve(bundle, AlertRules(rules.budget, 2, 3)),
        serve(bundle, AlertRules(monthly, 2, 3, 20.0)),
        own,
    ]
    assert own.entity_rules is not None
    by_hand = [np.log(own.threshold.p_value / each.threshold.p_value) for each in alone]
    assert own.entity_rules.threshold_nats[:3] == pytest.approx(by_hand)
    # Two of three are met more rarely than one, so it may be less improbable.
    assert by_hand[0] < 0


def test_a_fleet_shares_its_budget_with_those_alive_at_once_not_with_every_name_there_was() -> None:
    rows = records(4000)
    pods = replace(rows, entity=[f"{name}-{i // 400}" for i, name in enumerate(rows.entity)])
    rules, plan = (
        AlertRules(Budget(1, "fleet", 600.0)),
        TrainingPlan("hosts", "gmm", options={"n_components": 1}),
    )
    stay, come_and_go = (serve(train(each, plan, now_s=1.8e9), rules).threshold for each in (rows, pods))
    assert stay.budget_rate == pytest.approx(1 / 600 / 2, rel=1e-12)
    assert come_and_go.budget_rate == pytest.approx(stay.budget_rate, rel=0.02)


def test_an_alert_lasts_for_as_many_records_at_least_as_a_level_needs() -> None:
    bundle = train(records(1200), TrainingPlan("hosts", "gmm", options={"n_components": 1}), now_s=1.8e9)
    least_s = 36 * bundle.manifest.training.interval_s
    assert serve(bundle, AlertRules(release_after_s=1.0)).rules.release_after_s == least_s
    assert serve(bundle, AlertRules(release_after_s=1e6)).rules.release_after_s == 1e6
    assert serve(bundle, AlertRules(release_after_s=np.inf)).rules.release_after_s == np.inf
