"""``detector check``: what is wrong with a configuration, where, and what to write instead."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from detector.cli.failure import Failure, explained
from detector.config import Config, ConfigError, load_config
from detector.config.budget import BudgetConfig
from detector.config.detectors import DetectorConfig
from detector.config.maintenance import DAYS, MaintenanceConfig
from detector.config.problem import Problem
from detector.config.schema import config_schema
from detector.config.section import duration_text
from detector.scoring.typicality import is_on


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a configuration instead.")
@click.option(
    "--without-secrets",
    is_flag=True,
    help="Read neither secrets nor certificates: for a check where they are not, as in CI.",
)
def check(config: Path | None, schema: bool, without_secrets: bool) -> None:
    """Check CONFIG completely, its champions too, connecting nowhere; exit 2 if anything is wrong."""
    if schema:
        click.echo(json.dumps(config_schema(), indent=2))
        return
    if config is None:
        raise click.UsageError("name a configuration file, or give --schema")
    with explained(ConfigError):
        loaded = load_config(config, without_secrets=without_secrets)
    _check_paths(loaded, config)
    with explained(ConfigError):
        warnings = _version_warnings(loaded, config)
    for line in (*store_warnings(loaded), *warnings):
        click.echo(f"{config}: {line}", err=True)
    click.echo(f"{config}: ok")
    for line in summary(loaded):
        click.echo(f"  {line}")


def _check_paths(config: Config, path: Path) -> None:
    """Build the decoders, which finds field paths that contradict one another."""
    from detector.from_config import input_schema
    from detector.stream.codec_json import JsonCodec
    from detector.stream.record_struct import PathError

    for entry in config.inputs:
        try:
            JsonCodec(input_schema(config, entry))
        except PathError as error:
            raise Failure(f"{path}: {error}") from error


def store_warnings(config: Config) -> list[str]:
    """Return which stores this user could not write, though the daemon is to train."""
    return [
        f"detectors[{i}].store: this user cannot write {str(detector.store)!r}, as the daemon has "
        "to, which is to train (bootstrap); does it run as another one?"
        for i, detector in enumerate(config.detectors)
        if detector.bootstrap is not None and not _is_writable(detector.store)
    ]


def _version_warnings(config: Config, path: Path) -> list[str]:
    """Return which champions are missing or out of reach, and which were trained by other settings.

    Raises:
        ConfigError: There are some that the daemon could not use.
    """
    from detector.bundles.store import CHAMPION, BundleError, BundleStore
    from detector.from_config import load_version, other_settings, served

    found: list[str | None] = []
    problems: list[Problem] = []
    for i, detector in enumerate(config.detectors):
        try:
            if BundleStore(detector.store).alias(detector.name) is not None:
                champion = load_version(detector, f"@{CHAMPION}")
                served(detector, champion)
                found.append(other_settings(detector, champion.manifest))
            elif detector.bootstrap is None:
                found.append(
                    f"detectors[{i}].store: no version of {detector.name!r} in {str(detector.store)!r} is "
                    "the champion; run will end with 2 until one is trained"
                )
        except BundleError as error:
            # What this user may not look into may be open to the daemon's.
            if isinstance(error.__cause__, PermissionError | NotADirectoryError):
                found.append(str(error))
            else:
                problems.append(Problem(("detectors", i, "store"), str(error)))
    if problems:
        raise ConfigError(str(path), problems)
    return [line for line in found if line is not None]


def _is_writable(folder: Path) -> bool:
    """Return whether a folder, or the one above in which it would be made, is this user's to write."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def summary(config: Config) -> list[str]:
    """Return what a configuration amounts to, a few lines."""
    kafka, outputs = config.kafka, config.outputs
    lines = [
        f"kafka     {', '.join(kafka.bootstrap_servers)} as group {kafka.group_id}, client {kafka.client}, "
        f"{kafka.security.protocol}"
    ]
    lines += [
        f"input     {entry.name}: {entry.format} from {', '.join(entry.topics)}" for entry in config.inputs
    ]
    for detector in config.detectors:
        budget = detector.alerting.budget
        lines.append(
            f"detector  {detector.name}: {len(detector.features)} features of {detector.input}, "
            f"{'; '.join(_members_text(detector))}, "
            f"budget {budget_text(budget)}{_bootstrap_text(detector)}"
        )
    lines.append(
        f"outputs   scores to {outputs.scores_topic or '(none)'}, alerts to {outputs.alerts_topic}, "
        f"dead letters to {outputs.dead_letter_topic}"
    )
    lines += [f"window    {_window_text(window)}" for window in config.maintenance]
    if config.control is not None:
        lines.append(f"control   windows announced on {config.control.topic}")
    if config.notify is not None:
        managers = [
            f"{m.name} ({', '.join(urlsplit(url).netloc for url in m.urls)})"
            for m in config.notify.alertmanagers
        ]
        hooks = [f"{h.name} ({'not ' if h.secret is None else ''}signed)" for h in config.notify.webhooks]
        lines.append(f"notify    {', '.join([*managers, *hooks])}")
    lines.append(f"web       http://{config.web.listen_address}/metrics")
    return lines


def _window_text(window: MaintenanceConfig) -> str:
    """Return a window as people say it: ``web-* every sat, sun from 02:00 until 04:00 Europe/Berlin``."""
    if window.every is None:
        begins, ends = (datetime.fromtimestamp(s, UTC).isoformat(timespec="minutes") for s in window.instants)
        when = f"from {begins} until {ends}"
    else:
        begins, ends = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in window.minutes)
        days = "day" if window.every == DAYS else ", ".join(window.every)
        when = f"every {days} from {begins} until {ends} {window.time_zone}"
    under = f" under {', '.join(window.detectors)}" if window.detectors else ""
    return f"{window.kind} of {', '.join(window.entities)}{under} {when}"


def _bootstrap_text(detector: DetectorConfig) -> str:
    if detector.bootstrap is None:
        return ""
    return f", trained by the daemon once an entity has {detector.bootstrap.records} records"


def _members_text(detector: DetectorConfig) -> list[str]:
    """Return what is to be trained, or what it is chosen from."""
    from detector.models.families import FAMILIES
    from detector.training.plan import AUTO, plan_of

    texts, plan = [], plan_of(detector)
    for member in plan.members:
        predictor = member.predictor
        if member.family == AUTO:
            further = ", ".join(plan.candidates) or "none"
            texts.append(f"family auto (further members tried: {further}), predictor {predictor}")
            continue
        guarded = is_on(detector.training.typicality, FAMILIES[member.family].evidence)
        sides = "two-sided (typicality)" if guarded else "one-sided"
        texts.append(
            f"family {member.family}, predictor {predictor}{member.time_scale.text}, p-values {sides}"
        )
    return texts


def budget_text(budget: BudgetConfig) -> str:
    """Return a budget as people say it: ``1 false alarm per entity in 7d``."""
    alarms = "false alarm" if budget.false_alarms == 1 else "false alarms"
    return f"{budget.false_alarms:g} {alarms} per {budget.per} in {duration_text(budget.every_s)}"
