"""Tests for detector.cli.demo: options and exit codes. The demonstration itself: tests/demo/test_run.py."""

import signal

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from detector.cli.main import main
from detector.demo import run as demo_run
from detector.demo.children import ChildFailedError
from detector.demo.run import DemoOptions


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--servers", "7"), "7 is not in the range 1<=x<=6"),
        (("--seconds", "1"), "1.0 is not in the range x>=5"),
        (("--speed-up", "0"), "0.0 is not in the range x>=1"),
        (("--fast",), "No such option"),
    ],
)
def test_options_out_of_range_are_refused(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("code", [0, 1])
def test_options_reach_the_run_and_its_verdict_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    seen: list[DemoOptions] = []

    def run_demo(options: DemoOptions, console: Console) -> int:
        seen.append(options)
        return code

    monkeypatch.setattr(demo_run, "run_demo", run_demo)
    result = invoke("--servers", "2", "--seconds", "30", "--speed-up", "1000", "--keep")
    assert result.exit_code == code
    assert seen == [DemoOptions(servers=2, seconds=30.0, speed_up=1000.0, keep=True)]


def test_failed_child_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(options: DemoOptions, console: Console) -> int:
        raise ChildFailedError("detector train gmm failed (exit code 2):\n  no room on the disk")

    monkeypatch.setattr(demo_run, "run_demo", run_demo)
    result = invoke()
    assert result.exit_code == 1
    assert "no room on the disk" in result.output
    assert "Traceback" not in result.output


def test_sigterm_ends_it_like_ctrl_c_and_leaves_the_handlers_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_demo(options: DemoOptions, console: Console) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(demo_run, "run_demo", run_demo)
    result = invoke()
    assert (result.exit_code, result.output) == (130, "stopped\n")
    assert signal.getsignal(signal.SIGTERM) is before
