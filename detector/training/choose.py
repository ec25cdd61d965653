"""Choose what a plan leaves open, from the records alone: predictors first, then a committee."""

import logging
from dataclasses import replace
from typing import NamedTuple

from detector.batch import Batch, BoolArray
from detector.bundles.choice import Choice
from detector.training.backtest import rows_of
from detector.training.choose_predictor import PredictorChoice, choose_predictor, without_evidence
from detector.training.default_committee import discrete_members, independent_members, ordered_members
from detector.training.fitting_rows import Progress
from detector.training.plan import AUTO, MemberPlan, TrainingPlan
from detector.training.train_member import prepare
from detector.training.training_rows import TrainingError, newest_to_fit

_PREDICTOR_RECORDS, _PREDICTOR_RECORDS_EACH = 100_000, 10_000

_log = logging.getLogger(__name__)


class Chosen(NamedTuple):
    """A plan that leaves nothing open, and why."""

    plan: TrainingPlan
    choice: Choice | None
    """None where nothing was open."""


def choose(records: Batch, plan: TrainingPlan, report: Progress, anomalous: BoolArray | None) -> Chosen:
    """Close what a plan leaves open.

    Nothing of it looks at the newest 30 % of an entity's records, which calibrate what is chosen, nor at
    records labelled anomalous.

    Args:
        records: N training records in any order.
        plan: Perhaps with ``auto`` for the family, or for the predictor of a member.
        report: Told how far the choice is.
        anomalous: Which records are labelled so, shape (N,).

    Raises:
        TrainingError: The records cannot give a model.
        ValueError: So, too.
    """
    if plan.family != AUTO and all(member.predictor != AUTO for member in plan.members):
        return Chosen(plan, None)
    report("choosing", 0, 1)
    trial = _Trial(records, anomalous, plan)
    chosen = trial.committee() if plan.family == AUTO else trial.predictors()
    report("choosing", 1, 1)
    if chosen.choice is not None:
        for reason in chosen.choice.reasons:
            _log.info("chosen: %s", reason)
    return chosen


class _Trial:
    """Records to try things on, and the plan that is to be closed."""

    def __init__(self, records: Batch, anomalous: BoolArray | None, plan: TrainingPlan) -> None:
        kept = newest_to_fit(records, anomalous, _PREDICTOR_RECORDS, _PREDICTOR_RECORDS_EACH)
        self._records = rows_of(records, kept)
        self._anomalous = None if anomalous is None else anomalous[kept]
        self._plan = plan

    def committee(self) -> Chosen:
        """Choose predictor and members."""
        plan = self._plan
        if plan.kinds and all(kind != "continuous" for kind in plan.kinds.values()):
            return self._chosen(discrete_members(), (), ("no feature is continuous: naive Bayes",))
        found = self._predictor("naive_bayes")
        predictor, reasons = found.name, [found.reason]
        if plan.predictor != AUTO:
            predictor = plan.predictor
            reasons.append(f"predictor {predictor} is configured, for every member")
        if found.name == "none":
            reasons.append("no predictor is better than none: records are judged each by itself")
            members = independent_members(plan.kinds)
        else:
            members = ordered_members(predictor, plan.kinds)
        if plan.predictor != AUTO:
            members = [replace(member, predictor=predictor) for member in members]
        return self._chosen(members, (found,), tuple(reasons))

    def predictors(self) -> Chosen:
        """Choose the predictors of members whose families are given."""
        found = {
            member.family: self._predictor(member.family)
            for member in self._plan.members
            if member.predictor == AUTO
        }
        members = [
            replace(member, predictor=found[member.family].name) if member.predictor == AUTO else member
            for member in self._plan.members
        ]
        reasons = tuple(dict.fromkeys(f"{family}: {choice.reason}" for family, choice in found.items()))
        return self._chosen(members, tuple(found.values()), reasons)

    def _predictor(self, family: str) -> PredictorChoice:
        plan = replace(self._plan, family=family, predictor="none", models="pooled")
        try:
            material = prepare(self._records, plan, self._anomalous, None)
        except (TrainingError, ValueError) as error:
            return without_evidence((), f"the records to try on cannot be used: {error}")
        if material.only_discrete:
            return PredictorChoice("none", (), "predictor none: no feature is continuous")
        return choose_predictor(material, plan)

    def _chosen(
        self, members: list[MemberPlan], found: tuple[PredictorChoice, ...], reasons: tuple[str, ...]
    ) -> Chosen:
        unlike = [member for i, member in enumerate(members) if member not in members[:i]]
        predictors = found[0].tried if found else ()
        taken = f"taken: {'; '.join(member.name for member in unlike)}"
        return Chosen(
            self._plan.with_members(unlike), Choice(predictors=predictors, reasons=(*reasons, taken))
        )
