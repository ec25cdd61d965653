"""Tests for detector.config.schema: what an editor is told of a file is what the loader says of it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from detector.config import ConfigError, load_config
from detector.config.schema import config_schema
from tests.config.test_load import BAD_FILES, EXAMPLES

SCHEMA = config_schema()
BASE = """
inputs: [{{name: t, topics: t}}]
detectors: [{{name: d, input: t, features: [cpu, {{name: rps}}], {detector}}}]
{sections}
"""
SHAPES = ("shape_of", "unknown_key", "missing", "family", "kind.yaml", "predictor", "type", "direction")


def problems(text: str) -> list[str]:
    # An editor knows no time without quotes: that is not JSON.
    data = json.loads(json.dumps(yaml.safe_load(text)))
    validator: Any = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(data)]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_default_is_what_a_file_may_say() -> None:
    checked = 0
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for name, key in part.get("properties", {}).items():
            # None is said by leaving the key out.
            if key.get("default") is not None:
                validator: Any = jsonschema.Draft202012Validator(key | {"$defs": SCHEMA["$defs"]})
                assert validator.is_valid(key["default"]), (name, key["default"])
                checked += 1
    assert checked > 60


def test_durations_have_their_defaults_as_people_write_them() -> None:
    keys = SCHEMA["$defs"]["AlertingConfig"]["properties"]
    assert [keys[name]["default"] for name in ("cooldown", "release_after", "keep_alive")] == [
        "30m",
        "6h",
        "5m",
    ]
    assert SCHEMA["$defs"]["BudgetConfig"]["properties"]["every"]["default"] == "7d"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    ("detector", "sections"),
    [
        ("", "kafka: {bootstrap_servers: 'a:1,b:2', client: '${CLIENT:-confluent}'}"),
        ("", "kafka: {session_timeout: '${S:-9s}'}"),
        ("", "web: {entity_series: '${SERIES:-12}', listen_address: '${LISTEN:-127.0.0.1:9877}'}"),
        ("", "web: {entity_series: '12'}"),
        ("", "notify: {alertmanagers: [{urls: 'http://am:9093'}]}"),
        ("", "outputs: {alerts_topic: '${TOPIC:-alerts}'}"),
        ("", "maintenance: [{every: day, from: '02:00', until: '04:00', entities: 'web-*'}]"),
        ("min_features: 0.5, training: {typicality: on, learn: off, files: normal.csv}", ""),
        ("alerting: {critical: null, incident: null, fire: {m: 2, of: 3, for: 5m}}", ""),
        ("alerting: {overrides: [{entities: 'db-*', mute: '${MUTE:-true}'}]}", ""),
        ("bootstrap: {}", ""),
    ],
)
def test_short_forms_and_variables_are_taken(tmp_path: Path, detector: str, sections: str) -> None:
    text = BASE.format(detector=detector, sections=sections)
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml")
    assert problems(text) == []


@pytest.mark.parametrize(
    ("detector", "sections"),
    [
        ("family: lstm", ""),
        ("min_features: 2", ""),
        ("min_features: half", ""),
        ("features: [{field: cpu}]", ""),
        ("features: [1]", ""),
        ("", "kafka: {session_timeout: 10}"),
        ("", "kafka: {session_timeout: 10 seconds}"),
        ("", "outputs: {alerts_topic: 'a b'}"),
        ("", "kafak: {}"),
    ],
)
def test_what_is_wrong_by_itself_is_found(tmp_path: Path, detector: str, sections: str) -> None:
    text = BASE.format(detector=detector, sections=sections)
    if "features:" in detector:
        text = text.replace("features: [cpu, {name: rps}], ", "")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "config.yaml")
    assert problems(text)


@pytest.mark.parametrize(
    "path", [path for path in BAD_FILES if path.name.startswith(SHAPES)], ids=lambda path: path.stem
)
def test_bad_shapes_names_and_choices_are_found(path: Path) -> None:
    assert problems(path.read_text())
