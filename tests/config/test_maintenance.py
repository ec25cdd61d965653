"""Tests for detector.config.maintenance: what is written becomes which windows."""

from datetime import datetime
from typing import Any

import pytest
import yaml

from detector.config.maintenance import DAYS, MaintenanceConfig


def read(text: str) -> MaintenanceConfig:
    entry: dict[str, Any] = yaml.safe_load(text)
    return MaintenanceConfig.model_validate(entry)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("{from: 2026-12-01T02:00, until: 2026-12-01T04:00}", "2026-12-01T02:00Z", "2026-12-01T04:00Z"),
        # With seconds YAML makes times of them itself, and of days as well.
        ("{from: 2026-12-01T02:00:00, until: 2026-12-02}", "2026-12-01T02:00Z", "2026-12-02T00:00Z"),
        (
            "{from: 2026-12-01T02:00Z, until: 2026-12-01T04:00+01:00}",
            "2026-12-01T02:00Z",
            "2026-12-01T03:00Z",
        ),
        (
            "{from: 2026-12-01T02:00, until: 2026-12-01T04:00, time_zone: Europe/Berlin}",
            "2026-12-01T01:00Z",
            "2026-12-01T03:00Z",
        ),
        # The clock shows 02:30 twice on that day.
        (
            "{from: 2026-10-25T02:30, until: 2026-10-25T02:45, time_zone: Europe/Berlin}",
            "2026-10-25T00:30Z",
            "2026-10-25T01:45Z",
        ),
    ],
)
def test_a_window_that_occurs_once(text: str, begins: str, ends: str) -> None:
    assert read(text).instants == (at(begins), at(ends))


def test_a_window_of_every_week() -> None:
    window = read(
        "{every: [sat, sun], from: '22:15', until: '04:00', time_zone: Europe/Berlin, kind: deploy}"
    )
    assert window.every == ("sat", "sun")
    assert window.minutes == (22 * 60 + 15, 240)
    assert str(window.zone) == "Europe/Berlin"
    assert window.kind == "deploy"
    assert (window.entities, window.detectors) == (("*",), ())


def test_every_day_and_one_day() -> None:
    assert read("{every: day, from: '0:00', until: '24:00'}").every == DAYS
    assert read("{every: day, from: '00:00', until: '24:00'}").minutes == (0, 1440)
    assert read("{every: fri, from: '00:00', until: '24:00'}").every == ("fri",)
