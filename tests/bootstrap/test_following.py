"""Tests for detector.bootstrap.following: which version serves as the champion changes."""

import pytest

from detector.bootstrap.following import LOOK_INTERVAL_S, RETRY_S, Following
from detector.bundles.store import BundleError, BundleNotFoundError, BundleRejectedError
from detector.stream.watch import Watch
from tests.bootstrap.test_bootstrap import FakeBackground, FakeChampion, bundle
from tests.stream.fakes import FakeClock

OLD, NEW = bundle(300), bundle(1300)


class Rig:
    """A follower that serves the old version, and a store whose champion the test sets."""

    def __init__(self) -> None:
        self.clock, self.champion = FakeClock(), FakeChampion()
        self.champion.bundle = OLD
        self.refused: list[str] = []
        version = OLD.manifest.version
        self.background = FakeBackground()
        self.following = Following(
            "hosts", version, self.champion, self.refused.append, self.background.do, self.clock
        )

    def after(self, seconds: float = LOOK_INTERVAL_S) -> Watch | None:
        self.clock.now_s += seconds
        return self.following.arrived()


def test_a_new_champion_takes_over_once_and_an_old_one_may_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    rig = Rig()
    assert rig.after() is None
    for after in (NEW, OLD):
        rig.champion.bundle = after
        watch = rig.after()
        assert watch is not None
        assert watch.version == after.manifest.version
        assert rig.after() is None
    assert f"version {NEW.manifest.version} takes over from {OLD.manifest.version}" in caplog.text
    assert rig.refused == []


def test_the_old_one_serves_until_the_new_one_is_loaded() -> None:
    rig = Rig()
    rig.background.is_slow = True
    rig.champion.bundle = NEW
    for _ in range(3):
        assert rig.after() is None
    assert rig.following.version == OLD.manifest.version
    assert rig.champion.serving == []
    rig.background.go_on()
    # In the other thread nothing is told: it takes over here.
    assert rig.champion.serving == []
    watch = rig.after()
    assert watch is not None
    assert watch.version == rig.following.version == NEW.manifest.version
    assert rig.champion.serving == [NEW.manifest.version]
    assert rig.after() is None


def test_what_is_no_longer_the_champion_when_it_is_loaded_does_not_take_over() -> None:
    rig = Rig()
    rig.background.is_slow = True
    rig.champion.bundle = NEW
    assert rig.after() is None
    rig.background.go_on()
    rig.champion.bundle = OLD
    for _ in range(2):
        assert rig.after() is None
    assert (rig.champion.serving, rig.refused) == ([], [])
    rig.champion.bundle = NEW
    assert rig.after() is None
    rig.background.go_on()
    assert rig.after() is not None


def test_a_copy_under_another_name_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.champion.bundle = NEW
    monkeypatch.setattr(rig.champion, "version", lambda: "a-copy-of-it")
    assert rig.after() is not None
    assert rig.after() is None
    monkeypatch.undo()
    rig.champion.bundle = OLD
    assert rig.after() is not None


def test_the_store_is_not_asked_at_every_turn() -> None:
    rig = Rig()
    rig.after()
    rig.champion.bundle = NEW
    assert rig.after(0.5 * LOOK_INTERVAL_S) is None
    assert rig.after(0.5 * LOOK_INTERVAL_S) is not None


def test_a_version_that_cannot_be_used_leaves_the_one_before_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    rig.champion.bundle, rig.champion.error = NEW, BundleRejectedError("sha256 is another")
    for _ in range(3):
        assert rig.after() is None
    assert rig.refused == ["hosts"]
    assert rig.after(RETRY_S) is None
    assert rig.refused == ["hosts"] * 2
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert (
        f"version {NEW.manifest.version} of detector hosts is not used: sha256 is another" in record.message
    )
    assert f"version {OLD.manifest.version} serves on" in record.message
    rig.champion.error = None
    assert rig.after() is None
    assert rig.after(RETRY_S) is not None


def test_another_champion_is_tried_at_once_after_one_that_cannot_be_used() -> None:
    rig = Rig()
    rig.champion.bundle, rig.champion.error = NEW, BundleRejectedError("sha256 is another")
    rig.after()
    rig.champion.bundle, rig.champion.error = bundle(7000), None
    assert rig.after() is not None


def test_a_store_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def unreadable() -> str | None:
        raise BundleError("champion.alias cannot be read: stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(rig.champion, "version", unreadable)
        for _ in range(3):
            assert rig.after() is None
    assert rig.refused == ["hosts"]
    monkeypatch.setattr(rig.champion, "version", lambda: None)
    assert rig.after() is None
    monkeypatch.undo()
    rig.champion.bundle = NEW
    assert rig.after() is not None


@pytest.mark.parametrize("of", ["alias", "folder"])
def test_a_champion_that_vanishes_is_told_once_and_counted_while_it_is_away_and_told_when_it_is_back(
    of: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig = Rig()
    assert rig.after() is None
    version, problem = OLD.manifest.version, BundleNotFoundError("store/hosts is gone")
    with monkeypatch.context() as patch:
        patch.setattr(rig.champion, "missing", problem)
        if of == "alias":
            patch.setattr(rig.champion, "version", lambda: None)
        for _ in range(3):
            assert rig.after() is None
        assert rig.refused == ["hosts"]
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert (
            "detector hosts: its champion is gone, or cannot be read: store/hosts is gone" in record.message
        )
        assert f"version {version} serves on" in record.message
        assert rig.after(RETRY_S) is None
        assert rig.refused == ["hosts"] * 2
        assert caplog.records == [record]
    for _ in range(2):
        assert rig.after() is None
    [_, mended] = caplog.records
    assert mended.message == f"detector hosts: version {version}, which serves, is its champion again"
    rig.champion.missing = problem
    assert rig.after(RETRY_S) is None
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_another_champion_mends_one_that_vanished() -> None:
    rig = Rig()
    rig.champion.missing = BundleNotFoundError("store/hosts is gone")
    assert rig.after() is None
    rig.champion.bundle = NEW
    assert rig.after() is not None


def test_no_champion_is_nothing_to_tell_where_none_serves(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.following.version = rig.champion.bundle = None
    rig.champion.missing = BundleNotFoundError("there is none yet")
    assert rig.after() is None
    assert (rig.refused, caplog.records) == ([], [])
