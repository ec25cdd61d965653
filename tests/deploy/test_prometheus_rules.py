"""Tests for deploy/prometheus: rules that Prometheus accepts, about metrics that exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.web.made_up import every_delivery_reported, everything_reported

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))


def alerts() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def exported_names() -> set[str]:
    pages = [generate_latest(r).decode() for r in (everything_reported(["a"]), every_delivery_reported())]
    return {
        sample.name
        for page in pages
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def promtool_says(promtool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60)


def test_anomalies_the_detector_itself_and_delivery_have_files_of_their_own() -> None:
    assert [path.name for path in RULES] == ["anomalies.yml", "detector.yml", "notify.yml"]
    assert {path.name.removesuffix(".test.yml") for path in RULE_TESTS} == {path.stem for path in RULES}


def test_prometheus_accepts_rules_and_configuration(promtool: str) -> None:
    done = promtool_says(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_reach_alertmanager_and_anomalies_are_told_once() -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text()
    config = yaml.safe_load(text)
    services = yaml.safe_load((PROMETHEUS.parent / "compose.yaml").read_text())["services"]
    (manager,) = config["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert {"alertmanager", "notify"} <= set(services)
    # `detector notify` tells of anomalies there.
    assert config["rule_files"] == ["rules/detector.yml", "rules/notify.yml"]
    assert all(f"rules/{path.name}" in text for path in RULES)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_rules_fire_when_they_should(promtool: str, path: Path) -> None:
    done = promtool_says(promtool, "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_every_alert_of_a_file_is_tested(path: Path) -> None:
    rules = yaml.safe_load((PROMETHEUS / "rules" / path.name.replace(".test.yml", ".yml")).read_text())
    tests = path.read_text()
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["alert"] in tests, rule["alert"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_people_need(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Detector([A-Z][a-z]+)+", rule["alert"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "{{ $labels.severity }}"}
    assert "{{" not in rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_reads_metrics_that_exist_and_knows_of_replicas(rule: dict[str, Any]) -> None:
    names = set(re.findall(r"\bdetector_[a-z_]+", rule["expr"]))
    assert names
    assert names <= exported_names()
    aggregated = ("without (instance, pod)", "sum by (job", "absent(")
    assert any(how in rule["expr"] for how in aggregated)


def test_a_rule_about_a_metric_that_is_gone_would_be_noticed() -> None:
    assert "detector_no_such_metric" not in exported_names()
    assert "detector_batch_duration_seconds_bucket" in exported_names()
