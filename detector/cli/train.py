"""``detector train``: from records to a bundle that the daemon can use."""

import importlib.util
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import NoReturn

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from detector.batch import Batch, BoolArray
from detector.bootstrap.training_child import TOO_FEW_EXIT_CODE
from detector.bundles.gates import objections_in
from detector.bundles.history import How
from detector.bundles.lone_stretch import lone_stretch
from detector.bundles.part_of_week import part_of_week
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleError, BundleStore
from detector.bundles.youth import records_of_an_entity, youth
from detector.cli.check import budget_text
from detector.cli.failure import Failure
from detector.config import Config, ConfigError, load_config
from detector.config.detectors import DetectorConfig
from detector.extras import how_to_install
from detector.logs import configure_logs
from detector.stream.maintenance import Maintenance
from detector.training.job import Progress as Report
from detector.training.newest_records import NewestRecords

_log = logging.getLogger(__name__)
NOT_PROMOTED_EXIT_CODE = 4
"""The version was written, and the champion is what it was: something speaks against the new one."""
_LIBRARIES = {"pyarrow": "pyarrow", "sklearn": "scikit-learn", "hmmlearn": "hmmlearn"}
"""What the extra brings, by the names of modules."""


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("detector")
@click.option(
    "--input",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV or Parquet; repeat for several.",
)
@click.option("--from", "from_time", help="Start of a range of the input's records, RFC 3339.")
@click.option("--until", "until_time", help="End of that range, by the times of records.")
@click.option("--anomaly-field", help="Column or field that says which records were anomalous.")
@click.option("--regime-field", help="Column or field that names a record's normal regime.")
@click.option(
    "--fewest",
    type=click.IntRange(min=1),
    help="Train only if an entity has so many records; else print how many it has, and exit 3.",
)
@click.option("--promote-anyway", is_flag=True, help="Make it the champion whatever speaks against it.")
@click.option("--no-promote", is_flag=True, help="Write the version, and leave the champion as it is.")
@click.option("--end-with-stdin", is_flag=True, help="End as soon as the standard input is closed.")
def train(
    config: Path,
    detector: str,
    files: tuple[Path, ...],
    from_time: str | None,
    until_time: str | None,
    anomaly_field: str | None,
    regime_field: str | None,
    fewest: int | None,
    promote_anyway: bool,
    no_promote: bool,
    end_with_stdin: bool,
) -> None:
    """Train DETECTOR of CONFIG on files, or on a time range of its input's topics.

    Command line before configuration; without either, everything in the topics. The new version
    becomes the champion. Exit 2, with nothing written, if the records cannot give a model; exit 4, with
    the champion as it was, if it rests on far fewer records than the champion or on other traffic.
    """
    if promote_anyway and no_promote:
        raise click.UsageError("--promote-anyway and --no-promote exclude each other")
    if files and (from_time or until_time):
        raise click.UsageError("--input reads files, --from and --until read topics; give one of them")
    with _explained(end_with_stdin, ConfigError):
        loaded = load_config(config)
    if end_with_stdin:
        Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    try:
        chosen = loaded.detector(detector)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    configure_logs(loaded.logging.level, loaded.logging.format)
    absent = [name for module, name in _LIBRARIES.items() if importlib.util.find_spec(module) is None]
    if absent:
        raise Failure(f"training needs {', '.join(absent)}; {how_to_install('train')}")

    from detector.from_config import training_settings
    from detector.stream.port import KafkaClientError
    from detector.stream.record_struct import PathError
    from detector.training.job import TrainingError
    from detector.training.job import train as run_job
    from detector.training.labels import LabelFields
    from detector.training.plan import plan_of
    from detector.training.sources import SourceError
    from detector.training.topic_source import NoRecordsError, range_text

    plan = plan_of(chosen)
    fields = LabelFields(
        anomaly_field or chosen.training.anomaly_field, regime_field or chosen.training.regime_field
    )
    for name in fields.names:
        if name in chosen.feature_names:
            raise click.UsageError(f"{name!r} is a feature; a label is never one, so name another field")
    with _explained(end_with_stdin, SourceError, TrainingError, BundleError, KafkaClientError, PathError):
        try:
            newest = NewestRecords(chosen.training.max_records)
            records = _records(loaded, chosen, files, from_time, until_time, fields.names, newest)
        except NoRecordsError:
            if fewest is None:
                raise
            _too_few(0)
        _check_enough(records, fewest)
        for name in fields.silent(records):
            _log.warning(
                "label field %s is absent or blank in all of the %d records, so nothing is labelled by it: "
                "is it spelt as in the records, with its whole path?",
                name,
                len(records),
            )
        labels = fields.of(records)
        with _reporting() as report:
            trained = run_job(
                records,
                plan,
                time.time(),
                report,
                anomalous=_not_normal(labels.anomalous, loaded, chosen.name, records),
                regime=labels.regime,
                left_out=newest.seen - len(records),
            )
        manifest = trained.manifest.model_copy(update={"configured": training_settings(chosen)})
        bundle = replace(trained, manifest=manifest)
        store = BundleStore(chosen.store)
        folder = store.save(bundle.manifest, bundle.model, bundle.held_out)
        against = [] if no_promote else objections_in(store, bundle)
        promoted = promote_anyway or not (against or no_promote)
        if promoted:
            how: How = "bootstrap" if end_with_stdin else "train"
            store.promote(chosen.name, bundle.manifest.version, how, time.time(), against)

    facts = bundle.manifest.training
    windows = " or in maintenance" if loaded.maintenance or loaded.control else ""
    click.echo(f"{folder}: {'champion' if promoted else 'not promoted'}")
    click.echo(
        f"  {facts.records} records, {facts.fitting_records} fitted, {facts.calibration_records} held out, "
        f"{facts.anomalous_records} labelled anomalous{windows}; "
        f"{bundle.manifest.family} with predictor {bundle.manifest.predictor}"
    )
    if facts.left_out_records:
        click.echo(
            f"  {facts.left_out_records} older records left out: training.max_records is "
            f"{chosen.training.max_records}"
        )
    click.echo(f"  their times: {range_text(float(records.time.min()), float(records.time.max()))}")
    if bundle.manifest.choice is not None:
        for reason in bundle.manifest.choice.reasons:
            click.echo(f"  {reason}")
    if bundle.manifest.models == "per_entity":
        own, known = len(bundle.manifest.entities_with_own_family), len(bundle.manifest.entities)
        click.echo(f"  {own} of {known} entities with enough records have a model of their own")
    _say_what_the_evidence_supports(bundle, chosen)
    if against and not promoted:
        version = bundle.manifest.version
        click.echo(
            f"{version} was written and not promoted: {'; '.join(against)}; if that is meant, promote it: "
            f"detector models promote {config} {chosen.name} {version}",
            err=True,
        )
        sys.exit(NOT_PROMOTED_EXIT_CODE)


@contextmanager
def _explained(is_job: bool, *errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into a failure; a job of the daemon prints them, for its log."""
    try:
        yield
    except errors as error:
        if is_job:
            click.echo(error)
            sys.exit(Failure.exit_code)
        raise Failure(str(error)) from error


def _not_normal(
    anomalous: BoolArray | None, config: Config, detector: str, records: Batch
) -> BoolArray | None:
    """Return which records are labelled anomalous, or in maintenance; None where none are."""
    from detector.from_config import maintenance

    calendar = maintenance(config)
    parts = (
        anomalous,
        None if calendar is None else _inside(calendar, detector, records),
        None if config.control is None else _announced(config, config.control.topic, detector, records),
    )
    marked = [part for part in parts if part is not None]
    return np.logical_or.reduce(marked) if marked else None


def _announced(config: Config, topic: str, detector: str, records: Batch) -> BoolArray | None:
    """Return which records are inside windows that a control topic announces, None where none is."""
    from detector.from_config import client_settings
    from detector.stream.control_topic import windows_announced
    from detector.stream.port import KafkaClientError

    try:
        windows = windows_announced(client_settings(config), topic, float(records.time.min()))
    except KafkaClientError as error:
        _log.warning(
            "control topic %s cannot be read: %s; what was announced there is learnt from as normal traffic",
            topic,
            error,
        )
        return None
    inside = _inside(Maintenance(windows), detector, records)
    left_out = 0 if inside is None else int(np.count_nonzero(inside))
    _log.info("left out %d records inside the windows announced on control topic %s", left_out, topic)
    return inside


def _inside(windows: Maintenance, detector: str, records: Batch) -> BoolArray | None:
    """Return which records are inside a window, shape (N,), None where none is."""
    _, entity = np.unique(records.entity, return_inverse=True)
    order = np.argsort(entity, kind="stable")
    kind = windows.inside(detector, records, order, np.bincount(entity))
    return None if kind is None else kind != 0


def _check_enough(records: Batch, fewest: int | None) -> None:
    """Exit unless an entity has that many records: half of them all are of entities with at least so many."""
    if fewest is None:
        return
    usual = records_of_an_entity(np.unique(records.entity, return_counts=True)[1])
    if usual < fewest:
        _too_few(usual)


def _too_few(records: int) -> NoReturn:
    click.echo(records)
    sys.exit(TOO_FEW_EXIT_CODE)


def _end_with_stdin() -> None:
    """End the process, at once, when whoever started it closes the standard input, or dies."""
    # Not by sys.stdin, whose lock the interpreter wants when the job ends before.
    while os.read(0, 1024):
        pass
    os._exit(1)


def _say_what_the_evidence_supports(bundle: Bundle, chosen: DetectorConfig) -> None:
    """Print the threshold that the budget leads to, and whether held-out time can show that budget."""
    budget = chosen.alerting.budget
    threshold = serve(bundle, chosen.alerting.rules()).threshold
    click.echo(f"  threshold: p-value {threshold.p_value:.3g}, for {budget_text(budget)}")
    for caveat in (youth(bundle), lone_stretch(bundle.held_out), part_of_week(bundle)):
        if caveat is not None:
            click.echo(f"  {caveat}")
    if not bundle.model.learns:
        shared_by = bundle.manifest.training.entities_at_once if budget.per == "fleet" else 1
        days = 1 / (threshold.smallest_rate * shared_by * 86400)
        beyond = "; this one is rarer, so the threshold is extrapolated: give more records"
        click.echo(
            f"  held-out time supports budgets down to one false alarm per {budget.per} in {days:.2g} days"
            f"{'' if threshold.supported else beyond}"
        )


def _records(
    config: Config,
    detector: DetectorConfig,
    files: Sequence[Path],
    from_time: str | None,
    until_time: str | None,
    labels: tuple[str, ...],
    newest: NewestRecords,
) -> Batch:
    """Read the training records from where the command line, else the configuration, says."""
    from detector.training.sources import read_parts
    from detector.training.topic_source import read_topic

    paths = tuple(files)
    if not paths and not (from_time or until_time):
        paths = detector.training.paths()
    if paths:
        for path in paths:
            for batch in read_parts(path, detector.feature_names, detector.kinds, labels):
                newest.add(batch)
        return newest.batch()

    from detector.from_config import client_settings, input_schema

    entry = config.input(detector.input)
    now_s = time.time()
    start = _seconds("--from", from_time, detector.training.from_time, 0.0)
    end = _seconds("--until", until_time, detector.training.until_time, math.inf)
    if start >= end:
        raise click.UsageError(
            f"the range from {start:.0f} s to {end:.0f} s since 1970 is empty; swap the times"
        )
    schema = input_schema(config, entry, detector)
    paths_of_labels = dict(schema.labels) | {name: tuple(name.split(".")) for name in labels}
    schema = replace(schema, labels=tuple(paths_of_labels.items()))
    batch, rejected = read_topic(client_settings(config), entry.topics, schema, start, end, now_s, newest)
    for reason, count in rejected.items():
        _log.warning("left out %d records of %s: %s", count, ", ".join(entry.topics), reason.value)
    return batch


def _seconds(option: str, text: str | None, configured: datetime | None, default: float) -> float:
    moment = configured
    if text is not None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise click.UsageError(
                f"{option} {text!r} is not a time; write it like 2026-11-20T15:00:00Z"
            ) from error
    if moment is None:
        return default
    # A time without a zone is UTC, as in records.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _reporting() -> Iterator[Report]:
    """Yield what the job reports to: a bar on a terminal, a log line per stage otherwise."""
    if not sys.stderr.isatty():
        stages: set[str] = set()

        def log_stage(what: str, done: int, total: int) -> None:
            if what not in stages:
                stages.add(what)
                _log.info(what)

        yield log_stage
        return
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        tasks = {}

        def move_bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield move_bar
