"""Tests for detector.signals."""

import signal

import pytest

from detector.signals import stopped_by_signals


def test_a_hangup_ends_nothing_and_says_how_a_configuration_is_applied(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    asked: list[str] = []
    with stopped_by_signals(lambda: asked.append("stop")):
        signal.raise_signal(signal.SIGHUP)
        assert asked == []
        assert "SIGHUP changes nothing: the configuration is read at the start" in caplog.text
        signal.raise_signal(signal.SIGTERM)
        assert asked == ["stop"]
    assert [signal.getsignal(number) for number in numbers] == before
