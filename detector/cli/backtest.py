"""``detector backtest``: a file down the daemon's own pipeline, without Kafka and without a configuration."""

import time
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import click
import numpy as np

from detector.alerting.budget import entities_at_once
from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, BoolArray, Status
from detector.bundles.lone_stretch import lone_stretch
from detector.bundles.part_of_week import part_of_week
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleError, load_reference
from detector.bundles.youth import youth
from detector.cli.failure import Failure, explained
from detector.config.section import duration_text, parse_duration
from detector.config.time_zone import known_zone
from detector.extras import how_to_install
from detector.models.families import FAMILIES
from detector.models.kinds import Kind
from detector.models.predictors import PREDICTORS
from detector.pipeline.detector import Detector

_FILE = click.Path(path_type=Path, dir_okay=False)


class _Budget(click.ParamType[Budget]):
    """``1/1d``: how many false alarms in how long."""

    name = "n/duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Budget:
        if isinstance(value, Budget):
            return value
        number, _, every = str(value).partition("/")
        try:
            false_alarms, every_s = float(number), parse_duration(every)
        except ValueError:
            self.fail(f"{value!r} is not a budget; write it like 1/1d or 2/7d", param, ctx)
        if not 0 < false_alarms < float("inf"):
            self.fail(f"{value!r} allows {number} false alarms; allow more than 0", param, ctx)
        return Budget(false_alarms, "entity", every_s)


class _NamedKind(click.ParamType[tuple[str, Kind]]):
    """``method=categorical``: a feature and what its values are."""

    name = "name=kind"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Kind]:
        name, _, text = str(value).rpartition("=")
        kind = next((known for known in get_args(Kind) if known == text), None)
        if not name or kind is None:
            kinds = ", ".join(get_args(Kind))
            self.fail(
                f"{value!r} is no kind of a feature; write NAME=KIND, the kind one of {kinds}", param, ctx
            )
        return name, kind


class _TimeZone(click.ParamType[str]):
    """``Europe/Berlin``: the name of a time zone."""

    name = "zone"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return known_zone(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What to train when no bundle is given; None and nothing mean the default."""

    features: str | None
    kind: tuple[tuple[str, Kind], ...]
    counter: tuple[str, ...]
    log_scale: tuple[str, ...]
    family: str | None
    predictor: str | None
    time_zone: str | None
    models: Literal["pooled", "per_entity"] | None
    seed: int | None
    anomaly_field: str | None
    regime_field: str | None

    def given(self) -> list[str]:
        """Return the options that were set."""
        return [
            f"--{entry.name.replace('_', '-')}"
            for entry in fields(self)
            if getattr(self, entry.name) not in (None, ())
        ]

    @property
    def kinds(self) -> dict[str, Kind]:
        """Return the kinds that were given, by feature."""
        return dict(self.kind)

    def feature_names(self) -> list[str] | None:
        """Return the columns asked for, None for all."""
        return None if self.features is None else [n.strip() for n in self.features.split(",") if n.strip()]


@click.command()
@click.option("--input", "input_file", type=_FILE, required=True, help="CSV or Parquet to score.")
@click.option("--out", "out_file", type=_FILE, required=True, help="CSV or Parquet to write.")
@click.option("--train", "train_file", type=_FILE, help="Learn from this file.")
@click.option("--warmup", type=click.IntRange(min=1), help="Learn from the first N records of each entity.")
@click.option("--bundle", help="Use a trained version: STORE/DETECTOR@champion, or its folder.")
@click.option("--features", help="Columns to use, a,b,c; all numeric ones, without.")
@click.option(
    "--kind",
    type=_NamedKind(),
    multiple=True,
    help="Of a feature: method=categorical, errors=count, up=binary; repeat for several.",
)
@click.option("--counter", multiple=True, help="A feature that is a growing total; repeat for several.")
@click.option(
    "--log-scale", multiple=True, help="A feature to put on a logarithmic scale; repeat for several."
)
@click.option(
    "--family",
    type=click.Choice(["auto", *FAMILIES]),
    help="Kind of model; auto chooses a committee.  [default: auto]",
)
@click.option(
    "--predictor",
    type=click.Choice(["auto", *PREDICTORS]),
    help="What a record is compared with.  [default: auto]",
)
@click.option(
    "--time-zone",
    type=_TimeZone(),
    help="By whose clocks seasonal and regression tell the time of day, Europe/Berlin.  [default: UTC]",
)
@click.option(
    "--models",
    type=click.Choice(["pooled", "per_entity"]),
    help="One for all entities, or also one for each that it predicts better.  [default: pooled]",
)
@click.option("--budget", type=_Budget(), default="1/1d", show_default=True, help="Bearable false alarms.")
@click.option("--per", type=click.Choice(["entity", "fleet"]), default="entity", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random in training.  [default: 0]")
@click.option(
    "--anomaly-field", help="Column that says which records were anomalous: learn nothing from them."
)
@click.option("--regime-field", help="Column that names a record's normal regime, for naive_bayes.")
@click.option(
    "--latent", is_flag=True, help="Also write what the model believes to be behind each row: latent_0, ..."
)
def backtest(
    input_file: Path,
    out_file: Path,
    train_file: Path | None,
    warmup: int | None,
    bundle: str | None,
    features: str | None,
    kind: tuple[tuple[str, Kind], ...],
    counter: tuple[str, ...],
    log_scale: tuple[str, ...],
    family: str | None,
    predictor: str | None,
    time_zone: str | None,
    models: Literal["pooled", "per_entity"] | None,
    budget: Budget,
    per: Literal["entity", "fleet"],
    seed: int | None,
    anomaly_field: str | None,
    regime_field: str | None,
    latent: bool,
) -> None:
    """Send a file down the daemon's own pipeline; write one row per row, in order.

    The file has a column time, features, and a column entity if it holds several. The model is
    learnt from --train, or from the first --warmup records of each entity, or taken from --bundle.
    """
    try:
        from detector.training.backtest import backtest as run_backtest
        from detector.training.backtest import latent_columns, warmup_rows
        from detector.training.backtest_file import check_suffix, write_backtest
        from detector.training.job import TrainingError
        from detector.training.labels import LabelFields
        from detector.training.sources import SourceError, read_file
    except ModuleNotFoundError as error:
        raise Failure(f"a backtest needs {error.name}; {how_to_install('train')}") from error

    recipe = _Recipe(
        features,
        kind,
        counter,
        log_scale,
        family,
        predictor,
        time_zone,
        models,
        seed,
        anomaly_field,
        regime_field,
    )
    labels = LabelFields(anomaly_field, regime_field)
    _check_options(recipe, input_file, out_file, train_file, warmup, bundle)
    with explained(SourceError, TrainingError, BundleError, ValueError, OSError):
        check_suffix(out_file)
        skipped: BoolArray | None = None
        if bundle is not None:
            trained = load_reference(bundle)
            trained_on = {feature.name: feature.kind for feature in trained.manifest.features}
            batch = read_file(input_file, list(trained_on), trained_on)
        elif train_file is not None:
            records = read_file(train_file, recipe.feature_names(), recipe.kinds, labels.names)
            batch = read_file(input_file, records.feature_names, recipe.kinds)
            trained = _trained(records, recipe)
        else:
            batch = read_file(input_file, recipe.feature_names(), recipe.kinds, labels.names)
            skipped = warmup_rows(batch, warmup or 0)
            trained = _trained(batch.take(skipped), recipe)
        rules = AlertRules(budget=Budget(budget.false_alarms, per, budget.every_s))
        detector = serve(trained, rules)
        result = run_backtest(detector, batch, skipped)
        behind = latent_columns(detector, batch, result.scores) if latent else None
        write_backtest(out_file, batch, result.scores, behind)
    fired = sum(event.transition == "firing" for event in result.events)
    statuses = Counter(result.scores.status.tolist())
    caveats = [
        caveat
        for caveat in (youth(trained), lone_stretch(trained.held_out), part_of_week(trained))
        if caveat is not None
    ]
    for line in _summary(detector, caveats, batch, statuses, fired, result.scored_s):
        click.echo(line)


def _check_options(
    recipe: _Recipe,
    input_file: Path,
    out_file: Path,
    train_file: Path | None,
    warmup: int | None,
    bundle: str | None,
) -> None:
    if sum(given is not None for given in (train_file, warmup, bundle)) != 1:
        raise click.UsageError("say what to learn from: one of --train FILE, --warmup N and --bundle FOLDER")
    if bundle is not None and recipe.given():
        raise click.UsageError(f"--bundle already says {', '.join(recipe.given())}; leave them out")
    if out_file.resolve() in {path.resolve() for path in (input_file, train_file) if path is not None}:
        raise click.UsageError(f"--out {out_file} would overwrite what is read; write elsewhere")


def _trained(records: Batch, recipe: _Recipe) -> Bundle:
    from detector.training.job import TrainingPlan, train
    from detector.training.labels import LabelFields

    for name in (*recipe.counter, *recipe.log_scale):
        if name not in records.feature_names:
            raise click.UsageError(f"--counter or --log-scale: no feature is called {name!r}")
        if recipe.kinds.get(name, "continuous") != "continuous":
            raise click.UsageError(
                f"{name!r} cannot be {recipe.kinds[name]} and have --counter or --log-scale"
            )
    plan = TrainingPlan(
        detector="backtest",
        family=recipe.family or "auto",
        predictor=recipe.predictor or "auto",
        time_zone=recipe.time_zone or "UTC",
        seed=recipe.seed or 0,
        kinds=recipe.kinds,
        types=dict.fromkeys(recipe.counter, "counter"),
        scales=dict.fromkeys(recipe.log_scale, "log"),
        models=recipe.models or "pooled",
    )
    labels = LabelFields(recipe.anomaly_field, recipe.regime_field).of(records)
    return train(records, plan, time.time(), anomalous=labels.anomalous, regime=labels.regime)


def _summary(
    detector: Detector,
    caveats: list[str],
    batch: Batch,
    statuses: Counter[int],
    fired: int,
    scored_s: float,
) -> list[str]:
    entities = len(set(batch.entity))
    counts = ", ".join(f"{statuses[status]} {status.text}" for status in Status if statuses[status])
    days = scored_s / 86400
    budget = detector.rules.budget
    every = duration_text(budget.every_s)
    _, entity = np.unique(batch.entity, return_inverse=True)
    promised = budget.episodes_per_entity_s(entities_at_once(entity, batch.time)) * scored_s
    rate = f"{fired / days:.2g} per entity and day" if days else "too little time for a rate"
    lines = [
        f"rows       {len(batch)} of {entities} entities: {counts}",
        f"alerts     {fired} in {days:.1f} days of entities, {rate}",
        f"budget     {budget.false_alarms:g} false alarms per {budget.per} in {every}: "
        f"at most {promised:.3g} expected here, {fired} fired, real anomalies among them",
        f"threshold  p <= {detector.threshold.p_value:.3g}",
    ]
    lines += [f"           {caveat}" for caveat in caveats]
    if not detector.model.learns and not detector.threshold.supported:
        fewest_days = 1 / detector.threshold.smallest_rate / 86400
        lines.append(
            "           extrapolated: the held-out time supports budgets of one false alarm per entity "
            f"in up to {fewest_days:.2g} days"
        )
    return lines
