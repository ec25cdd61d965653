"""Tests for detector.config.detectors: what sections become in the words of the core."""

import math

import pytest

from detector.alerting.rules import IncidentRules
from detector.config.detectors import AlertingConfig


@pytest.mark.parametrize(("given", "seconds"), [({}, math.inf), ({"release_after": "6h"}, 21_600.0)])
def test_alerts_end_as_the_new_normal_only_where_that_is_asked_for(
    given: dict[str, str], seconds: float
) -> None:
    assert AlertingConfig.model_validate(given).rules().release_after_s == seconds


def test_one_suspicious_record_fires_where_nothing_is_said() -> None:
    rules = AlertingConfig().rules()
    assert (rules.fire_m, rules.fire_of) == (1, 1)


def test_incidents_can_be_tuned_and_turned_off() -> None:
    assert AlertingConfig().rules().incident == IncidentRules(5, 300.0)
    tuned = AlertingConfig.model_validate({"incident": {"entities": 20, "within": "10m"}})
    assert tuned.rules().incident == IncidentRules(20, 600.0)
    assert AlertingConfig.model_validate({"incident": None}).rules().incident is None
