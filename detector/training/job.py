"""The offline job: read records, fit, calibrate on the newest of them, save a bundle."""

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version

import numpy as np

from detector.batch import Batch, FloatArray, IntArray
from detector.bundles.manifest import Manifest, ManifestFeature, TrainingFacts
from detector.bundles.serving import fewest_features
from detector.bundles.store import Bundle
from detector.models.contract import Family
from detector.models.families import FAMILIES
from detector.models.gan import Gan
from detector.models.gmm import Gmm
from detector.models.predictors import NoPredictor
from detector.models.rbm import Rbm
from detector.models.scaling import fit_scaling
from detector.models.sequences import runs_of, starts_of
from detector.scoring.scoring_model import Density, ScoringModel
from detector.training.calibrate import calibrate
from detector.training.fit_predictor import fit_predictor, fit_residual_scale

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total."""

_HELD_OUT_SHARE = 0.3
# An entity with fewer fitting rows is scored by the pooled model.
_FEWEST_OWN_ROWS = 100
_FEWEST_ROWS = 30
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "hmmlearn", "torch", "safetensors")


class TrainingError(RuntimeError):
    """The records cannot give a model; the message says which and what to do. No bundle was written."""


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
    units: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, int | str] = field(default_factory=dict)
    """Settings of the family: ``n_components`` and ``covariance`` (gmm), ``n_states`` (hmm), ``n_classes``
    (naive_bayes), ``n_hidden`` (rbm), ``window`` and ``latent`` (vae), ``latent`` (gan)."""


def train(records: Batch, plan: TrainingPlan, now_s: float, progress: Progress | None = None) -> Bundle:
    """Fit, calibrate and describe a model; saving it is the caller's.

    The newest 30 % of every entity's records are held out in time: they shape no density, and calibrate.

    Args:
        records: Training records in any order; NaN is missing.
        plan: What to learn.
        now_s: The time written into the version, seconds since 1970 UTC.
        progress: Told how far the job is.

    Raises:
        TrainingError: The records cannot give a model.
    """
    report = progress or (lambda what, done, total: None)
    if plan.family not in FAMILIES:
        raise TrainingError(f"no family is called {plan.family!r}; this version knows {', '.join(FAMILIES)}")
    report("preparing", 0, 1)
    ordered = _ordered(records)
    _check(ordered)
    names, lengths, of_entity = (
        ordered.names,
        ordered.lengths,
        np.repeat(np.arange(len(ordered.lengths)), ordered.lengths),
    )
    position = np.arange(len(ordered.time)) - np.repeat(starts_of(lengths), lengths)
    fitting_of = np.floor(lengths * (1 - _HELD_OUT_SHARE)).astype(np.int64)
    held_out = position >= np.repeat(fitting_of, lengths)

    own = np.flatnonzero(fitting_of >= _FEWEST_OWN_ROWS)
    model = np.full(len(lengths), own.size, dtype=np.int64)
    model[own] = np.arange(own.size)
    n_models = own.size + 1
    of_row = model[of_entity]

    fit_rows = ~held_out
    scaling = fit_scaling(ordered.values[fit_rows], of_row[fit_rows], n_models)
    z = scaling.standardise(ordered.values, of_row)
    fit_lengths = fitting_of[fitting_of > 0]
    fit_model = model[fitting_of > 0]
    fit_time = ordered.time[fit_rows]
    try:
        predictor = fit_predictor(
            plan.predictor, z[fit_rows], fit_time, fit_lengths, fit_model, n_models, plan.order
        )
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error
    prediction = predictor.scan(
        predictor.initial_state(len(fit_lengths)), z[fit_rows], fit_time, fit_lengths, fit_model
    )
    residual = z[fit_rows] - prediction.expected
    warmed_up = position[fit_rows] >= predictor.warmup_records
    fit_of_row = of_row[fit_rows]
    if not isinstance(predictor, NoPredictor):
        residual_scale = fit_residual_scale(
            residual[warmed_up], z[fit_rows][warmed_up], fit_of_row[warmed_up], n_models
        )
    else:
        residual_scale = np.ones((n_models, z.shape[1]))
    residual /= residual_scale[fit_of_row]
    report("preparing", 1, 1)

    try:
        interval_s = _interval_s(ordered)
        gap_s = np.diff(ordered.time, prepend=np.nan)
        gap_s[starts_of(lengths)] = np.nan
        family = _fit_family(
            plan,
            residual[warmed_up],
            runs_of(of_entity[fit_rows][warmed_up]),
            gap_s[fit_rows][warmed_up],
            interval_s,
            report,
        )
        density = Density(scaling, predictor, residual_scale, family)
        needed = fewest_features(plan.min_features_share, z.shape[1])
        report("calibrating", 0, 1)
        calibration, examples, evidence, conditionals = calibrate(
            density, z, ordered.time, lengths, model, held_out, interval_s, needed
        )
        report("calibrating", 1, 1)
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error

    scoring_model = ScoringModel(
        records.feature_names,
        tuple(plan.units.get(name) for name in records.feature_names),
        tuple(names[i] for i in own),
        density,
        examples,
        calibration,
    )
    digest = _digest(ordered)
    facts = TrainingFacts(
        records=len(ordered.time),
        fitting_records=int(fit_rows.sum()),
        calibration_records=int(evidence.p_value.size),
        from_time_s=float(ordered.time.min()),
        until_time_s=float(ordered.time.max()),
        interval_s=interval_s,
        data_sha256=digest,
        seed=plan.seed,
        choices=_choices(family),
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
            ManifestFeature(name=name, unit=plan.units.get(name)) for name in records.feature_names
        ),
        entities=scoring_model.entities,
        training=facts,
        held_out_mean_log_likelihood=_trimmed_mean(conditionals.log_likelihood[held_out]),
        libraries=_libraries(),
        files={},
    )
    return Bundle(manifest, scoring_model, evidence)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Training records entity after entity, each in time order."""

    feature_names: tuple[str, ...]
    names: list[str]
    lengths: IntArray
    time: FloatArray
    values: FloatArray


def _ordered(records: Batch) -> _Ordered:
    if len(records) == 0:
        raise TrainingError("there are no records to train on; check the file, the topic and the time range")
    names, entity = np.unique(np.array(records.entity, dtype=object), return_inverse=True)
    # Stable in both keys: records of the same time stay in the order in which they came.
    by_time = np.argsort(records.time, kind="stable")
    order = by_time[np.argsort(entity[by_time], kind="stable")]
    return _Ordered(
        records.feature_names,
        [str(name) for name in names],
        runs_of(entity[order].astype(np.int64)),
        records.time[order],
        records.values[order],
    )


def _check(ordered: _Ordered) -> None:
    n, d = ordered.values.shape
    if d == 0:
        raise TrainingError("the records have no features; name at least one")
    infinite = np.isinf(ordered.values)
    if infinite.any():
        row, column = (int(i) for i in np.argwhere(infinite)[0])
        raise TrainingError(
            f"feature {ordered.feature_names[column]!r} is infinite in {int(infinite[:, column].sum())} "
            f"records (first at time {ordered.time[row]}); drop those or mark the value as missing"
        )
    if n < _FEWEST_ROWS:
        raise TrainingError(
            f"{n} records are too few to fit and calibrate on; give at least {_FEWEST_ROWS}, "
            "better some thousands"
        )
    fitting = np.floor(ordered.lengths * (1 - _HELD_OUT_SHARE))
    position = np.arange(n) - np.repeat(starts_of(ordered.lengths), ordered.lengths)
    fit_values = ordered.values[position < np.repeat(fitting, ordered.lengths)]
    present = [bool((~np.isnan(column)).any()) for column in fit_values.T]
    if not all(present):
        absent = [name for name, here in zip(ordered.feature_names, present, strict=True) if not here]
        raise TrainingError(
            f"features {absent} have no value in the oldest 70 % of the records; check their names "
            "(field paths) or leave them out"
        )


def _fit_family(
    plan: TrainingPlan,
    x: FloatArray,
    lengths: IntArray,
    gap_s: FloatArray,
    interval_s: float,
    report: Progress,
) -> Family:
    # Imported here: each brings a library of its own, and torch alone takes seconds.
    if plan.family == "gmm":
        from detector.training.fit_gmm import fit_gmm

        return fit_gmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            n_components=_options(plan, "n_components", texts=("covariance",)).get("n_components"),
            covariance=_text(plan, "covariance"),
        )
    if plan.family == "hmm":
        from detector.training.fit_hmm import fit_hmm

        n_states = _options(plan, "n_states").get("n_states")
        return fit_hmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            gap_s=gap_s,
            interval_s=interval_s,
            progress=report,
            n_states=n_states,
        )
    if plan.family == "naive_bayes":
        from detector.training.fit_naive_bayes import fit_naive_bayes

        n_classes = _options(plan, "n_classes").get("n_classes")
        return fit_naive_bayes(x, lengths=lengths, seed=plan.seed, progress=report, n_classes=n_classes)
    if plan.family == "rbm":
        from detector.training.fit_rbm import fit_rbm

        n_hidden = _options(plan, "n_hidden").get("n_hidden")
        return fit_rbm(x, lengths=lengths, seed=plan.seed, progress=report, n_hidden=n_hidden)
    if plan.family == "gan":
        from detector.training.fit_gan import fit_gan

        latent = _options(plan, "latent").get("latent")
        return fit_gan(x, lengths=lengths, seed=plan.seed, progress=report, latent=latent)
    from detector.training.fit_vae import fit_vae

    options = _options(plan, "window", "latent")
    return fit_vae(
        x,
        lengths=lengths,
        seed=plan.seed,
        window=options.get("window", 1),
        latent=options.get("latent"),
        progress=report,
    )


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


def _interval_s(ordered: _Ordered) -> float:
    """Return the median time between two records of an entity; 1 where time does not advance."""
    gaps = np.diff(ordered.time)
    gaps = np.delete(gaps, starts_of(ordered.lengths)[1:] - 1)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else 1.0


def _trimmed_mean(log_likelihood: FloatArray) -> float | None:
    """Return the mean without the highest and lowest hundredth: single rows would ruin a plain one."""
    finite = np.sort(log_likelihood[np.isfinite(log_likelihood)])
    cut = finite.size // 100
    trimmed = finite[cut : finite.size - cut]
    return float(trimmed.mean()) if trimmed.size else None


def _digest(ordered: _Ordered) -> str:
    digest = hashlib.sha256()
    digest.update("\0".join(ordered.names).encode())
    for array in (ordered.lengths, ordered.time, ordered.values):
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
