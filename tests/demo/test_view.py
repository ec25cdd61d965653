"""Tests for detector.demo.view."""

import io

from rich.console import Console

from detector.demo.view import EventLine, ServerLine, Snapshot, event_line, plain_line, render

NOW = Snapshot(
    elapsed_s=12.0,
    event_time=1_700_000_000.0,
    speed_up=60_000.0,
    sent=1000,
    total=2000,
    answered=990,
    records_per_s=1234.5,
    lag=7,
    detectors=("gmm", "hmm"),
    servers=(
        ServerLine("omi-1", False, (0.2, None), (False, False)),
        ServerLine("omi-3", True, (1.4, 0.9), (True, False)),
    ),
    events=(EventLine(1_700_000_000.0, "omi-3", "gmm", True, True, "normally once in 23 days"),),
)


def drawn(snapshot: Snapshot) -> str:
    written = io.StringIO()
    Console(width=140, file=written).print(render(snapshot))
    return written.getvalue()


def test_screen_shows_rate_lag_labels_scores_and_alerts_the_firing_server_first() -> None:
    text = drawn(NOW)
    for part in ("1,234 records/s", "lag 7", "scored 990 of 1,000 sent", "2023-11-14 22:13"):
        assert part in text
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "omi-3 " in line)
    second = next(i for i, line in enumerate(lines) if "omi-1 " in line)
    assert first < second
    assert "INCIDENT" in lines[first]
    assert "1.40 FIRING" in lines[first]
    assert lines[first].count("FIRING") == 1
    assert "warming up" in lines[second]
    assert any(" incident " in line and "once in 23 days" in line for line in lines)


def test_screen_before_the_first_alert_says_so() -> None:
    quiet = Snapshot(0.0, 1.7e9, 1.0, 0, 0, 0, 0.0, 0, ("gmm",), (), ())
    assert "no alert yet" in drawn(quiet)


def test_one_line_says_who_fires_and_what_the_labels_say() -> None:
    line = plain_line(NOW)
    assert "firing: omi-3" in line
    assert "labelled incident: omi-3" in line
    assert "lag 7  scored 990 of 1000 sent" in line
    assert "\n" not in line


def test_alert_outside_every_label_is_told_apart() -> None:
    false_alarm = EventLine(0.0, "omi-3", "hmm", True, False, "normally once in 23 days")
    assert "no label" in event_line(false_alarm)
    assert "resolved" in event_line(EventLine(0.0, "omi-3", "hmm", False, True, "after 25 min"))
