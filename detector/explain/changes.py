"""What changed shortly before an alert: versions trained and promoted, and the configuration."""

from dataclasses import dataclass
from pathlib import Path

from detector.bundles.store import CHAMPION, BundleError, BundleStore, read_manifest

BEFORE_S = 86_400.0
"""How long before an alert a change is worth telling."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed, and when (seconds since 1970)."""

    time_s: float
    what: str


def changes(store: BundleStore, detector: str, config: Path, from_s: float, until_s: float) -> list[Change]:
    """Return what changed in [from_s, until_s], oldest first, as far as files still show it.

    Args:
        store: Of the detector's versions; when an alias was set is the time of its file.
        detector: Its name.
        config: The configuration file.
        from_s: Seconds since 1970.
        until_s: Seconds since 1970.
    """
    found = []
    for version in store.versions(detector):
        try:
            created_s = read_manifest(store.root / detector / version).created_time_s
        except BundleError:
            continue
        found.append(Change(created_s, f"version {version} of {detector} was trained"))
    champion = store.alias(detector)
    if champion is not None:
        alias = store.root / detector / f"{CHAMPION}.alias"
        found.append(Change(alias.stat().st_mtime, f"version {champion} of {detector} was promoted"))
    found.append(Change(config.stat().st_mtime, f"{config.name} was written"))
    return sorted(
        (change for change in found if from_s <= change.time_s <= until_s), key=lambda change: change.time_s
    )
