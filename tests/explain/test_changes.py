"""Tests for detector.explain.changes."""

from detector.explain.changes import Change, windows
from detector.stream.maintenance import Maintenance, Selector, Window


def test_windows_say_until_when_even_if_no_calendar_has_that_year() -> None:
    known = (
        Window(Selector(), 1.7950e9, 1.7951e9, "deploy"),
        Window(Selector(), 1.7951e9, 1.7951e12),
        Window(Selector(detectors=frozenset({"other"})), 1.7951e9, 1.7952e9),
    )
    assert windows(Maintenance(known), "hosts", 1.794e9, 1.796e9) == [
        Change(1.7950e9, "deploy of all entities until 2026-11-19 14:53:20 UTC"),
        Change(1.7951e9, "maintenance of all entities for ever"),
    ]
