"""Tests for benchmarks.volume, where TSB-AD is installed."""

import importlib.util

import numpy as np
import pytest

from benchmarks.quality import main
from benchmarks.volume import PACKAGE, volume_under_surface

INSTALLED = importlib.util.find_spec(PACKAGE) is not None


@pytest.mark.skipif(not INSTALLED, reason="TSB-AD is not installed: pip install --no-deps TSB-AD==1.5")
def test_a_ranking_that_finds_events_beats_one_that_does_not() -> None:
    labels = np.zeros(2000, dtype=bool)
    labels[900:1000] = True
    good = volume_under_surface(labels + np.linspace(0.0, 0.1, 2000), labels)
    bad = volume_under_surface(np.linspace(0.1, 0.0, 2000) - labels, labels)
    assert good > 0.8
    assert bad < 0.2


@pytest.mark.skipif(INSTALLED, reason="TSB-AD is installed")
def test_without_the_package_it_says_what_to_install() -> None:
    with pytest.raises(SystemExit, match=r"--vus needs TSB_AD: pip install --no-deps TSB-AD==1\.5"):
        main(["--vus"])
