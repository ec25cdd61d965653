"""``detector models``: what has been trained, whether it is still what it was, and which version alerts."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from detector.bundles.gates import objections_in
from detector.bundles.history import champion_before
from detector.bundles.manifest import Manifest
from detector.bundles.pruning import old_versions, remove, size_bytes, unreadable_versions
from detector.bundles.store import CHAMPION, Bundle, BundleError, BundleStore, load_bundle, read_manifest
from detector.cli.failure import Failure, explained
from detector.config import ConfigError, load_config

_WHERE = click.argument("where", type=click.Path(path_type=Path, exists=True))


@click.group()
def models() -> None:
    """Look at trained versions, and choose which one alerts.

    WHERE is a folder of bundles, or a configuration whose detectors have one.
    """


@models.command("list")
@_WHERE
def list_versions(where: Path) -> None:
    """List the trained versions in WHERE, oldest first; exit 2 if a champion cannot be loaded."""
    table = Table("detector", "version", "alias", "family", "predictor", "trained", "records", box=None)
    count, lost = 0, 0
    for store, detector, versions in _versions(where):
        champion = None
        with suppress(BundleError):
            champion = store.alias(detector)
        for version in versions:
            alias = CHAMPION if version == champion else ""
            try:
                facts = _facts(read_manifest(store.root / detector / version))
            except BundleError as error:
                facts = (f"rejected: {error}",)
            table.add_row(detector, version, alias, *facts)
            count += 1
        lost += not _has_champion(where, store, detector)
    if not count and not lost:
        raise Failure(f"{where}: no trained version here; run 'detector train CONFIG DETECTOR' first")
    Console(width=None if Console().is_terminal else 200).print(table)
    if lost:
        raise Failure(f"{where}: {lost} champions cannot be loaded")


def _facts(manifest: Manifest) -> tuple[str, ...]:
    return (
        manifest.family,
        manifest.predictor,
        _utc(manifest.created_time_s),
        str(manifest.training.records),
    )


@models.command()
@_WHERE
@click.argument("detector")
@click.option("--version", default=f"@{CHAMPION}", show_default=True, help="A version, or @ and an alias.")
def show(where: Path, detector: str, version: str) -> None:
    """Print the manifest of one version as JSON."""
    with explained(BundleError):
        bundle = _store_of(where, detector).load(detector, version)
    click.echo(bundle.manifest.model_dump_json(indent=2))


@models.command()
@_WHERE
@click.argument("detector")
@click.option("--version", default=f"@{CHAMPION}", show_default=True, help="A version, or @ and an alias.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; DETECTOR-VERSION.html, without.",
)
def report(where: Path, detector: str, version: str, out: Path | None) -> None:
    """Draw the report of one version as an HTML page; needs the extra 'report'."""
    from detector.bundles.html import ReportError
    from detector.bundles.report_page import report_page

    with explained(BundleError, ReportError):
        manifest = _store_of(where, detector).load(detector, version).manifest
        page = report_page(manifest)
    out = out or Path(f"{detector}-{manifest.version}.html")
    with explained(OSError):
        out.write_text(page, encoding="utf-8")
    click.echo(out)


@models.command()
@_WHERE
@click.argument("detector", required=False)
def verify(where: Path, detector: str | None) -> None:
    """Read every version as the daemon would; exit 2 if one is damaged, or a champion is gone."""
    bad = checked = lost = 0
    for store, name, versions in _versions(where):
        if detector not in {None, name}:
            continue
        for version in versions:
            checked += 1
            try:
                load_bundle(store.root / name / version)
                click.echo(f"{name}/{version}: ok")
            except BundleError as error:
                bad += 1
                click.echo(f"{name}/{version}: {error}", err=True)
        lost += not _has_champion(where, store, name)
    if bad or lost:
        champions = f", {lost} champions cannot be loaded" if lost else ""
        raise Failure(f"{where}: {bad} of {checked} versions cannot be used{champions}")
    if not checked:
        raise Failure(f"{where}: nothing to verify")


def _has_champion(where: Path, store: BundleStore, detector: str) -> bool:
    """Return whether a daemon could load the champion, if one is named; say so where there is none."""
    try:
        if store.alias(detector) is not None:
            store.load(detector)
        elif store.versions(detector):
            promoting = f"detector models promote {where} {detector} VERSION"
            click.echo(f"{detector}: no version is the {CHAMPION}; {promoting}", err=True)
    except BundleError as error:
        click.echo(f"{detector}: its {CHAMPION} cannot be loaded: {error}", err=True)
        return False
    return True


@models.command()
@_WHERE
@click.argument("detector")
def history(where: Path, detector: str) -> None:
    """List which versions became the champion of DETECTOR, and how, oldest first."""
    with explained(BundleError):
        promotions = _store_of(where, detector).history(detector)
    if not promotions:
        raise Failure(
            f"{where}: no promotion of {detector} is noted; 'detector train' and 'detector models promote' do"
        )
    for each in promotions:
        before = "" if each.before is None else f", {each.before} was"
        against = f"; although {'; '.join(each.overridden)}" if each.overridden else ""
        click.echo(f"{_utc(each.time_s)}  {each.version}  {each.how}{before}{against}")


@models.command()
@_WHERE
@click.argument("detector")
@click.argument("version")
def promote(where: Path, detector: str, version: str) -> None:
    """Let VERSION of DETECTOR alert, an older one too; daemons that run take it over within seconds.

    Where WHERE is a configuration, the version has to fit it as well.
    """
    store = _store_of(where, detector)
    with explained(BundleError):
        before = store.alias(detector)
        bundle = _usable(where, store, detector, version)
        against = objections_in(store, bundle)
        found = bundle.manifest.version
        store.promote(detector, found, "models promote", time.time(), against)
    click.echo(f"{detector}: {found} is the {CHAMPION} now" + ("" if before is None else f", {before} was"))
    for objection in against:
        click.echo(f"  although {objection}")


@models.command()
@_WHERE
@click.argument("detector")
def rollback(where: Path, detector: str) -> None:
    """Let the version alert again that was the champion of DETECTOR before the present one.

    Once more goes further back. It is checked first, as by promote.
    """
    store = _store_of(where, detector)
    promoting = f"detector models promote {where} {detector} VERSION"
    with explained(BundleError):
        champion = store.alias(detector)
        before = None if champion is None else champion_before(store.history(detector), champion)
        if before is None:
            raise Failure(
                f"{where}: what was the champion of {detector} before {champion or 'now'} is not known; "
                f"choose one of 'detector models list {where}', and promote it: {promoting}"
            )
        try:
            _usable(where, store, detector, before)
        except BundleError as error:
            raise Failure(
                f"{detector}: {before} was the champion before, and cannot be used: {error}; {champion} is "
                f"the champion still; promote another: {promoting}"
            ) from error
        store.promote(detector, before, "models rollback", time.time())
    click.echo(f"{detector}: {before} is the {CHAMPION} again, {champion} was")


@models.command()
@_WHERE
@click.argument("detector")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    required=True,
    help="So many of the newest stay, of those that can be used.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def prune(where: Path, detector: str, keep: int, dry_run: bool) -> None:
    """Remove old versions of DETECTOR.

    Neither the champion is one, nor the version that rollback leads to, however old they are. A damaged
    version, or one of another format, counts as none of the newest: it stays where it is newer than the last
    of these, and is named. Where rollback leads to such a one, the champion before it stays as well.
    """
    store = _store_of(where, detector)
    count = freed_bytes = 0
    with explained(BundleError):
        unreadable = unreadable_versions(store, detector)
        old = old_versions(store, detector, keep, unreadable)
        for version, why in unreadable.items():
            if version not in old:
                said = "stays, counts as none of the newest, and cannot be used"
                click.echo(f"{detector}/{version} {said}: {why}", err=True)
        sizes = ((version, size_bytes(store.root / detector / version)) for version in old)
        for version, size in sizes if dry_run else remove(store, detector, old):
            click.echo(f"{detector}/{version}: {size} bytes")
            count, freed_bytes = count + 1, freed_bytes + size
    what = "would remove" if dry_run else "removed"
    click.echo(f"{detector}: {what} {count} of the versions, {freed_bytes} bytes")


def _usable(where: Path, store: BundleStore, detector: str, version: str) -> Bundle:
    """Return a version, checked: as a configuration's daemon would load it, where there is one."""
    from detector.from_config import load_version, served

    if where.is_dir():
        return store.load(detector, version)
    with explained(ConfigError):
        configured = load_config(where).detector(detector)
    bundle = load_version(configured, version)
    served(configured, bundle)
    return bundle


def _versions(where: Path) -> list[tuple[BundleStore, str, list[str]]]:
    with explained(BundleError):
        return [(store, detector, store.versions(detector)) for store, detector in _detectors(where)]


def _detectors(where: Path) -> list[tuple[BundleStore, str]]:
    if where.is_dir():
        store = BundleStore(where)
        with explained(BundleError):
            return [(store, name) for name in store.detectors()]
    with explained(ConfigError):
        config = load_config(where)
    return [(BundleStore(detector.store), detector.name) for detector in config.detectors]


def _store_of(where: Path, detector: str) -> BundleStore:
    stores = {name: store for store, name in _detectors(where)}
    if detector not in stores:
        raise Failure(
            f"{where}: no detector is called {detector!r}; there are: {', '.join(stores) or 'none'}"
        )
    return stores[detector]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
