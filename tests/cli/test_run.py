"""Tests for detector.cli.run: what ends it before anything is connected."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from detector.cli.main import main


def test_a_bad_configuration_exits_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("inputs: []\n")
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 2
    assert "problems" in result.stderr


@pytest.mark.filterwarnings("default")
def test_without_a_trained_version_it_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "inputs: [{name: t, topics: t}]\n"
        f"detectors: [{{name: hosts, input: t, features: [cpu], store: {tmp_path}}}]\n"
        "web: {listen_address: '127.0.0.1:0'}\n"
    )
    result = CliRunner().invoke(main, ["run", str(path)])
    assert result.exit_code == 2
    assert "detector 'hosts' has no champion" in result.stderr
    assert "detector train" in result.stderr
