"""Tests for detector.bundles.pruning: what goes, and what never does."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from detector.bundles.pruning import old_versions, remove, unreadable_versions
from detector.bundles.store import BundleError, BundleStore

VERSIONS = [f"2026010{day}T000000Z-00a{day}" for day in range(1, 7)]


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """Six versions, each of which was promoted as it was trained."""
    store = BundleStore(tmp_path)
    for i, version in enumerate(VERSIONS):
        folder = tmp_path / "hosts" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"0" * 100)
        store.promote("hosts", version, "train", 1.8e9 + i)
    return store


@pytest.mark.parametrize(("keep", "left"), [(1, 2), (2, 2), (4, 4), (9, 6)])
def test_the_newest_stay(store: BundleStore, keep: int, left: int) -> None:
    assert old_versions(store, "hosts", keep, ()) == VERSIONS[: 6 - left]


def test_champion_and_what_rollback_leads_to_and_what_an_alias_names_stay(store: BundleStore) -> None:
    store.promote("hosts", VERSIONS[1], "models promote", 1.9e9)
    store.promote("hosts", VERSIONS[2], "models promote", 1.9e9)
    assert old_versions(store, "hosts", 1, ()) == [VERSIONS[0], *VERSIONS[3:5]]
    store.promote("hosts", VERSIONS[1], "models rollback", 1.9e9)
    assert old_versions(store, "hosts", 1, ()) == [VERSIONS[0], *VERSIONS[2:5]]
    store.set_alias("hosts", VERSIONS[3], "known-good")
    assert old_versions(store, "hosts", 1, ()) == [VERSIONS[0], VERSIONS[2], VERSIONS[4]]


@pytest.mark.parametrize(
    ("keep", "unreadable", "old"),
    [
        (2, [4], [0, 1, 2]),
        (2, [0, 5], [0, 1, 2]),
        (3, [0, 3, 4], [0]),
        (4, [0, 2, 3], []),
        (1, range(6), []),
    ],
)
def test_what_cannot_be_read_is_none_of_the_newest_and_goes_with_what_is_old(
    store: BundleStore, keep: int, unreadable: Sequence[int], old: Sequence[int]
) -> None:
    found = old_versions(store, "hosts", keep, [VERSIONS[i] for i in unreadable])
    assert found == [VERSIONS[i] for i in old]


def test_where_rollback_leads_to_what_cannot_be_read_the_champion_before_that_stays_too(
    store: BundleStore,
) -> None:
    assert old_versions(store, "hosts", 1, VERSIONS[3:5]) == VERSIONS[:2] + VERSIONS[3:4]
    # The champion was that before, too, but it is no other.
    store.promote("hosts", VERSIONS[4], "models promote", 1.9e9)
    store.promote("hosts", VERSIONS[5], "models promote", 1.9e9)
    assert old_versions(store, "hosts", 1, VERSIONS[3:5]) == VERSIONS[:2] + VERSIONS[3:4]
    store.promote("hosts", VERSIONS[0], "models promote", 1.9e9)
    assert old_versions(store, "hosts", 1, VERSIONS[4:6]) == VERSIONS[1:3]
    # One that is gone leads nowhere either.
    shutil.rmtree(store.root / "hosts" / VERSIONS[3])
    assert old_versions(store, "hosts", 1, VERSIONS[4:6]) == [VERSIONS[1]]


def test_versions_that_cannot_be_read_are_told_with_why(store: BundleStore) -> None:
    (store.root / "hosts" / "notes").mkdir()
    found = unreadable_versions(store, "hosts")
    assert list(found) == VERSIONS
    assert "has format version None" in found[VERSIONS[0]]


def test_what_is_no_version_stays_and_counts_as_none(store: BundleStore) -> None:
    folder = store.root / "hosts"
    (folder / "notes").mkdir()
    shutil.copytree(folder / VERSIONS[0], folder / "zz-copy")
    (folder / "20250101T000000Z-dead").mkdir()
    (folder / "20250101T000000Z-beef").symlink_to(folder / VERSIONS[0])
    (folder / "20250101T000000Z-cafe").write_text("")
    assert old_versions(store, "hosts", 2, ()) == VERSIONS[:4]


def test_nothing_goes_without_a_champion(store: BundleStore) -> None:
    (store.root / "hosts" / "champion.alias").unlink()
    with pytest.raises(BundleError, match=r"has no champion in .* nothing is removed"):
        old_versions(store, "hosts", 1, ())


def test_versions_go_whole_with_what_an_interrupted_removal_left(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        assert path.name.startswith(f".removed-{VERSIONS[0]}-")
        raise OSError(5, "Input/output error", str(path))

    old = old_versions(store, "hosts", 3, ())
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(BundleError, match="cannot be removed: Input/output"):
        list(remove(store, "hosts", old))
    monkeypatch.undo()
    assert store.versions("hosts") == VERSIONS[1:]
    assert dict(remove(store, "hosts", old[1:])) == dict.fromkeys(old[1:], 102)
    assert {path.name for path in (store.root / "hosts").iterdir()} == {
        *VERSIONS[3:],
        "champion.alias",
        "champion.history",
    }


def test_what_became_the_champion_meanwhile_stays(store: BundleStore) -> None:
    removal = remove(store, "hosts", VERSIONS[:3])
    assert next(removal) == (VERSIONS[0], 102)
    store.promote("hosts", VERSIONS[1], "models promote", 1.9e9)
    assert [version for version, _ in removal] == [VERSIONS[2]]
    assert VERSIONS[1] in store.versions("hosts")
