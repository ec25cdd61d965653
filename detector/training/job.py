"""The offline job: read records, fit, calibrate on the newest of them, save a bundle."""

import hashlib
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from typing import Literal

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray, IntArray
from detector.bundles.manifest import Manifest, ManifestFeature, TrainingFacts
from detector.bundles.serving import fewest_features
from detector.bundles.store import Bundle
from detector.models.contract import Family, Predictor
from detector.models.families import FAMILIES
from detector.models.gan import Gan
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.models.kinds import Kind
from detector.models.predictors import NoPredictor, predict
from detector.models.rbm import Rbm
from detector.models.scaling import Scaling, fit_scaling
from detector.models.sequences import starts_of
from detector.scoring.scoring_model import Density, ScoringModel
from detector.scoring.typicality import Choice
from detector.training.calibrate import calibrate
from detector.training.discrete_features import discrete_columns, kinds_for, without_impossible
from detector.training.fit_entities import check_affordable, fit_entities, ways_to_fit
from detector.training.fit_predictor import fit_predictor, fit_residual_scale
from detector.training.fitting import Fitting
from detector.training.labels import regime_codes, those_that_occur
from detector.training.report import Curves, model_report
from detector.training.training_rows import TrainingError as TrainingError
from detector.training.training_rows import (
    TrainingRows,
    check_rows_to_train,
    require_values,
    rows_in_order,
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total."""

# An entity with fewer fitting rows is scored by the pooled model.
_FEWEST_OWN_ROWS = 100
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "hmmlearn", "torch", "safetensors")


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What to learn."""

    detector: str
    family: str
    predictor: str = "autoregressive"
    order: int = 1
    """Past records that the predictor ``autoregressive`` leans on."""
    seed: int = 0
    min_features_share: float = 0.5
    """A record with a smaller share of its features is not scored."""
    typicality: Choice = "auto"
    """Whether rows that are too likely get small p-values as well; ``auto``: unless the density is exact."""
    units: Mapping[str, str | None] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """What the values of features are, by name; continuous, where nothing is said."""
    options: Mapping[str, int | str] = field(default_factory=dict)
    """Settings of the family: ``n_components`` and ``covariance`` (gmm), ``n_states`` and ``n_mixtures``
    (hmm), ``n_classes`` (naive_bayes), ``n_hidden`` (rbm), ``window`` and ``latent`` (vae), ``latent``
    (gan)."""
    models: Literal["pooled", "per_entity"] = "pooled"
    """One family for all entities, or also one for each that it predicts better."""
    jobs: int = 1
    """Processes that fit the families of entities."""


def train(
    records: Batch,
    plan: TrainingPlan,
    now_s: float,
    progress: Progress | None = None,
    *,
    anomalous: BoolArray | None = None,
    regime: Sequence[str | None] | None = None,
) -> Bundle:
    """Fit, calibrate and describe a model; saving it is the caller's.

    The newest 30 % of every entity's records are held out in time: they shape no density, and calibrate.
    Records labelled anomalous do neither, and an entity's past begins anew after them; only a ``vae`` gets to
    see them, in the windows of the records that follow, and learns neither from them nor from what leans on
    them.

    Args:
        records: N training records in any order; NaN is missing.
        plan: What to learn.
        now_s: The time written into the version, seconds since 1970 UTC.
        progress: Told how far the job is.
        anomalous: Which records are labelled anomalous, shape (N,).
        regime: Which normal regime was at work, by name, length N; None is unknown. Of use to the family
            ``naive_bayes`` alone.

    Raises:
        TrainingError: The records cannot give a model.
    """
    report = progress or _no_report
    if plan.family not in FAMILIES:
        raise TrainingError(f"no family is called {plan.family!r}; this version knows {', '.join(FAMILIES)}")
    report("preparing", 0, 1)
    codes, regimes = (None, ()) if regime is None else regime_codes(regime)
    if regimes and plan.family != "naive_bayes":
        _log.info("family %s has no use for the labels of regimes; they are not used", plan.family)
    every_row = rows_in_order(records, anomalous, codes)
    rows = every_row.without_anomalous()
    n_anomalous = len(records) - len(rows.time)
    try:
        kinds = kinds_for(plan.family, rows.feature_names, plan.kinds)
        values = without_impossible(rows.values, rows.feature_names, kinds)
        rows = replace(rows, values=values)
        check_rows_to_train(rows, n_anomalous)
        to_fit = rows.to_fit()
        discrete = discrete_columns(to_fit.values, records.category_texts, kinds)
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error
    if discrete is not None and discrete.continuous.size == 0 and plan.predictor != "none":
        _log.info("no feature is continuous, so nothing is predicted: predictor none, not %s", plan.predictor)
        plan = replace(plan, predictor="none")

    own = np.flatnonzero(np.bincount(to_fit.entity, minlength=len(rows.names)) >= _FEWEST_OWN_ROWS)
    model = np.full(len(rows.names), own.size, dtype=np.int64)
    model[own] = np.arange(own.size)
    n_models = own.size + 1

    of_row, of_run = model[to_fit.entity], model[to_fit.run_entity]
    scaling = fit_scaling(to_fit.values, of_row, n_models, discrete)
    z = scaling.standardise(to_fit.values, of_row)
    columns = scaling.continuous
    try:
        if plan.models == "per_entity":
            check_affordable(plan.family, own.size)
        predictor = fit_predictor(
            plan.predictor,
            z if columns is None else z[:, columns],
            to_fit.time,
            to_fit.lengths,
            of_run,
            n_models,
            plan.order,
        )
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error
    residual = _residual(to_fit, z, scaling, predictor, model)
    warmed_up = to_fit.position >= predictor.warmup_records
    if not warmed_up.any():
        raise TrainingError(
            f"predictor {plan.predictor} needs {predictor.warmup_records} records of an entity before the "
            f"first that can be fitted, and no entity has more than {int(to_fit.lengths.max())} to fit; "
            "give more time, or take predictor none"
        )
    beyond = f"after the first {predictor.warmup_records} fitting records of each entity"
    require_values(rows.feature_names, residual[warmed_up], beyond)
    residual_scale = np.ones((n_models, z.shape[1]))
    if not isinstance(predictor, NoPredictor):
        measured = fit_residual_scale(residual[warmed_up], z[warmed_up], of_row[warmed_up], n_models)
        some = slice(None) if columns is None else columns
        residual_scale[:, some] = measured[:, some]
    report("preparing", 1, 1)

    try:
        interval_s = _interval_s(rows)
        shown = to_fit
        if plan.family == "vae" and n_anomalous:
            # It sees what it must not learn: at work, the windows of records that follow hold it, too.
            shown = every_row.to_fit()
            z = scaling.standardise(shown.values, model[shown.entity])
            residual = _residual(shown, z, scaling, predictor, model)
        residual /= residual_scale[model[shown.entity]]
        fitting = Fitting.of(shown, residual, predictor.warmup_records, interval_s, discrete)
        if fitting.regime is not None:
            numbers, regimes = those_that_occur(fitting.regime, regimes)
            fitting = replace(fitting, regime=numbers)
        curves = Curves()
        family = _fit_family(plan, fitting, report, curves)
        entity_families = None
        if plan.models == "per_entity":
            fresh = partial(_fit_alike, plan, family)
            ways = ways_to_fit(family, fresh, any_covariance="covariance" not in plan.options)
            entity_families = fit_entities(
                family, ways, fitting, model, n_models, jobs=plan.jobs, progress=report
            )
        density = Density(scaling, predictor, residual_scale, family, entity_families)
        needed = fewest_features(plan.min_features_share, z.shape[1])
        report("calibrating", 0, 1)
        calibrated = calibrate(
            density,
            scaling.standardise(rows.values, model[rows.entity]),
            rows.time,
            rows.lengths,
            model[rows.run_entity],
            rows.held_out,
            interval_s,
            needed,
            rows.run_entity,
            plan.typicality,
        )
        calibration, examples, evidence, conditionals, *_ = calibrated
        if not evidence.span_s.sum() > 0:
            raise ValueError(
                f"the {evidence.p_value.size} held-out records cover no time, so false alarms per time "
                "cannot be counted; check the field that the time is read from"
            )
        report("calibrating", 1, 1)
        measured_model = model_report(density, calibrated, fitting.x, to_fit, rows, model, curves, plan.seed)
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error

    scoring_model = ScoringModel(
        records.feature_names,
        tuple(plan.units.get(name) for name in records.feature_names),
        tuple(rows.names[i] for i in own),
        density,
        examples,
        calibration,
    )
    digest = _digest(rows)
    facts = TrainingFacts(
        records=len(records),
        fitting_records=len(to_fit.time),
        calibration_records=int(evidence.p_value.size),
        anomalous_records=n_anomalous,
        regime_records=0 if rows.regime is None else int((rows.regime >= 0).sum()),
        regimes=regimes,
        from_time_s=float(rows.time.min()),
        until_time_s=float(rows.time.max()),
        interval_s=interval_s,
        data_sha256=digest,
        seed=plan.seed,
        choices=_choices(family) | {"typicality": "on" if calibration.lower else "off"},
    )
    manifest = Manifest(
        format_version=1,
        detector=plan.detector,
        version=_version(now_s, f"{digest}{plan}"),
        created_time_s=now_s,
        family=plan.family,
        predictor=plan.predictor,
        evidence=family.evidence,
        features=tuple(
            ManifestFeature(
                name=name,
                unit=plan.units.get(name),
                kind=plan.kinds.get(name, "continuous"),
                modelled_as=kinds[j],
                vocabulary=None if (known := scoring_model.vocabulary(j)) is None else known.texts,
            )
            for j, name in enumerate(records.feature_names)
        ),
        entities=scoring_model.entities,
        models=plan.models,
        entities_with_own_family=scoring_model.entities_with_own_family,
        training=facts,
        held_out_mean_log_likelihood=_trimmed_mean(conditionals.log_likelihood[rows.held_out]),
        report=measured_model,
        libraries=_libraries(),
        files={},
    )
    return Bundle(manifest, scoring_model, evidence)


def _residual(
    rows: TrainingRows, z: FloatArray, scaling: Scaling, predictor: Predictor, model: IntArray
) -> FloatArray:
    """Return what a predictor leaves over of standardised records, shape (N, D).

    Args:
        rows: N records.
        z: The same, standardised.
        scaling: By what.
        predictor: Of the continuous features.
        model: Of each entity, shape (E,).
    """
    before = predictor.initial_state(len(rows.lengths))
    prediction = predict(
        predictor, scaling.continuous, before, z, rows.time, rows.lengths, model[rows.run_entity]
    )
    return z - prediction.expected


def _fit_family(plan: TrainingPlan, fitting: Fitting, report: Progress, curves: Curves) -> Family:
    x, lengths, discrete = fitting.x, fitting.lengths, fitting.discrete
    # Imported here: each brings a library of its own, and torch alone takes seconds.
    if plan.family == "gmm":
        from detector.training.fit_gmm import fit_gmm

        return fit_gmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            n_components=_options(plan, "n_components", texts=("covariance",)).get("n_components"),
            covariance=_text(plan, "covariance"),
        )
    if plan.family == "hmm":
        from detector.training.fit_hmm import fit_hmm

        options = _options(plan, "n_states", "n_mixtures")
        return fit_hmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            gap_s=fitting.gap_s,
            interval_s=fitting.interval_s,
            progress=report,
            record=curves.record,
            n_states=options.get("n_states"),
            n_mixtures=options.get("n_mixtures"),
        )
    if plan.family == "naive_bayes":
        from detector.training.fit_naive_bayes import fit_naive_bayes

        n_classes = _options(plan, "n_classes").get("n_classes")
        return fit_naive_bayes(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            n_classes=n_classes,
            kinds=None if discrete is None else discrete.kinds,
            n_categories=None if discrete is None else discrete.n_categories,
            regimes=fitting.regime,
        )
    if plan.family == "rbm":
        from detector.training.fit_rbm import fit_rbm

        n_hidden = _options(plan, "n_hidden").get("n_hidden")
        binary = None if discrete is None else np.isin(np.arange(x.shape[1]), discrete.columns)
        return fit_rbm(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            binary=binary,
            n_hidden=n_hidden,
        )
    if plan.family == "gan":
        from detector.training.fit_gan import fit_gan

        latent = _options(plan, "latent").get("latent")
        gan = fit_gan(x, lengths=lengths, seed=plan.seed, progress=report, latent=latent)
        for epoch, (coverage, precision, _) in enumerate(gan.outcome.watched.tolist(), start=1):
            curves.record("coverage, relative to training records'", "epoch", epoch, coverage)
            curves.record("precision, relative to training records'", "epoch", epoch, precision)
        return gan
    from detector.training.fit_vae import fit_vae

    options = _options(plan, "window", "latent")
    return fit_vae(
        x,
        lengths=lengths,
        seed=plan.seed,
        anomalous=fitting.anomalous,
        window=options.get("window", 1),
        latent=options.get("latent"),
        progress=report,
        record=curves.record,
    )


def _fit_alike(plan: TrainingPlan, pooled: Family, fitting: Fitting) -> Family:
    """Fit another family of the same size as the pooled one."""
    size = {}
    if isinstance(pooled, Hmm):
        size = {"n_states": pooled.n_states, "n_mixtures": pooled.n_mixtures}
    family = _fit_family(replace(plan, options={**plan.options, **size}), fitting, _no_report, Curves())
    if isinstance(family, Hmm):
        # The rows of one entity are too few to tell how soon a filter forgets where it began.
        known = {"warmup_records": pooled.arrays()["warmup_records"]}
        return Hmm.from_arrays(family.arrays() | known)
    return family


def _no_report(what: str, done: int, total: int) -> None:
    """Many fits at once have no order in which to report."""


def _options(plan: TrainingPlan, *numbers: str, texts: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the settings that are whole numbers, after refusing those that the family does not have."""
    known = (*numbers, *texts)
    unknown = sorted(set(plan.options) - set(known))
    if unknown:
        raise TrainingError(f"family {plan.family} has no setting {unknown}; it knows {', '.join(known)}")
    given = {}
    for name in numbers:
        value = plan.options.get(name)
        if isinstance(value, str):
            raise TrainingError(f"setting {name} of family {plan.family} is {value!r}; give a whole number")
        if value is not None:
            given[name] = value
    return given


def _text(plan: TrainingPlan, name: str) -> str | None:
    value = plan.options.get(name)
    return None if value is None else str(value)


def _choices(family: Family) -> dict[str, float | int | str]:
    """Return what the fit settled on, for the manifest."""
    shapes = {name: array.shape for name, array in family.arrays().items()}
    chosen: dict[str, float | int | str] = {"warmup_records": family.warmup_records}
    if "means" in shapes:
        chosen["components"] = shapes["means"][0]
    if "class_weights" in shapes:
        chosen["classes"] = shapes["class_weights"][0]
    if isinstance(family, Gmm):
        chosen["covariance"] = family.covariance
    if isinstance(family, Hmm):
        chosen["states"], chosen["mixtures"] = family.n_states, family.n_mixtures
    if isinstance(family, Rbm):
        chosen["hidden_units"] = family.n_hidden
        chosen["log_partition"] = family.log_partition
        chosen["log_partition_error"] = family.log_partition_error
    if isinstance(family, Gan):
        coverage, precision, _ = family.outcome.watched[family.outcome.best_epoch]
        chosen["latent_dimensions"] = family.n_latent
        chosen["relative_coverage"], chosen["relative_precision"] = float(coverage), float(precision)
        chosen["restarts"] = family.outcome.restarts
    return chosen


def _interval_s(rows: TrainingRows) -> float:
    """Return the median time between two records of an entity; 1 where time does not advance."""
    gaps = np.diff(rows.time)
    gaps = np.delete(gaps, starts_of(rows.lengths)[1:] - 1)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else 1.0


def _trimmed_mean(log_likelihood: FloatArray) -> float | None:
    """Return the mean without the highest and lowest hundredth: single rows would ruin a plain one."""
    finite = np.sort(log_likelihood[np.isfinite(log_likelihood)])
    cut = finite.size // 100
    trimmed = finite[cut : finite.size - cut]
    return float(trimmed.mean()) if trimmed.size else None


def _digest(rows: TrainingRows) -> str:
    digest = hashlib.sha256()
    digest.update("\0".join(rows.names).encode())
    for array in (np.bincount(rows.entity), rows.time, rows.values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _version(now_s: float, content: str) -> str:
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{hashlib.sha256(content.encode()).hexdigest()[:4]}"


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return found
