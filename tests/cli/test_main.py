"""Tests for detector.cli.main: the table of commands, and what calling it imports."""

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from detector import __version__
from detector.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def loaded_after(*arguments: str) -> set[str]:
    """Return the top-level modules that a fresh process has imported after a command."""
    code = (
        "import sys\nfrom detector.cli.main import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_version_is_answered_without_loading_anything_heavy() -> None:
    assert not {"numpy", "pydantic", "yaml", "kafka", "torch"} & loaded_after("--version")


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.output) == (0, f"detector {__version__}\n")


def test_help_lists_every_command_without_importing_one() -> None:
    assert "numpy" not in loaded_after("--help")
    output = CliRunner().invoke(main, ["--help"]).output
    for name, command in COMMANDS.items():
        assert name in output
        assert command.help in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name


def test_checking_a_configuration_loads_no_fitting_library() -> None:
    modules = loaded_after("check", "configs/minimal.yaml")
    assert "pydantic" in modules
    assert not {"torch", "sklearn", "hmmlearn", "pyarrow", "kafka", "confluent_kafka"} & modules


def test_an_unknown_command_exits_2() -> None:
    result = CliRunner().invoke(main, ["rum"])
    assert result.exit_code == 2
    assert "rum" in result.output


def test_module_can_be_run() -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "detector.cli.main", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stdout == f"detector {__version__}\n", f"{done.stderr} after {time.monotonic() - start} s"
