"""The offline job: records in, a bundle out: fit on the older ones, calibrate on the newest, describe."""

from collections.abc import Sequence

from detector.batch import Batch, BoolArray
from detector.bundles.store import Bundle
from detector.models.feature_transforms import rate_unit
from detector.scoring.scoring_model import ScoringModel
from detector.training.choose import choose
from detector.training.convene import convene
from detector.training.describe import describe
from detector.training.fit_family import no_report
from detector.training.fitting_rows import Progress as Progress
from detector.training.plan import TrainingPlan as TrainingPlan
from detector.training.remarks import remark
from detector.training.report import committee_report
from detector.training.train_member import TrainedMember, train_member
from detector.training.training_rows import TrainingError as TrainingError


def train(
    records: Batch,
    plan: TrainingPlan,
    now_s: float,
    progress: Progress | None = None,
    *,
    anomalous: BoolArray | None = None,
    regime: Sequence[str | None] | None = None,
    left_out: int = 0,
) -> Bundle:
    """Fit, calibrate and describe a model; saving it is the caller's.

    The newest 30 % of every entity's records are held out in time: they shape no density, and calibrate.
    Records labelled anomalous do neither, and an entity's past begins anew after them; only a ``vae`` gets to
    see them, in the windows of the records that follow, and learns neither from them nor from what leans on
    them.

    Args:
        records: N training records in any order; NaN is missing.
        plan: What to learn; what it leaves open is chosen by what the records show.
        now_s: The time written into the version, seconds since 1970 UTC.
        progress: Told how far the job is.
        anomalous: Which records are labelled anomalous, shape (N,).
        regime: Which normal regime was at work, by name, length N; None is unknown. Of use to the family
            ``naive_bayes`` alone.
        left_out: How many more records there were, for the manifest.

    Raises:
        TrainingError: The records cannot give a model.
    """
    report = progress or no_report
    try:
        plan, choice = choose(records, plan, report, anomalous)
        members: list[TrainedMember] = []
        for own in plan.of_members():
            prepared = members[0].material if members else None
            members.append(train_member(records, own, report, anomalous, regime, prepared))
        material = members[0].material
        remark(material, plan)
        convened = convene(
            [member.calibrated for member in members],
            material,
            tuple(member.plan.share for member in members),
        )
    except ValueError as error:
        raise TrainingError(f"detector {plan.detector!r}: {error}") from error

    names = records.feature_names
    model = ScoringModel(
        names,
        tuple(_unit(name, plan) for name in names),
        tuple(material.rows.names[i] for i in material.own),
        tuple(trained.member for trained in members),
        convened.committee,
        material.transforms,
    )
    manifest = describe(
        plan,
        model,
        members,
        convened.held_out,
        now_s,
        records=len(records),
        left_out=left_out,
        choice=choice,
        report=committee_report(model, convened.checked_p_value, records, material.interval_s),
    )
    return Bundle(manifest, model, convened.held_out)


def _unit(name: str, plan: TrainingPlan) -> str | None:
    unit = plan.units.get(name)
    return rate_unit(unit) if plan.types.get(name) == "counter" else unit
