"""Tests for detector.pipeline.reasons: the feature that broke is named, and no healthy one with it."""

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from tests.made import batch, detector, fitted, records_like, scoring_model
from tests.pipelines import outcome_of


@pytest.mark.parametrize("family", ["gmm", "hmm"])
@pytest.mark.parametrize("broken", [[0], [1], [0, 2]])
def test_features_that_go_with_a_broken_one_are_not_accused(family: str, broken: list[int]) -> None:
    model, _ = scoring_model(fitted(family))
    own = detector(model, threshold=1e-6, rules=AlertRules(fire_m=1, fire_of=1))
    rows = records_like(model.density, 60, np.random.default_rng(5))
    rows[40, broken] = [20.0, -20.0][: len(broken)]
    _, events = outcome_of(own, batch(rows))
    fired = next(event for event in events if event.transition == "firing")
    assert fired.time == 40.0
    by_name = {reason.feature: reason for reason in fired.reasons}
    names = {f"f{j}" for j in broken}
    assert {reason.feature for reason in fired.reasons[: len(broken)]} == names
    for name, reason in by_name.items():
        assert (reason.nats > 20.0) if name in names else (reason.nats < 6.0)
        if name not in names:
            assert isinstance(reason.actual, float)
            assert isinstance(reason.expected, float)
            # As far from there as the two regimes are apart, at most.
            assert abs(reason.actual - reason.expected) < 5.0
