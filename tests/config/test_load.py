"""Tests for detector.config: what is read, what beats what, and what every bad file is told."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import TypeAdapter

from detector.config import Config, ConfigError, load_config
from detector.config.detectors import DetectorConfig
from detector.config.findings import _model_in
from detector.config.inputs import Topic
from detector.config.section import Section
from detector.models.families import FAMILIES
from detector.models.predictors import PREDICTORS
from detector.stream.port import InvalidTopicError, check_topics

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))
BAD_FILES = sorted((Path(__file__).parent / "bad").glob("*.yaml"))

MINIMAL = """
inputs: [{name: telemetry, topics: telemetry}]
detectors: [{name: hosts, input: telemetry, features: [cpu, memory]}]
"""


@pytest.fixture(autouse=True)
def _no_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("DETECTOR__"):
            monkeypatch.delenv(name)


@pytest.fixture
def written(tmp_path: Path) -> "Written":
    return Written(tmp_path / "config.yaml")


class Written:
    """A configuration file of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str) -> Config:
        self.path.write_text(text)
        return load_config(self.path)

    def problems(self, text: str) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            self.load(text)
        return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize("written_as", ["on", "off", "auto", "'on'", '"off"'])
def test_typicality_is_on_off_or_auto_with_quotes_or_without(written: "Written", written_as: str) -> None:
    config = written.load(MINIMAL.replace("memory]}", f"memory], training: {{typicality: {written_as}}}}}"))
    assert config.detectors[0].training.typicality == written_as.strip("'\"")
    assert written.load(MINIMAL).detectors[0].training.typicality == "auto"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path: Path) -> None:
    assert load_config(path).detectors


def test_there_are_examples_and_bad_files() -> None:
    assert len(EXAMPLES) >= 3
    assert len(BAD_FILES) >= 40


@pytest.mark.parametrize("path", BAD_FILES, ids=lambda path: path.stem)
def test_a_bad_file_is_told_what_to_write(path: Path) -> None:
    lines = path.read_text().splitlines()
    expected = [line.removeprefix("# expect: ") for line in lines if line.startswith("# expect: ")]
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    found = [str(problem) for problem in raised.value.problems]
    assert expected
    assert len(found) == len(expected), found
    for message in expected:
        assert any(message in problem for problem in found), (message, found)
    assert str(raised.value).startswith(str(path))
    assert "hunter2" not in str(raised.value)


def sections(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        below = _model_in(field.annotation)
        if below is not None:
            yield from sections(below)


def takes_a_scalar(annotation: object) -> bool:
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    shaped = [part for part in parts if get_origin(part) is tuple or _model_in(part) is not None]
    return not shaped


def test_what_a_description_says_only_with_its_neighbours_has_an_example() -> None:
    checked = 0
    for section in set(sections(Config)):
        for name, field in section.model_fields.items():
            said = field.description or ""
            if said.startswith("...") or said.endswith("..."):
                assert field.examples, f"{section.__name__}.{name}"
                checked += 1
    assert checked > 10


def test_every_mapping_and_list_has_an_example_that_is_one() -> None:
    checked = 0
    for section in set(sections(Config)):
        for name, field in section.model_fields.items():
            if takes_a_scalar(field.annotation) or name == "field":
                continue
            assert field.examples, f"{section.__name__}.{name}"
            written = yaml.safe_load(str(field.examples[0]))
            kind: Any = Annotated[field.annotation, name, *field.metadata]
            TypeAdapter(kind).validate_python(written)
            checked += 1
    assert checked > 30


def test_everything_not_written_has_a_default(written: Written) -> None:
    config = written.load(MINIMAL)
    assert config.kafka.bootstrap_servers == ("localhost:9092",)
    assert config.kafka.processing_guarantee == "at_least_once"
    assert config.outputs.scores_topic is None
    assert config.web.listen_address == "127.0.0.1:9877"
    rules = config.detectors[0].alerting.rules()
    assert (rules.budget.false_alarms, rules.budget.per, rules.budget.every_s) == (1, "entity", 7 * 86400)


def test_an_empty_file_lacks_inputs_and_detectors(written: Written) -> None:
    assert [p.partition(":")[0] for p in written.problems("")] == ["inputs", "detectors"]


def test_values_cannot_change_after_loading(written: Written) -> None:
    config = written.load(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.kafka.group_id = "other"  # type: ignore[misc]


def test_every_family_and_predictor_of_the_core_can_be_chosen(written: Written) -> None:
    for family in FAMILIES:
        for predictor in PREDICTORS:
            text = MINIMAL.replace("name: hosts", f"name: hosts, family: {family}, predictor: {predictor}")
            assert written.load(text).detectors[0].family == family
    schema = DetectorConfig.model_json_schema()["properties"]
    assert set(schema["family"]["enum"]) == {"auto", *FAMILIES}
    assert set(schema["predictor"]["enum"]) == {"auto", *PREDICTORS}


def test_paths_of_fields(written: Written) -> None:
    config = written.load("""
inputs:
  - name: telegraf
    topics: metrics
    entity: [tags.host, tags.disk]
    time: timestamp
    labels: [tags.region]
    features_field: fields
    values_field: ''
detectors:
  - name: disks
    input: telegraf
    features: [used, {name: reads, field: io.reads}, {name: dotted, field: [a, b.c], unit: "1/s"}]
""")
    entry, features = config.inputs[0], config.detectors[0].features
    assert entry.entity_paths == (("tags", "host"), ("tags", "disk"))
    assert entry.time_path == ("timestamp",)
    assert entry.label_paths == (("tags.region", ("tags", "region")),)
    assert entry.features_path == ("fields",)
    assert entry.values_path is None
    assert [f.field for f in features] == [("used",), ("io", "reads"), ("a", "b.c")]
    assert config.detectors[0].feature_names == ("used", "reads", "dotted")


def test_key_and_timestamp_of_kafka(written: Written) -> None:
    text = MINIMAL.replace("topics: telemetry", "topics: telemetry, entity: '@key', time: '@timestamp'")
    entry = written.load(text).inputs[0]
    assert (entry.entity_paths, entry.time_path) == ("@key", "@timestamp")


def test_environment_beats_file_beats_default(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL + "kafka: {client: kafka-python, group_id: from-file}\n"
    monkeypatch.setenv("DETECTOR__KAFKA__GROUP_ID", "from-environment")
    monkeypatch.setenv("DETECTOR__KAFKA__BOOTSTRAP_SERVERS", "kafka-1:9092, kafka-2:9092")
    monkeypatch.setenv("DETECTOR__KAFKA__SESSION_TIMEOUT", "12s")
    monkeypatch.setenv("DETECTOR__WEB__ENTITY_SERIES", "7")
    config = written.load(text)
    assert config.kafka.group_id == "from-environment"
    assert config.kafka.bootstrap_servers == ("kafka-1:9092", "kafka-2:9092")
    assert config.kafka.session_timeout_s == 12
    assert config.kafka.client == "kafka-python"
    assert config.web.entity_series == 7


def test_bad_variables_are_named_too(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR__KAFKA__CLIENTS", "confluent")
    monkeypatch.setenv("DETECTOR__KAFFKA__CLIENT", "confluent")
    problems = written.problems(MINIMAL)
    assert "environment variable DETECTOR__KAFFKA__CLIENT names no section; write 'kafka'" in problems
    assert "kafka.clients: unknown key (value 'confluent'); write 'client'" in problems


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("kafka.security", "passwrd"),
        ("kafka.security", "key"),
        ("kafka", "sasl_pasword"),
        ("kafka", "api_tokn"),
        ("notify", "bearer"),
        ("web", "basic_auth"),
        ("outputs", "scret"),
    ],
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_a_secret_under_a_mistyped_key_is_not_shown(
    written: Written, monkeypatch: pytest.MonkeyPatch, section: str, key: str, from_environment: bool
) -> None:
    text = MINIMAL
    if from_environment:
        monkeypatch.setenv("__".join(["DETECTOR", *f"{section}.{key}".upper().split(".")]), "hunter2")
    else:
        raw = yaml.safe_load(MINIMAL)
        at = raw
        for part in section.split("."):
            at = at.setdefault(part, {})
        at[key] = "hunter2"
        text = yaml.safe_dump(raw)
    problems = written.problems(text)
    assert any(f"{section}.{key}: unknown key (value hidden)" in problem for problem in problems), problems
    assert not any("hunter2" in problem for problem in problems)


@pytest.mark.parametrize(
    "sections",
    [
        """kafka: {"sasl.jaas.config": 'x required username="u" password="hunter2";'}""",
        """kafka: {group_ids: 'x required password = hunter2'}""",
        """kafka: {security: "SASL_SSL:u:hunter2"}""",
        """kafka: {security: {protocol: "u:hunter2@k"}}""",
        """kafka: {bootstrap_servers: ["u:hunter2@k"]}""",
        """kafka: {bootstrap_servers: ["u:hunter2@k:9092"]}""",
        """kafka: {bootstrap_servers: ["SASL_SSL://u:hunter2@k:9092"]}""",
        """notify: {webhooks: ["https://hooks.example.org/services/hunter2"]}""",
        """notify: {webhooks: "https://hooks.example.org/services/hunter2"}""",
        """notify: "https://hooks.example.org/services/hunter2" """,
        """notify: {webhooks: [{name: a, url: "https://hooks.example.org/hunter2 "}]}""",
        """kafka: {security: {password: "a${hunter2"}}""",
    ],
)
def test_a_secret_in_a_wrong_place_is_not_shown(written: Written, sections: str) -> None:
    problems = written.problems(f"{MINIMAL}{sections}\n")
    assert not any("hunter2" in problem for problem in problems), problems


def test_a_range_of_training_may_have_a_zone_at_one_end_alone(written: Written) -> None:
    training = "memory], training: {{from: {}, until: {}}}}}"
    text = MINIMAL.replace("memory]}", training.format("2026-01-01T00:00", "2026-01-01T02:00:00+01:00"))
    assert written.load(text).detectors[0].training.until_time
    text = MINIMAL.replace("memory]}", training.format("2026-01-01T00:00", "2026-01-01T01:00:00+01:00"))
    assert "is not before until" in written.problems(text)[0]


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
@pytest.mark.parametrize(
    "place",
    [
        "min_features: {}",
        "alerting: {{budget: {{false_alarms: {}}}}}",
        "alerting: {{overrides: [{{entities: a, budget: {{false_alarms: {}}}}}]}}",
        "alerting: {{critical: {{score: {}}}}}",
        "alerting: {{resolve: {{below: {}}}}}",
    ],
)
def test_what_is_no_number_is_refused_everywhere(written: Written, place: str, value: str) -> None:
    problems = written.problems(MINIMAL.replace("memory]}", f"memory], {place.format(value)}}}"))
    assert "detectors[0]." in problems[0]


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        ("min_features: 2", "a number above 0 and of at most 1"),
        ("min_features: half", "a number above 0 and of at most 1"),
        ("training: {order: 25}", "a whole number from 1 to 24"),
        ("training: {n_states: 1.5}", "a whole number from 1 to 100"),
        ("training: {max_records: 10}", "a whole number of at least 1000"),
        ("training: {from: november}", "a time like 2026-11-20T15:00:00Z"),
        ("alerting: {overrides: [{entities: a, mute: perhaps}]}", "true or false"),
        ("input: 5", "text"),
    ],
)
def test_a_value_that_is_refused_is_told_which_ones_are_taken(
    written: Written, place: str, instead: str
) -> None:
    problem = written.problems(
        MINIMAL.replace("input: telemetry, ", "").replace("memory]", f"memory], {place}")
    )
    assert any(line.endswith(f"; write {instead}") for line in problem), problem


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (
            "{false_alarms: 1, every: 1m}",
            "is 1440 false alarms a day per entity; plausible are one in 100",
        ),
        (
            "{false_alarms: 10001, per: fleet, every: 1d}",
            "is 10001 false alarms a day per fleet; plausible are one in 100 years to 10000 a day",
        ),
        ("{false_alarms: 1e-9}", "false alarms a day per entity; plausible"),
        (
            "{false_alarms: 1000000, per: fleet, every: 1d}",
            "per fleet; plausible are one in 100 years to 10000 a",
        ),
    ],
)
def test_a_budget_that_nobody_means_is_refused(written: Written, budget: str, expected: str) -> None:
    text = MINIMAL.replace("memory]}", f"memory], alerting: {{budget: {budget}}}}}")
    assert expected in written.problems(text)[0]


@pytest.mark.parametrize(
    "budget",
    ["{false_alarms: 100, every: 1d}", "{every: 3650d}", "{false_alarms: 500, per: fleet, every: 1d}"],
)
def test_a_budget_that_somebody_may_mean_is_taken(written: Written, budget: str) -> None:
    assert written.load(MINIMAL.replace("memory]}", f"memory], alerting: {{budget: {budget}}}}}"))


def test_a_mapping_in_a_variable_has_to_be_json(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR__KAFKA", "nonsense")
    assert any("as JSON" in problem for problem in written.problems(MINIMAL))


def test_variables_within_values(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUP", "007")
    monkeypatch.setenv("SERIES", "12")
    monkeypatch.setenv("EMPTY", "")
    config = written.load(
        MINIMAL
        + """
kafka: {group_id: "${GROUP}", instance_id: "a-${env:GROUP}-${EMPTY:-none}-$$-${UNSET:-x y}"}
web: {entity_series: "${SERIES}"}
"""
    )
    assert config.kafka.group_id == "007"
    assert config.kafka.instance_id == "a-007-none-$-x y"
    assert config.web.entity_series == 12


def test_a_variable_adds_no_key(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INJECTED", "x\n  client: confluent\n")
    config = written.load(MINIMAL + "kafka:\n  group_id: ${INJECTED}\n")
    assert config.kafka.group_id == "x\n  client: confluent\n"
    assert config.kafka.client == "kafka-python"


def test_password_comes_from_a_file_and_shows_nowhere(written: Written, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    text = MINIMAL + (
        "kafka: {security: {protocol: SASL_SSL, sasl_mechanism: PLAIN, username: me, "
        f"password_file: {secret}}}}}\n"
    )
    config = written.load(text)
    assert config.kafka.security.password is not None
    assert config.kafka.security.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config)
    assert "hunter2" not in config.model_dump_json()


def test_a_password_that_everybody_may_read_is_refused(written: Written, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o644)
    problems = written.problems(MINIMAL + f"kafka: {{security: {{password_file: {secret}}}}}\n")
    assert len(problems) == 1
    assert "everybody may read" in problems[0]
    assert "chmod o-rwx" in problems[0]


def test_an_empty_password_file_is_refused(written: Written, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600)
    problems = written.problems(MINIMAL + f"kafka: {{security: {{password_file: {secret}}}}}\n")
    assert "is empty" in problems[0]


def test_client_that_is_not_installed(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    problems = written.problems(MINIMAL + "kafka: {client: confluent}\n")
    assert len(problems) == 1
    assert "pip install '.[confluent]' in the source folder" in problems[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory; check the path"):
        load_config(tmp_path / "absent.yaml")


def test_a_file_too_large_is_not_parsed(written: Written) -> None:
    assert "larger than" in written.problems("#" * (1 << 21))[0]


def test_a_file_that_is_not_text(written: Written) -> None:
    written.path.write_bytes(b"kafka: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 7"):
        load_config(written.path)


def test_nesting_without_end(written: Written) -> None:
    assert "nested more than 20 levels deep" in written.problems("a: " + "[" * 50_000)[0]


def test_schema_names_keys_as_they_are_written() -> None:
    schema = Config.model_json_schema(by_alias=True)
    assert set(schema["required"]) == {"inputs", "detectors"}
    assert "every" in schema["$defs"]["BudgetConfig"]["properties"]
    assert "every_s" not in schema["$defs"]["BudgetConfig"]["properties"]


def test_lists_of_values_need_one_order_of_features(written: Written) -> None:
    other = "{name: b, input: telemetry, features: [memory, cpu]}"
    same = "{name: b, input: telemetry, features: [{name: c, field: cpu}, memory]}"
    two = MINIMAL.rstrip().removesuffix("]")
    assert written.load(MINIMAL).values_allowed("telemetry")
    assert written.load(f"{two}, {same}]").values_allowed("telemetry")
    assert not written.load(f"{two}, {other}]").values_allowed("telemetry")


def test_names_are_looked_up(written: Written) -> None:
    config = written.load(MINIMAL)
    assert config.input("telemetry") is config.inputs[0]
    assert config.detector("hosts") is config.detectors[0]
    assert config.detectors_of("telemetry") == config.detectors
    with pytest.raises(KeyError, match="no detector is called 'x'; the configuration has hosts"):
        config.detector("x")


def test_reading_a_configuration_takes_no_scipy() -> None:
    """Every command does it first, and scipy alone would cost it seconds."""
    code = "import detector.config.load, sys; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("name", ["A_b-9.c", "x" * 249, "x" * 250, "", ".", "..", "a b", "a/b", "ü", "a\n"])
def test_topics_are_named_by_one_rule_here_and_at_the_clients(name: str) -> None:
    def refuses(check: Callable[[], object]) -> bool:
        try:
            check()
        except (ValueError, InvalidTopicError):
            return True
        return False

    topic: TypeAdapter[str] = TypeAdapter(Topic)
    assert refuses(lambda: topic.validate_python(name)) == refuses(lambda: check_topics([name]))
