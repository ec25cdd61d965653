"""What changed shortly before an alert: versions, the configuration, maintenance and deploys."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from detector.bundles.store import CHAMPION, BundleError, BundleStore, read_manifest
from detector.stream.maintenance import Maintenance

_WINDOWS_LISTED = 20
BEFORE_S = 86_400.0
"""How long before an alert a change is worth telling."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed, and when (seconds since 1970)."""

    time_s: float
    what: str


def version_changes(store: BundleStore, detector: str, from_s: float, until_s: float) -> list[Change]:
    """Return which versions of a detector were trained, and which promoted and how, in [from_s, until_s]."""
    found = []
    for version in store.versions(detector):
        try:
            created_s = read_manifest(store.root / detector / version).created_time_s
        except BundleError:
            continue
        found.append(Change(created_s, f"version {version} of {detector} was trained"))
    promotions = store.history(detector)
    for each in promotions:
        before = "" if each.before is None else f" in place of {each.before}"
        against = f", although {'; '.join(each.overridden)}" if each.overridden else ""
        what = f"version {each.version} of {detector} was promoted{before} ({each.how}){against}"
        found.append(Change(each.time_s, what))
    champion = store.alias(detector)
    if champion is not None and champion not in [each.version for each in promotions[-1:]]:
        # Moved by other means: only the newest move leaves a trace.
        alias = store.root / detector / f"{CHAMPION}.alias"
        found.append(Change(alias.stat().st_mtime, f"version {champion} of {detector} was promoted"))
    return _within(found, from_s, until_s)


def file_changes(config: Path, from_s: float, until_s: float) -> list[Change]:
    """Return whether the configuration file was written in [from_s, until_s]."""
    return _within([Change(config.stat().st_mtime, f"{config.name} was written")], from_s, until_s)


def windows(maintenance: Maintenance, detector: str, from_s: float, until_s: float) -> list[Change]:
    """Return the windows of a detector that have a part in [from_s, until_s], the newest few of them.

    All of its windows, not those of one entity alone: what was deployed elsewhere may be the reason.
    """
    found = []
    for window in maintenance.between(from_s, until_s):
        if window.selector.has(detector):
            of = window.selector.entities
            whose = "all entities" if of is None else ", ".join(of.patterns)
            found.append(Change(window.from_s, f"{window.kind} of {whose} {_until(window.until_s)}"))
    return found[-_WINDOWS_LISTED:]


def _until(time_s: float) -> str:
    try:
        return f"until {datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "for ever"


def _within(found: list[Change], from_s: float, until_s: float) -> list[Change]:
    return [change for change in found if from_s <= change.time_s <= until_s]
