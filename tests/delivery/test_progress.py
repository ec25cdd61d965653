"""Tests for detector.delivery.progress."""

from detector.batch import Source
from detector.delivery.progress import Progress

A, B = Source("alerts", 0), Source("alerts", 1)


def test_an_offset_is_committed_only_once_nobody_lacks_anything_before_it() -> None:
    progress = Progress()
    for offset in (4, 5, 7):
        progress.begin(A, offset, ["x", "y"])
    progress.done(A, 5, "x")
    progress.done(A, 5, "y")
    progress.done(A, 4, "x")
    assert progress.next_offsets() == {}
    progress.done(A, 4, "y")
    # 6 was a transaction's marker.
    assert progress.next_offsets() == {A: 6}
    assert progress.next_offsets() == {}
    progress.done(A, 7, "x")
    progress.done(A, 7, "y")
    assert progress.next_offsets() == {A: 8}


def test_partitions_do_not_wait_for_one_another() -> None:
    progress = Progress()
    progress.begin(A, 0, ["x"])
    progress.begin(B, 9, [])
    assert progress.next_offsets() == {B: 10}


def test_where_a_partition_is_held_up() -> None:
    progress = Progress()
    for offset, lacking in ((3, []), (4, ["x"]), (5, []), (6, ["y"])):
        progress.begin(A, offset, lacking)
    progress.begin(B, 9, [])
    assert progress.held_up() == {A: 4}
    progress.done(A, 4, "x")
    assert progress.held_up() == {A: 6}
    progress.done(A, 6, "y")
    assert progress.held_up() == {}


def test_what_went_is_not_committed() -> None:
    progress = Progress()
    progress.begin(A, 0, [])
    progress.forget([A])
    progress.done(A, 0, "x")
    assert progress.next_offsets() == {}
    progress.begin(A, 0, ["x"])
    progress.forget_everything()
    progress.done(A, 0, "x")
    assert progress.next_offsets() == {}


def test_events_that_are_read_again_wait_again() -> None:
    progress = Progress()
    progress.begin(A, 0, ["x"])
    progress.begin(A, 1, [])
    progress.begin(A, 0, ["x"])
    progress.begin(A, 1, [])
    assert progress.next_offsets() == {}
    progress.done(A, 0, "x")
    assert progress.next_offsets() == {A: 2}
