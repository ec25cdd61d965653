"""Tests for detector.bootstrap.background."""

import threading

import pytest

from detector.bootstrap.background import Background


def test_works_are_done_one_after_another_in_a_thread_of_their_own() -> None:
    background, may_end = Background(), threading.Event()
    background.start()
    order: list[int] = []

    def first() -> threading.Thread:
        may_end.wait(10.0)
        order.append(1)
        return threading.current_thread()

    slow, quick = background.do(first), background.do(lambda: order.append(2))
    assert not slow.done()
    assert not quick.done()
    may_end.set()
    quick.result(10.0)
    assert order == [1, 2]
    assert slow.result() is not threading.current_thread()
    background.stop()
    background._thread.join(10.0)
    assert not background._thread.is_alive()


def test_what_a_work_raises_is_raised_where_its_result_is_taken_and_ends_nothing() -> None:
    background = Background()
    background.start()
    refused, done = background.do(lambda: 1 // 0), background.do(lambda: 7)
    assert done.result(10.0) == 7
    with pytest.raises(ZeroDivisionError):
        refused.result()
    background.stop()


def test_stopping_waits_for_nothing() -> None:
    background, may_end = Background(), threading.Event()
    background.start()
    background.do(lambda: may_end.wait(10.0))
    background.stop()
    assert background._thread.is_alive()
    assert background._thread.daemon
    may_end.set()
