"""Tests for detector.config.detectors: what sections become in the words of the core."""

import math

import pytest

from detector.config.detectors import AlertingConfig


@pytest.mark.parametrize(("given", "seconds"), [({}, math.inf), ({"release_after": "6h"}, 21_600.0)])
def test_alerts_end_as_the_new_normal_only_where_that_is_asked_for(
    given: dict[str, str], seconds: float
) -> None:
    assert AlertingConfig.model_validate(given).rules().release_after_s == seconds


def test_one_suspicious_record_fires_where_nothing_is_said() -> None:
    rules = AlertingConfig().rules()
    assert (rules.fire_m, rules.fire_of) == (1, 1)
