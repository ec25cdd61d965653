"""Tests for detector.stream.watchdog."""

import pytest

from detector.stream.watchdog import STALLED_EXIT_CODE, Watchdog
from tests.stream.fakes import FakeClock


def watched(clock: FakeClock) -> tuple[Watchdog, list[int]]:
    ended: list[int] = []
    return Watchdog(30.0, 8.0, clock, ended.append), ended


def test_silent_loop_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    dog, ended = watched(clock)
    clock.now_s = 29.9
    dog.look()
    assert ended == []
    clock.now_s = 30.1
    dog.look()
    assert ended == [STALLED_EXIT_CODE]
    assert "no progress for 30 s" in caplog.text


def test_loop_that_shows_life_is_left_alone() -> None:
    clock = FakeClock()
    dog, ended = watched(clock)
    for second in range(0, 200, 20):
        clock.now_s = float(second)
        dog.feed()
        dog.look()
    assert ended == []


def test_stop_that_the_broker_holds_up_ends_in_time_with_code_0(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    dog, ended = watched(clock)
    clock.now_s = 20.0
    dog.stop_asked()
    clock.now_s = 25.0
    dog.stop_asked()
    dog.look()
    assert ended == []
    clock.now_s = 28.1
    dog.feed()
    dog.look()
    assert ended == [0]
    assert "come again at the next start" in caplog.text


def test_thread_ends_with_stop() -> None:
    dog, ended = watched(FakeClock())
    dog.start()
    dog.stop()
    dog._thread.join(5.0)
    assert not dog._thread.is_alive()
    assert ended == []
