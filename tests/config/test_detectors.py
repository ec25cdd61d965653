"""Tests for detector.config.detectors: what sections become in the words of the core."""

import math

import pytest

from detector.alerting.rules import AlertRules, IncidentRules
from detector.config.detectors import AlertingConfig
from detector.config.inputs import FeatureConfig


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, 21_600.0), ({"release_after": "1d"}, 86_400.0), ({"release_after": None}, math.inf)],
)
def test_alerts_end_as_the_new_normal_after_six_hours_where_nothing_is_said(
    given: dict[str, str | None], seconds: float
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


def test_what_is_left_out_is_what_readers_are_told() -> None:
    rules = AlertingConfig().rules()
    assert (rules.fire_for_s, rules.cooldown_s, rules.keep_alive_s) == (0.0, 1800.0, 300.0)
    assert (rules.severity, rules.critical_score, rules.critical_for_s) == ("warning", 2.0, 300.0)


def test_null_switches_off_what_time_decides() -> None:
    rules = AlertingConfig.model_validate(
        {"cooldown": None, "critical": None, "fire": {"for": "10m"}}
    ).rules()
    assert (rules.fire_for_s, rules.cooldown_s, rules.critical_score) == (600.0, 0.0, math.inf)


def test_a_backtest_without_a_configuration_decides_as_a_daemon_with_the_defaults() -> None:
    assert AlertingConfig().rules() == AlertRules()


@pytest.mark.parametrize(("given", "seconds"), [({}, math.inf), ({"stuck_after": "30m"}, 1800.0)])
def test_a_value_may_stay_where_nothing_is_said(given: dict[str, str], seconds: float) -> None:
    feature = FeatureConfig.model_validate({"name": "pressure", "field": "pressure", **given})
    assert feature.rule().stuck_after_s == seconds
