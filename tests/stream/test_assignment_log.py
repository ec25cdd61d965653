"""Tests for detector.stream.assignment_log."""

from detector.batch import Source
from detector.stream.assignment_log import AssignmentLog

A, B, C = Source("t", 0), Source("t", 1), Source("t", 2)


def test_a_change_is_reported_once() -> None:
    log = AssignmentLog()
    log.replace([A, B])
    assert (log.take_revoked(), log.take_assigned()) == ([], [A, B])
    assert (log.take_revoked(), log.take_assigned()) == ([], [])


def test_what_stays_over_a_rebalance_is_no_change() -> None:
    log = AssignmentLog()
    log.replace([A, B])
    log.take_assigned()
    log.replace([B, C])
    assert (log.take_revoked(), log.take_assigned()) == ([A], [C])
    assert log.held() == {B, C}


def test_what_somebody_else_may_have_read_in_between_is_lost_and_gained() -> None:
    log = AssignmentLog()
    log.replace([A, B])
    log.take_assigned()
    log.replace([A])
    log.replace([A, B])
    assert (log.take_revoked(), log.take_assigned()) == ([B], [B])


def test_what_came_and_went_unseen_is_not_mentioned() -> None:
    log = AssignmentLog()
    log.replace([A])
    log.replace([])
    assert (log.take_revoked(), log.take_assigned()) == ([], [])


def test_lost_membership_takes_everything() -> None:
    log = AssignmentLog()
    log.replace([A, B])
    log.take_assigned()
    log.replace(())
    assert (log.take_revoked(), log.held()) == ([A, B], frozenset())
