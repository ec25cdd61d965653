"""Old versions that nobody needs any more, and their removal."""

import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from detector.bundles.history import champions_before
from detector.bundles.store import CHAMPION, MANIFEST, BundleError, BundleStore, load_bundle

_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]+")
_REMOVED = ".removed-"


def old_versions(store: BundleStore, detector: str, keep: int, unreadable: Collection[str]) -> list[str]:
    """Return which versions may go, oldest first: those older than the newest ones, and not needed.

    Needed are the champion, whatever else an alias names, and what a rollback leads to; where that cannot be
    read, the champion before it that can, too.

    Args:
        store: Where they are.
        detector: Whose.
        keep: How many of the newest that can be read stay, at least 1.
        unreadable: Versions that cannot be read, see ``unreadable_versions``.

    Raises:
        BundleError: The store cannot be read, or has no champion: then it is not known what is needed.
    """
    champion = store.alias(detector)
    if champion is None:
        raise BundleError(
            f"detector {detector!r} has no {CHAMPION} in {store.root}, nothing is removed; promote a version"
        )
    folder = store.root / detector
    needed = {store.alias(detector, path.stem) for path in folder.glob("*.alias")}
    found = _versions(store, detector)
    readable = [version for version in found if version not in unreadable]
    if len(readable) < keep:
        return []
    before = champions_before(store.history(detector), champion)
    usable = [version for version in before if version in readable and version != champion]
    needed.update(before[:1], usable[:1])
    return [version for version in found if version < readable[-keep] and version not in needed]


def unreadable_versions(store: BundleStore, detector: str) -> dict[str, str]:
    """Return which versions cannot be loaded, and why: damaged, or of a format that other programs read.

    Raises:
        BundleError: The store cannot be read.
    """
    found = {}
    for version in _versions(store, detector):
        try:
            load_bundle(store.root / detector / version)
        except BundleError as error:
            found[version] = str(error)
    return found


def remove(store: BundleStore, detector: str, versions: list[str]) -> Iterator[tuple[str, int]]:
    """Remove versions, and say of each, once it is gone, how many bytes it had.

    Each first takes another name, so that nobody finds half of it. One that has become the champion meanwhile
    stays.

    Raises:
        BundleError: One cannot be removed, or the store not be read.
    """
    folder = store.root / detector
    try:
        for leftover in folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(leftover)
        for version in versions:
            if version == store.alias(detector):
                continue
            size = size_bytes(folder / version)
            gone = folder / f"{_REMOVED}{version}-{secrets.token_hex(8)}"
            (folder / version).rename(gone)
            shutil.rmtree(gone)
            yield version, size
    except OSError as error:
        raise BundleError(f"{error.filename} cannot be removed: {error.strerror}") from error


def size_bytes(folder: Path) -> int:
    """Return what the files in a folder take."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _versions(store: BundleStore, detector: str) -> list[str]:
    return [version for version in store.versions(detector) if _is_version(store.root / detector / version)]


def _is_version(folder: Path) -> bool:
    named = _VERSION.fullmatch(folder.name) is not None
    return named and not folder.is_symlink() and (folder / MANIFEST).is_file()
