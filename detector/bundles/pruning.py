"""Old versions that nobody needs any more, and their removal."""

import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from detector.bundles.history import champion_before
from detector.bundles.store import CHAMPION, MANIFEST, BundleError, BundleStore

_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]+")
_REMOVED = ".removed-"


def old_versions(store: BundleStore, detector: str, keep: int) -> list[str]:
    """Return which versions may go, oldest first: all but the newest ones, and those that are needed.

    Needed are the champion, whatever else an alias names, and what a rollback leads to.

    Args:
        store: Where they are.
        detector: Whose.
        keep: How many of the newest stay, at least 1.

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
    needed.add(champion_before(store.history(detector), champion))
    found = [version for version in store.versions(detector) if _is_version(folder / version)]
    return [version for version in found[:-keep] if version not in needed]


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


def _is_version(folder: Path) -> bool:
    named = _VERSION.fullmatch(folder.name) is not None
    return named and not folder.is_symlink() and (folder / MANIFEST).is_file()
