"""Whether another family earns a place in a committee: by canaries that it finds, and by how steady it is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.batch import Batch, BoolArray
from detector.bundles.choice import CommitteeTried
from detector.scoring.time_scale import TimeScale
from detector.training.canary_trial import CanaryTrial, Heard, together
from detector.training.default_committee import BELL_EACH, FOLLOWING, on_predictor, those_that_take
from detector.training.fit_predictor import LARGEST_ORDER
from detector.training.fit_to_try import fit_to_try
from detector.training.fitting_rows import Progress
from detector.training.plan import AUTO, MemberPlan, TrainingPlan
from detector.training.train_member import FittedMember

_ON_REQUEST = ("vae", "rbm", "gan")
# Tried as a further member; auto is the chosen predictor. A mixture of full covariances on what the predictor
# leaves is none of them: it hears more of almost any canary, and less of incidents that people labelled.
_CANDIDATES = (
    FOLLOWING,
    MemberPlan("hmm", AUTO, time_scale=TimeScale(1 / 3)),
    MemberPlan("gmm", "none"),
    *(MemberPlan(family, AUTO, time_scale=TimeScale(1 / 3)) for family in _ON_REQUEST),
)
# Where records tell nothing about one another, naive Bayes is the member, and mixtures find less.
_INDEPENDENT_CANDIDATES = tuple(MemberPlan(family, "none") for family in _ON_REQUEST)
# One feature may have several levels, or ways to move, between which it goes: what is between them, and what
# stays too long or comes out of turn, is near its level and last values.
_ONE_FEATURE_CANDIDATES = (
    MemberPlan("hmm", "none", time_scale=TimeScale(1 / 3)),
    MemberPlan("hmm", "autoregressive", time_scale=TimeScale(1 / 3)),
    MemberPlan("gmm", "none"),
    MemberPlan("gmm", "autoregressive", LARGEST_ORDER, BELL_EACH, TimeScale(1 / 3)),
    *(MemberPlan(family, "none", time_scale=TimeScale(1 / 3)) for family in _ON_REQUEST),
)
_FEWEST_CANARIES = 60
_LEAST_GAIN = 0.1
_MOST_UNSTEADY = 0.05


class CommitteeChoice(NamedTuple):
    """Which members, and what was tried."""

    members: list[MemberPlan]
    tried: tuple[CommitteeTried, ...]
    canaries: int
    reason: str


def choose_committee(
    records: Batch,
    anomalous: BoolArray | None,
    plan: TrainingPlan,
    members: list[MemberPlan],
    report: Progress,
) -> CommitteeChoice:
    """Try candidates as a further member, and take the one that makes the committee clearly better.

    Every member is fitted on the older part of the records and listens to the newer part, and to copies of it
    with canaries. A committee is worth the share of canaries that it hears louder than all but one in twenty
    normal stretches. A further member is taken if that share rises by more than 0.1 and more than twice its
    standard error, and if newer normal stretches do not get much louder than they were. Where records are too
    few to tell, there is none.

    Args:
        records: That shall calibrate nothing.
        anomalous: Which are labelled so, shape (N,).
        plan: All but the members.
        members: To begin with; the first one's predictor is the chosen one.
        report: Told how far it is.
    """
    candidates = candidates_for(plan, members, len(records.feature_names))
    fitted = [fit_to_try(records, anomalous, plan, member) for member in members]
    present = [member for member in fitted if member is not None]
    trial = _trial(present[0], plan) if len(present) == len(members) else None
    if trial is None:
        return CommitteeChoice(members, (), 0, "records are too few to try further members on")

    heard = [trial.hear(member) for member in present]
    first = together(heard)
    committees = [(members, first, "")]
    for i, candidate in enumerate(candidates):
        report("choosing", i, len(candidates))
        other = fit_to_try(records, anomalous, plan, candidate)
        if other is not None:
            larger = together([*heard, trial.hear(other)])
            committees.append(([*members, candidate], larger, _why_not(larger, first)))
    # Of equals, the one that was tried first.
    best = max((entry for entry in committees if not entry[2]), key=_recall)
    rest = [entry for entry in committees if entry is not best]
    others = beside([f"{_recall(entry):.0%}" for entry in rest])
    reason = f"{_recall(best):.0%} of {trial.n_canaries} made anomalies found, {others}"
    tried = (_described(*best), *(_described(*entry) for entry in rest))
    return CommitteeChoice(best[0], tried, trial.n_canaries, reason)


def beside(others: Sequence[str]) -> str:
    """Return what was found of the committees that were not taken, in words."""
    return f"other committees {', '.join(others)}" if others else "no other committee to compare with"


def candidates_for(plan: TrainingPlan, members: Sequence[MemberPlan], n_features: int) -> list[MemberPlan]:
    """Return the further members that a plan wants to be tried, beside those that a committee begins with."""
    predictor = members[0].predictor
    if n_features == 1:
        known = _ONE_FEATURE_CANDIDATES
    else:
        known = _INDEPENDENT_CANDIDATES if predictor == "none" else _CANDIDATES
    wanted = [member for family in plan.candidates for member in known if member.family == family]
    return on_predictor(predictor, those_that_take(wanted, plan.kinds))


def _trial(member: FittedMember, plan: TrainingPlan) -> CanaryTrial | None:
    """Return a trial on the records of a member; None where there is too little room for canaries."""
    names = member.material.rows.feature_names
    continuous = np.array([plan.kinds.get(name, "continuous") == "continuous" for name in names])
    trial = CanaryTrial(member.material, continuous, plan.seed)
    return trial if trial.n_canaries >= _FEWEST_CANARIES else None


def _recall(entry: tuple[list[MemberPlan], Heard, str]) -> float:
    return float(entry[1].found.mean())


def _why_not(other: Heard, first: Heard) -> str:
    """Return why a committee is not taken in the place of the first; empty where it may be."""
    difference = other.found.astype(np.float64) - first.found
    margin = max(_LEAST_GAIN, 2.0 * float(difference.std()) / np.sqrt(difference.size))
    if difference.mean() <= margin:
        return "not clearly better"
    return "" if other.newer_alarms <= first.newer_alarms + _MOST_UNSTEADY else "newer records alarm"


def _described(members: Sequence[MemberPlan], heard: Heard, note: str) -> CommitteeTried:
    return CommitteeTried(
        members=tuple(member.name for member in members),
        recall=float(heard.found.mean()),
        older_alarms=heard.older_alarms,
        newer_alarms=heard.newer_alarms,
        note=note,
    )
