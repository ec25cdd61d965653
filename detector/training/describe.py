"""What a job writes into the manifest: where a model comes from, what it is, and how to know it again."""

import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version

import numpy as np

from detector.batch import FloatArray
from detector.bundles.manifest import Manifest, ManifestFeature, TrainingFacts
from detector.bundles.report import ModelReport
from detector.models.kinds import Kind
from detector.scoring.scoring_model import ScoringModel
from detector.training.calibrate import Calibrated
from detector.training.fit_family import choices_of
from detector.training.plan import TrainingPlan
from detector.training.training_rows import TrainingRows

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "hmmlearn", "torch", "safetensors")


def describe(
    plan: TrainingPlan,
    model: ScoringModel,
    calibrated: Calibrated,
    rows: TrainingRows,
    to_fit: TrainingRows,
    now_s: float,
    *,
    records: int,
    interval_s: float,
    kinds: Sequence[Kind],
    regimes: tuple[str, ...],
    report: ModelReport,
) -> Manifest:
    """Return the manifest, but for the files.

    Args:
        plan: What was to be learnt.
        model: What was.
        calibrated: On which held-out rows.
        rows: Without those labelled anomalous.
        to_fit: Those of them that were fitted.
        now_s: The time of the version, seconds since 1970 UTC.
        records: How many were given, the anomalous ones too.
        interval_s: The usual time between two records of an entity.
        kinds: What each feature is modelled as, length D.
        regimes: Names of the labelled regimes.
        report: What the model is worth.
    """
    family, digest = model.density.family, _digest(rows)
    typicality = "on" if calibrated.calibration.lower else "off"
    facts = TrainingFacts(
        records=records,
        fitting_records=len(to_fit.time),
        calibration_records=int(calibrated.held_out.p_value.size),
        anomalous_records=records - len(rows.time),
        regime_records=0 if rows.regime is None else int((rows.regime >= 0).sum()),
        regimes=regimes,
        from_time_s=float(rows.time.min()),
        until_time_s=float(rows.time.max()),
        interval_s=interval_s,
        data_sha256=digest,
        seed=plan.seed,
        choices=choices_of(family) | {"typicality": typicality},
    )
    return Manifest(
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
                vocabulary=None if (known := model.vocabulary(j)) is None else known.texts,
            )
            for j, name in enumerate(model.feature_names)
        ),
        entities=model.entities,
        models=plan.models,
        entities_with_own_family=model.entities_with_own_family,
        training=facts,
        held_out_mean_log_likelihood=_trimmed_mean(calibrated.conditionals.log_likelihood[rows.held_out]),
        report=report,
        libraries=_libraries(),
        files={},
    )


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
