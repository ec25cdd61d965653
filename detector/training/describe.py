"""What a job writes into the manifest: where a model comes from, what it is, and how to know it again."""

import hashlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version

import numpy as np

from detector import __version__
from detector.alerting.budget import HeldOut, entities_at_once
from detector.bundles.choice import Choice
from detector.bundles.manifest import FORMAT_VERSION, Manifest, ManifestFeature, ManifestMember, TrainingFacts
from detector.bundles.part_of_week import weekend_share
from detector.bundles.report import CommitteeReport
from detector.scoring.scoring_model import ScoringModel
from detector.training.choose_predictor import trimmed_mean
from detector.training.fit_family import choices_of
from detector.training.plan import TrainingPlan
from detector.training.train_member import TrainedMember
from detector.training.training_rows import TrainingRows

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "hmmlearn", "torch", "safetensors")


def describe(
    plan: TrainingPlan,
    model: ScoringModel,
    members: Sequence[TrainedMember],
    held_out: HeldOut,
    now_s: float,
    *,
    records: int,
    left_out: int = 0,
    choice: Choice | None = None,
    report: CommitteeReport | None = None,
) -> Manifest:
    """Return the manifest, but for the files.

    Args:
        plan: What was to be learnt.
        model: What was.
        members: In their order, at least one.
        held_out: What the committee says of held-out traffic.
        now_s: The time of the version, seconds since 1970 UTC.
        records: How many were given, the anomalous ones too.
        left_out: How many more there were.
        choice: Why this committee, where the plan left it open.
        report: What the members are worth together.
    """
    material = members[0].material
    rows, digest = material.rows, _digest(material.rows)
    regimes = tuple(dict.fromkeys(name for member in members for name in member.regimes))
    facts = TrainingFacts(
        records=records,
        left_out_records=left_out,
        fitting_records=len(material.to_fit.time),
        calibration_records=int(held_out.p_value.size),
        anomalous_records=records - len(rows.time),
        regime_records=0 if rows.regime is None else int((rows.regime >= 0).sum()),
        regimes=regimes,
        from_time_s=float(rows.time.min()),
        until_time_s=float(rows.time.max()),
        entities_at_once=entities_at_once(rows.entity, rows.time),
        weekend_share=weekend_share(material.to_fit.time),
        interval_s=material.interval_s,
        data_sha256=digest,
        seed=plan.seed,
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        written_by=__version__,
        detector=plan.detector,
        version=_version(now_s, f"{digest}{plan}{now_s}"),
        created_time_s=now_s,
        members=tuple(_described(member) for member in members),
        features=tuple(
            ManifestFeature(
                name=name,
                unit=model.units[j],
                type=plan.types.get(name, "gauge"),
                scale=plan.scales.get(name, "linear"),
                kind=plan.kinds.get(name, "continuous"),
                vocabulary=None if (known := model.vocabulary(j)) is None else known.texts,
            )
            for j, name in enumerate(model.feature_names)
        ),
        entities=model.entities,
        time_zone=plan.time_zone,
        models=plan.models,
        entities_with_own_family=model.entities_with_own_family,
        training=facts,
        choice=choice,
        report=report,
        libraries=_libraries(),
        files={},
    )


def _described(member: TrainedMember) -> ManifestMember:
    family, calibrated, rows = member.member.density.family, member.calibrated, member.material.rows
    in_units = calibrated.conditionals.log_likelihood + member.material.transforms.log_derivative(rows.values)
    typicality = "on" if calibrated.calibration.lower else "off"
    return ManifestMember(
        family=member.plan.family,
        predictor=member.plan.predictor,
        evidence=family.evidence,
        weight=member.plan.time_scale.weight,
        averaged=member.plan.time_scale.averaged,
        confirming_weight=member.plan.time_scale.confirming,
        share=member.plan.share,
        modelled_as=member.material.kinds,
        choices=choices_of(family) | {"typicality": typicality},
        held_out_mean_log_likelihood=trimmed_mean(in_units[rows.held_out]),
        report=member.report,
    )


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
