"""Tests for detector.explain.changes."""

import os
from pathlib import Path

from detector.bundles.store import BundleStore
from detector.explain.changes import Change, version_changes, windows
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


def test_every_promotion_in_the_time_is_told(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    for version in "abc":
        (tmp_path / "hosts" / version).mkdir(parents=True)
        (tmp_path / "hosts" / version / "manifest.json").write_text("{}")
    store.promote("hosts", "a", "train", 1.0e9)
    store.promote("hosts", "b", "train", 1.7e9, ["the mean of cpu is 9"])
    store.promote("hosts", "a", "models rollback", 1.8e9)
    told = [
        Change(1.7e9, "version b of hosts was promoted in place of a (train), although the mean of cpu is 9"),
        Change(1.8e9, "version a of hosts was promoted in place of b (models rollback)"),
    ]
    assert version_changes(store, "hosts", 1.6e9, 1.9e9) == told
    # An alias that was moved by other means tells no more than when.
    store.set_alias("hosts", "c")
    os.utime(tmp_path / "hosts" / "champion.alias", (1.85e9, 1.85e9))
    moved = Change(1.85e9, "version c of hosts was promoted")
    assert version_changes(store, "hosts", 1.6e9, 1.9e9) == [*told, moved]
