"""Tests for detector.demo.children, with real processes."""

import os
from pathlib import Path

import pytest

from detector.demo.children import Child, ChildFailedError, child


def wait_for(process: Child) -> None:
    process._process.wait(20)


def waiting_arguments(folder: Path) -> list[str]:
    """Return a command that never ends by itself: it reads a configuration that nobody writes."""
    os.mkfifo(folder / "config.yaml")
    return ["check", str(folder / "config.yaml")]


def test_command_that_works_ends_well_with_its_output_in_a_file(tmp_path: Path) -> None:
    with child("version", ["--version"], tmp_path) as process:
        wait_for(process)
        assert process.ended_well()
    assert process.log.read_text().startswith("detector ")


def test_command_that_fails_says_so_with_its_last_words(tmp_path: Path) -> None:
    with child("train gmm", ["train", str(tmp_path / "absent.yaml"), "gmm"], tmp_path) as process:
        wait_for(process)
        with pytest.raises(ChildFailedError, match=r"detector train gmm failed \(exit code 2\)") as caught:
            process.ended_well()
    assert "absent.yaml" in str(caught.value)


def test_command_that_ends_unasked_is_noticed_even_if_it_ended_well(tmp_path: Path) -> None:
    with child("run", ["--version"], tmp_path) as process:
        wait_for(process)
        with pytest.raises(ChildFailedError, match="ended although nobody asked"):
            process.check_running()


def test_process_is_ended_whatever_happens_to_us(tmp_path: Path) -> None:
    process = None
    try:
        with child("run", waiting_arguments(tmp_path), tmp_path) as process:
            process.check_running()
            assert not process.ended_well()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert process is not None
    assert not process.running()
