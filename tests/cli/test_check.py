"""Tests for detector.cli.check."""

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from detector.cli.main import main
from detector.config.section import duration_text

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("check opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_good_file_is_summed_up(path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert f"{path}: ok\n" in result.output
    assert "budget 1 false alarm per" in result.output


@pytest.mark.usefixtures("no_network")
def test_a_bad_file_exits_2_with_every_problem_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("kafka: {clinet: confluent}\ninputs: []\n")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"{path}: 3 problems\n")
    assert "kafka.clinet: unknown key (value 'confluent'); write 'client'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("no_network")
def test_windows_of_maintenance_are_told_as_they_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("""
inputs: [{name: t, topics: t}]
detectors: [{name: d, input: t, features: [cpu]}]
maintenance:
  - {entities: "web-*", every: [sat, sun], from: "22:00", until: "04:00", time_zone: Europe/Berlin}
  - {detectors: [d], from: 2026-07-01T02:00, until: 2026-07-01T04:30, time_zone: Europe/Berlin, kind: deploy}
control: {topic: announcements}
""")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert (
        "window    maintenance of web-* every sat, sun from 22:00 until 04:00 Europe/Berlin" in result.output
    )
    assert "deploy of * under d from 2026-07-01T00:00+00:00 until 2026-07-01T02:30+00:00\n" in result.output
    assert "windows announced on announcements\n" in result.output


@pytest.mark.usefixtures("no_network")
def test_field_paths_that_contradict_one_another_exit_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "inputs: [{name: t, topics: t, entity: host, time: host.time}]\n"
        "detectors: [{name: d, input: t, features: [cpu]}]\n"
    )
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert "input 't'" in result.stderr
    assert "'host'" in result.stderr


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("family", "typicality", "sides"),
    [("gmm", "auto", "one"), ("gmm", "on", "two"), ("rbm", "auto", "two"), ("rbm", "off", "one")],
)
def test_says_whether_records_can_be_too_likely(
    tmp_path: Path, family: str, typicality: str, sides: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "inputs: [{name: t, topics: t, entity: host}]\n"
        f"detectors: [{{name: d, input: t, features: [cpu], family: {family}, "
        f"training: {{typicality: {typicality}}}}}]\n"
    )
    assert f"p-values {sides}-sided" in CliRunner().invoke(main, ["check", str(path)]).output


def test_an_absent_file_exits_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", str(tmp_path / "absent.yaml")])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_without_a_file_it_asks_for_one() -> None:
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 2
    assert "name a configuration file" in result.stderr


def test_schema_is_json_schema() -> None:
    result = CliRunner().invoke(main, ["check", "--schema"])
    assert result.exit_code == 0
    schema = json.loads(result.output)
    assert schema["additionalProperties"] is False
    assert "bootstrap_servers" in schema["$defs"]["KafkaConfig"]["properties"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(604800, "7d"), (3600, "1h"), (5400, "90m"), (0.5, "0.5s"), (61, "61s")]
)
def test_durations_are_written_in_their_largest_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.usefixtures("no_network")
def test_a_detector_that_trains_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("""
inputs: [{name: t, topics: t}]
detectors: [{name: d, input: t, features: [cpu], bootstrap: {records: 300}}]
""")
    result = CliRunner().invoke(main, ["check", str(path)])
    assert "trained by the daemon once an entity has 300 records\n" in result.stdout
    monkeypatch.setattr("detector.config.root.importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert "bootstrap: trains beside the daemon, and scikit-learn is not installed" in result.stderr


def test_a_store_that_this_user_cannot_write_is_warned_of_where_the_daemon_trains(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    (tmp_path / "file").touch()
    for store, warned in ((tmp_path / "file" / "store", True), (tmp_path / "new" / "store", False)):
        path.write_text(f"""
inputs: [{{name: t, topics: t}}]
detectors: [{{name: d, input: t, features: [cpu], store: {store}, bootstrap: {{}}}}]
""")
        result = CliRunner().invoke(main, ["check", str(path)])
        assert result.exit_code == 0
        assert (f"detectors[0].store: this user cannot write '{store}'" in result.stderr) == warned
