"""``detector generate``: synthetic records from a trained version, for load tests, canaries and examples."""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
import numpy as np

from detector.batch import FloatArray
from detector.bundles.store import Bundle, BundleError, load_reference
from detector.cli.failure import Failure, explained
from detector.config import ConfigError, load_config
from detector.config.inputs import KAFKA_KEY, KAFKA_TIMESTAMP
from detector.config.section import parse_duration
from detector.extras import how_to_install
from detector.models.discrete_columns import DiscreteColumns
from detector.scoring.generate import FOLLOWING
from detector.scoring.generate import generate as generate_values
from detector.scoring.member import Member

_PARQUET = (".parquet", ".pq")
_JSON_LINES = (".jsonl", ".ndjson")

Column = list[float] | list[int] | list[str | None]
"""Of one feature, as it is written."""


class _Seconds(click.ParamType[float]):
    """``5m``: a duration with its unit."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class _Time(click.ParamType[float]):
    """RFC 3339; without a zone UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time; write it like 2026-11-20T15:00:00Z", param, ctx)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


@click.command()
@click.argument("bundle")
@click.option("-n", "n", type=click.IntRange(min=1), required=True, help="Records of each entity.")
@click.option(
    "--out",
    default="-",
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A .csv, .parquet or .jsonl file; - writes JSON lines to stdout.",
)
@click.option("--entity", "entities", multiple=True, help="May be repeated.  [default: synthetic]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--interval", type=_Seconds(), help="Between two records of an entity.  [default: as trained]")
@click.option("--start", type=_Time(), help="Of the first record.  [default: after the training data]")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write JSON lines as the detector's input in this configuration reads them.",
)
def generate(
    bundle: str,
    n: int,
    out: Path,
    entities: tuple[str, ...],
    seed: int,
    interval: float | None,
    start: float | None,
    config: Path | None,
) -> None:
    """Write synthetic records from BUNDLE: STORE/DETECTOR@ALIAS, or the folder of one version.

    An entity that the bundle knows gets its own scale, coefficients and model, any other one the pooled ones.
    Of a committee it asks the member whose records come nearest to real ones. The same seed gives the same
    bytes. Of a counter it writes the rate per second, not the total.

    CSV and Parquet have a column for each feature, by name, as `detector train` and `backtest` read them;
    JSON lines are records with features by name, or, with --config, with every field where the input has it.
    """
    names = entities or ("synthetic",)
    if "" in names or len(set(names)) < len(names):
        raise click.UsageError("--entity: names must not be empty or given twice")
    suffix = ".jsonl" if str(out) == "-" else out.suffix.lower()
    if suffix not in (".csv", *_PARQUET, *_JSON_LINES):
        raise click.UsageError(f"--out {out}: unknown kind of file; write to .csv, .parquet or .jsonl")
    if config is not None and suffix not in _JSON_LINES:
        raise click.UsageError("--config is for JSON lines: files of columns have features by name")
    with explained(ConfigError, BundleError, ValueError, OSError):
        trained = load_reference(bundle)
        shape = _NATIVE if config is None else _shape(config, trained)
        facts, known = trained.manifest.training, trained.model.entities
        place = {name: i for i, name in enumerate(known)}
        model = np.array([place.get(name, len(known)) for name in names], dtype=np.int64)
        step_s = interval or facts.interval_s or 1.0
        first_s = facts.until_time_s + step_s if start is None else start
        rng = np.random.default_rng(seed)
        member = _asked(trained)
        density = member.density
        values = generate_values(density, member.examples, model, n, rng, first_s, step_s)
        time = np.repeat(first_s + step_s * np.arange(n), len(names))
        # Round by round, so that the file is in the order of time.
        transforms = trained.model.transforms
        rows = transforms.in_units(values.transpose(1, 0, 2).reshape(-1, values.shape[2]))
        features, columns = trained.model.feature_names, _columns(density.scaling.discrete, rows)
        if suffix in _PARQUET:
            _write_parquet(out, features, time, list(names) * n, columns)
        else:
            write = _write_csv if suffix == ".csv" else partial(_write_json_lines, shape)
            with click.open_file(str(out), "w", encoding="utf-8") as file:
                write(file, features, time, list(names) * n, columns)
        if density.predictor.name in FOLLOWING:
            click.echo(
                f"predictor {density.predictor.name} follows an entity wherever it goes; the records are "
                "drawn around the level of training",
                err=True,
            )
        if transforms.counters.size:
            counters = ", ".join(features[j] for j in transforms.counters)
            click.echo(f"rates per second, not totals, of the counters {counters}", err=True)


def _asked(trained: Bundle) -> Member:
    """Return the member whose records come nearest to held-out ones; one that knows where records belong
    before one that only follows them, and one whose density is to tell records apart before one that averages
    their parts and has a plain one: its means and spreads are right, so the distance does not see it."""

    def farness(k: int) -> tuple[bool, bool, float]:
        quality, member = trained.manifest.members[k].report.generated, members[k]
        distance = np.inf if quality is None else quality.generated.frechet_distance
        averages_parts = member.time_scale.averaged != "surprise"
        return averages_parts, member.density.predictor.name in FOLLOWING, distance

    members = trained.model.members
    return members[min(range(len(members)), key=farness)]


def _columns(discrete: DiscreteColumns | None, rows: FloatArray) -> list[Column]:
    """Return features as records have them: categories as text, counts and flags as whole numbers."""
    columns: list[Column] = []
    for j, values in enumerate(rows.T):
        vocabulary = None if discrete is None else discrete.vocabularies[j]
        if vocabulary is not None:
            columns.append([vocabulary.text(index) for index in values.tolist()])
        elif discrete is not None and discrete.kinds[j] != "continuous":
            columns.append(values.astype(np.int64).tolist())
        else:
            columns.append(values.tolist())
    return columns


class _Shape(NamedTuple):
    """Where a record has what; paths are names of nested objects, outermost first."""

    entity: tuple[tuple[str, ...], ...]
    """Of each part of the name; empty where the key of the record is the name."""
    separator: str
    time: tuple[str, ...]
    """Empty where Kafka's own time counts."""
    features: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    """Of features by name, inside the object of features; one that is not there is at its name."""


_NATIVE = _Shape((("entity",),), "/", ("time",), ("features",), {})


def _shape(config: Path, trained: Bundle) -> _Shape:
    """Return how the input of a version's detector has its records.

    Raises:
        ConfigError: The configuration cannot be used.
        ValueError: It has no such detector, or one with other features.
    """
    loaded, name = load_config(config, without_secrets=True), trained.manifest.detector
    try:
        detector = loaded.detector(name)
    except KeyError as error:
        raise ValueError(f"{config}: {error.args[0]}; give the configuration of the version") from error
    if detector.feature_names != trained.model.feature_names:
        raise ValueError(
            f"{config}: detector {name!r} has the features {', '.join(detector.feature_names)}, and the "
            f"version {', '.join(trained.model.feature_names)}; give the configuration it was trained with"
        )
    entry = loaded.input(detector.input)
    return _Shape(
        () if entry.entity_paths == KAFKA_KEY else entry.entity_paths,
        entry.entity_separator,
        () if entry.time_path == KAFKA_TIMESTAMP else entry.time_path,
        entry.features_path,
        {feature.name: feature.field for feature in detector.features},
    )


def _write_json_lines(
    shape: _Shape,
    file: IO[str],
    features: tuple[str, ...],
    time: FloatArray,
    entity: list[str],
    columns: list[Column],
) -> None:
    paths = [(*shape.features, *shape.fields.get(name, (name,))) for name in features]
    for stamp, name, *row in zip(_texts(time), entity, *columns, strict=True):
        record: dict[str, Any] = {}
        parts = name.split(shape.separator, len(shape.entity) - 1) if len(shape.entity) > 1 else [name]
        if shape.entity and len(parts) < len(shape.entity):
            raise ValueError(
                f"entity {name!r} has {len(parts)} parts, and the input joins {len(shape.entity)} with "
                f"{shape.separator!r}; write --entity that way"
            )
        for path, value in zip(shape.entity, parts, strict=False):
            _put(record, path, value)
        if shape.time:
            _put(record, shape.time, stamp)
        for path, value in zip(paths, row, strict=True):
            _put(record, path, value)
        file.write(json.dumps(record) + "\n")


def _put(record: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value


def _write_csv(
    file: IO[str], features: tuple[str, ...], time: FloatArray, entity: list[str], columns: list[Column]
) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["time", "entity", *features])
    writer.writerows(zip(_texts(time), entity, *columns, strict=True))


def _write_parquet(
    path: Path, features: tuple[str, ...], time: FloatArray, entity: list[str], columns: list[Column]
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise Failure(
            f"{path}: Parquet needs {error.name}; {how_to_install('train')}, or write .csv"
        ) from error
    stamps = pa.array(_microseconds(time), pa.timestamp("us", tz="UTC"))
    arrays = [stamps, pa.array(entity, pa.string()), *(pa.array(column) for column in columns)]
    pq.write_table(pa.table(arrays, names=["time", "entity", *features]), path)


def _texts(time: FloatArray) -> Iterator[str]:
    stamps = np.datetime_as_string(_microseconds(time).astype("datetime64[us]"))
    return (f"{stamp}Z" for stamp in stamps.tolist())


def _microseconds(time: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.rint(time * 1e6).astype(np.int64)
