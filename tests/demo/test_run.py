"""The demonstration itself, shortened: two servers, as a user would start it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Half of the time is a slow machine's.
pytestmark = pytest.mark.timeout(330)

ROOT = Path(__file__).resolve().parents[2]
DETECTORS = ("gmm", "hmm")
RECORDS = 2 * 4320


@pytest.fixture(scope="module")
def summary() -> str:
    demo = subprocess.run(
        [sys.executable, "-m", "detector.cli.main", "demo", "--servers", "2", "--seconds", "50"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    return demo.stdout


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, f"{pattern!r} is not in:\n{text}"
    return int(found[1])


def test_every_record_sent_has_a_status_from_both_detectors(summary: str) -> None:
    sent = number(r"^(\d+) records in [\d.]+ s", summary)
    unsent = RECORDS - sent
    assert unsent == 0 or f"{unsent} of {RECORDS} records were not sent in the time given" in summary
    for name in DETECTORS:
        line = next(line for line in summary.splitlines() if line.startswith(f"{name}: {sent} records sent"))
        assert line.endswith(": all of them")
        assert sum(int(count) for count in re.findall(r"(\d+) (?:scored|warming_up)", line)) == sent


def test_incidents_listed_add_up_to_the_detectors_totals(summary: str) -> None:
    lines = [line for line in summary.splitlines() if re.match(r" *omi-\d+ +\d{4}-", line)]
    verdicts = [re.findall(r"\b(?:found|missed)\b", line) for line in lines]
    assert 1 <= len(lines) <= 13
    assert all(len(verdict) == len(DETECTORS) for verdict in verdicts)
    for i, name in enumerate(DETECTORS):
        found = sum(verdict[i] == "found" for verdict in verdicts)
        assert found >= 1
        assert number(rf"^ *{name} +(\d+) of {len(lines)} ", summary) == found


def test_false_alarms_stay_within_twice_the_budget_and_one_alert_is_explained(summary: str) -> None:
    for name in DETECTORS:
        pattern = rf"^ *{name} +\d+ of \d+ +\d+ +\d+ +([\d.]+) +([\d.]+) +[\d.]+% +[\d.e-]+ *$"
        row = re.search(pattern, summary, re.MULTILINE)
        assert row is not None, summary
        promised, observed = map(float, row.groups())
        assert promised == 1.0
        assert observed <= 2 * promised
    assert "One alert explained: omi-" in summary
    assert re.search(r"normally once in [\d.,]+ \w+ on this entity: p = ", summary)
    assert re.search(r"^  f\d\d  [\d.]+, expected -?[\d.]+ ± [\d.]+$", summary, re.MULTILINE)


def test_lines_on_the_way_tell_rate_lag_labels_and_what_the_broker_is_for(summary: str) -> None:
    assert "Embedded broker: for demonstration only." in summary
    progress = [line for line in summary.splitlines() if "records/s  lag" in line]
    assert len(progress) >= 2
    assert all("firing:" in line and "labelled incident:" in line for line in progress)


def test_without_time_to_send_anything_it_says_so_and_fails() -> None:
    started_s = time.monotonic()
    demo = subprocess.run(
        [sys.executable, "-m", "detector.cli.main", "demo", "--servers", "1", "--seconds", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert demo.returncode == 1, demo.stdout
    assert "nothing was sent: training was not done when the time given was up" in demo.stderr
    assert "give more --seconds" in demo.stderr
    # What is bounded is the work, not how long a busy machine takes to start a process.
    assert time.monotonic() - started_s < 60.0
