"""Choose what a plan leaves open, from the records alone: predictors first, then a committee."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import NamedTuple

import numpy as np

from detector.batch import Batch, BoolArray
from detector.bundles.choice import Choice, LabelledTried, PredictorTried
from detector.bundles.youth import enough_rows
from detector.models.kinds import Kind
from detector.training.choose_by_labels import FEWEST_RECORDS, choose_by_labels
from detector.training.choose_committee import CommitteeChoice, candidates_for, choose_committee
from detector.training.choose_predictor import PredictorChoice, choose_predictor, without_evidence
from detector.training.default_committee import (
    cycle_member,
    discrete_members,
    drift_member,
    frequency_member,
    independent_members,
    members_of_one_feature,
    mixture_beside,
    ordered_members,
    relation_member,
    season_member,
    those_that_take,
)
from detector.training.fitting_rows import Progress
from detector.training.plan import AUTO, MemberPlan, TrainingPlan
from detector.training.relations import nats_of_relations
from detector.training.train_member import expect, prepare
from detector.training.training_rows import HELD_OUT_SHARE, TrainingError, newest_to_fit

# To choose with: of all, and of an entity unless there are so few that more fit in.
_PREDICTOR_RECORDS, _PREDICTOR_RECORDS_EACH = 100_000, 10_000
_FAMILY_RECORDS, _FAMILY_RECORDS_EACH = 10_000, 2_000

# Committees on these predictors are compared where labels can tell.
_COMPARED = ("autoregressive", "seasonal", "last")

# Nats a record that the hours, a cycle or other features tell at least: as if half of a feature's variance
# were theirs.
_TELLS_MUCH = 0.35
_FREQUENCIES = "how often discrete values come is known to a member"
# What a covariance costs a record grows with the square of the features.
_MOST_RELATED = 200

_log = logging.getLogger(__name__)


class Chosen(NamedTuple):
    """A plan that leaves nothing open, and why."""

    plan: TrainingPlan
    choice: Choice | None
    """None where nothing was open."""


def choose(records: Batch, plan: TrainingPlan, report: Progress, anomalous: BoolArray | None) -> Chosen:
    """Close what a plan leaves open.

    Nothing of it looks at the newest 30 % of an entity's records, which calibrate what is chosen. Records
    labelled anomalous shape nothing; where there are enough among the newer ones of the rest, they judge.

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
    given = Given(records, anomalous)
    chosen = _predictors(given, plan) if plan.family != AUTO else _committee(given, plan, report)
    report("choosing", 1, 1)
    if chosen.choice is not None:
        for reason in chosen.choice.reasons:
            _log.info("chosen: %s", reason)
    return chosen


class Given(NamedTuple):
    """Training records, and which of them are labelled anomalous."""

    records: Batch
    anomalous: BoolArray | None

    def of_labelled_entities(self, anomalous: BoolArray) -> "Given":
        """Return the records of entities that have an anomalous one."""
        labelled = set(compress(self.records.entity, anomalous.tolist()))
        theirs = np.fromiter((e in labelled for e in self.records.entity), np.bool_, len(self.records))
        return Given(self.records.take(theirs), anomalous[theirs])

    def newest(self, most: int, most_each: int) -> "Given":
        """Return records to try something on, as ``newest_to_fit``."""
        kept = newest_to_fit(self.records, self.anomalous, most, most_each)
        return Given(self.records.take(kept), None if self.anomalous is None else self.anomalous[kept])


def _predictors(given: Given, plan: TrainingPlan) -> Chosen:
    """Choose the predictors of members whose families are given."""
    found = {
        member.family: _predictor(given, plan, member.family)
        for member in plan.members
        if member.predictor == AUTO
    }
    members = [
        replace(member, predictor=found[member.family].name) if member.predictor == AUTO else member
        for member in plan.members
    ]
    reasons = [f"{family}: {choice.reason}" for family, choice in found.items()]
    return _closed(plan, members, next(iter(found.values())).tried, reasons)


def _committee(given: Given, plan: TrainingPlan, report: Progress) -> Chosen:
    """Choose a predictor, and with it a committee; beside a configured one, by no labels or canaries."""
    kinds = {name: plan.kinds.get(name, "continuous") for name in given.records.feature_names}
    if "continuous" not in kinds.values():
        members, reasons = discrete_members(), ["no feature is continuous: naive Bayes"]
        if _have_frequencies(given.records, kinds) and frequency_member().family in plan.candidates:
            members, reasons = [*members, frequency_member()], [*reasons, _FREQUENCIES]
        return _closed(plan, members, (), reasons)
    if len(kinds) == 1 and plan.predictor == AUTO:
        reasons = ["one feature: what departs from its level or range or last values, or drifts from these"]
        tried = _predictor(given, plan, "gmm").tried
        members = members_of_one_feature()
        if _is_cyclic(given, plan, tried):
            members, reasons = (
                [*members, cycle_member()],
                [*reasons, "it goes in cycles: a member knows them"],
            )
        return _with_further_members(given, plan, members, kinds, tried, reasons, report)
    found = _predictor(given, plan, "naive_bayes")
    reasons = [found.reason]
    independent = found.name == "none"
    if independent:
        reasons.append("no predictor is better than none: records are judged each by itself")
    if plan.predictor != AUTO:
        reasons.append(f"predictor {plan.predictor} is configured, for every member")
        members = independent_members(kinds) if independent else ordered_members(plan.predictor, kinds)
        members = [replace(member, predictor=plan.predictor) for member in members]
        return _closed(plan, members, found.tried, reasons)
    members = independent_members(kinds) if independent else ordered_members(found.name, kinds)
    return _with_further_members(given, plan, members, kinds, found.tried, reasons, report)


def _with_further_members(
    given: Given,
    plan: TrainingPlan,
    members: list[MemberPlan],
    kinds: Mapping[str, Kind],
    predictors: tuple[PredictorTried, ...],
    reasons: list[str],
    report: Progress,
) -> Chosen:
    """Let labels, then canaries, say whether others do better, or a further member; then add what is seldom.

    That is what the hours tell, drift, and how features go together.
    """
    members, still_open, labelled = _labelled(given, plan, members, kinds, reasons)
    at_first, best = len(members), None
    if candidates_for(still_open, members, len(kinds)):
        trial = given.newest(_FAMILY_RECORDS, _FAMILY_RECORDS_EACH)
        best = choose_committee(*trial, still_open, members, report)
        members, reasons = best.members, [*reasons, best.reason]
    seasonal = season_member(kinds)
    room = len(members) == at_first
    if room and seasonal.family in plan.candidates and _is_seasonal(members, predictors):
        members, reasons = [*members, seasonal], [*reasons, "the hour tells much: a member knows it"]
    related, drifting, counting = relation_member(), drift_member(kinds), frequency_member()
    further = [] if labelled else [related, drifting, counting]
    found = [member for member in further if member.family in plan.candidates]
    if drifting in found and _may_drift(given.records, members):
        members, reasons = [*members, drifting], [*reasons, "small departures that last add up for a member"]
    if counting in found and _have_frequencies(given.records, kinds):
        members, reasons = [*members, counting], [*reasons, _FREQUENCIES]
    if related in found and _are_related(given, plan, kinds):
        members, reasons = [*members, related], [*reasons, "features go together: a member knows how"]
    return _closed(plan, members, predictors, reasons, best, labelled)


def _is_seasonal(members: Sequence[MemberPlan], tried: Sequence[PredictorTried]) -> bool:
    """Return whether the hour tells much of records, and no member knows it."""
    if {member.predictor for member in members} & {"none", "seasonal"}:
        return False
    nats = {entry.name: entry.nats for entry in tried}
    seasonal, none = nats.get("seasonal"), nats.get("none")
    return seasonal is not None and none is not None and seasonal - none > _TELLS_MUCH


def _may_drift(records: Batch, members: Sequence[MemberPlan]) -> bool:
    """Return whether all members judge each record by itself, and enough are held out to know averages."""
    alone = all(member.predictor == "none" and not member.time_scale.is_average for member in members)
    return alone and _enough_held_out(records)


def _have_frequencies(records: Batch, kinds: Mapping[str, Kind]) -> bool:
    """Return whether there are discrete features, and enough records are held out to know averages."""
    return bool(set(kinds.values()) - {"continuous"}) and _enough_held_out(records)


def _enough_held_out(records: Batch) -> bool:
    """Return whether enough records are held out to know how far averages go."""
    entities = len(set(records.entity))
    held_out = HELD_OUT_SHARE * len(records) / max(entities, 1)
    return held_out >= enough_rows(entities, len(records.feature_names))


def _are_related(given: Given, plan: TrainingPlan, kinds: Mapping[str, Kind]) -> bool:
    """Return whether up to 200 features tell much about one another, and averages can be known."""
    related = relation_member()
    takes_all = bool(those_that_take([related], kinds))
    if not (1 < len(kinds) <= _MOST_RELATED and takes_all and _enough_held_out(given.records)):
        return False
    trial = given.newest(_PREDICTOR_RECORDS, _PREDICTOR_RECORDS_EACH)
    member = replace(plan.with_members([related]), models="pooled")
    try:
        material = prepare(trial.records, member, trial.anomalous, None)
        return nats_of_relations(material, member) > _TELLS_MUCH
    except (TrainingError, ValueError) as error:
        _log.info("how features go together is not known: %s", error)
        return False


def _is_cyclic(given: Given, plan: TrainingPlan, tried: Sequence[PredictorTried]) -> bool:
    """Return whether a cycle tells much of records that nothing else tells, and all to fit go through one."""
    nats = {entry.name: entry.nats for entry in tried if entry.nats is not None}
    cyclic = nats.pop("cyclic", None)
    if cyclic is None or not nats or cyclic - max(nats.values()) <= _TELLS_MUCH:
        return False
    member = replace(plan, family="gmm", predictor="cyclic", models="pooled")
    try:
        expect(prepare(given.records, member, given.anomalous, None), member)
    except (TrainingError, ValueError):
        return False
    return True


def _labelled(
    given: Given, plan: TrainingPlan, members: list[MemberPlan], kinds: Mapping[str, Kind], reasons: list[str]
) -> tuple[list[MemberPlan], TrainingPlan, tuple[LabelledTried, ...]]:
    """Let labels choose among committees to begin with and further members, where there are enough of them.

    Returns:
        The members, a plan with the candidates that labels leave open, and what was tried. The reason is
        appended to the reasons.
    """
    ordered = [ordered_members(name, kinds) for name in _COMPARED]
    others = [*ordered, independent_members(kinds), mixture_beside(kinds)]
    if given.anomalous is None or np.count_nonzero(given.anomalous) < FEWEST_RECORDS:
        return members, plan, ()
    trial = given.of_labelled_entities(given.anomalous).newest(_FAMILY_RECORDS, _FAMILY_RECORDS_EACH)
    best = choose_by_labels(*trial, plan, [members, *(other for other in others if other != members)])
    if best is None:
        return members, plan, ()
    reasons.append(best.reason)
    return best.members, replace(plan, candidates=best.undecided), best.tried


def _predictor(given: Given, plan: TrainingPlan, family: str) -> PredictorChoice:
    trial = given.newest(_PREDICTOR_RECORDS, _PREDICTOR_RECORDS_EACH)
    plan = replace(plan, family=family, predictor="none", models="pooled")
    try:
        material = prepare(trial.records, plan, trial.anomalous, None)
    except (TrainingError, ValueError) as error:
        return without_evidence((), f"the records to try on cannot be used: {error}")
    if material.only_discrete:
        return PredictorChoice("none", (), "predictor none: no feature is continuous")
    return choose_predictor(material, plan)


def _closed(
    plan: TrainingPlan,
    members: Sequence[MemberPlan],
    predictors: tuple[PredictorTried, ...],
    reasons: Sequence[str],
    best: CommitteeChoice | None = None,
    labelled: tuple[LabelledTried, ...] = (),
) -> Chosen:
    unlike = [member for i, member in enumerate(members) if member not in members[:i]]
    taken = f"taken: {'; '.join(member.name for member in unlike)}"
    choice = Choice(
        predictors=predictors,
        committees=() if best is None else best.tried,
        labelled=labelled,
        canaries=0 if best is None else best.canaries,
        reasons=(*reasons, taken),
    )
    return Chosen(plan.with_members(unlike), choice)
