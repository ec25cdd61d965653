"""The committees that ``family: auto`` begins with, before anything else has earned its place."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from detector.models.kinds import Kind, modelled_as
from detector.scoring.time_scale import TimeScale
from detector.training.plan import AUTO, MemberPlan

HEAVY_TAILED: Mapping[str, int | str] = {"n_classes": 1, "density": "student"}

BELL_EACH: Mapping[str, int | str] = {"n_components": 1, "covariance": "diagonal"}
_BELL_EACH_BESIDE_TEXTS: Mapping[str, int | str] = {"n_classes": 1, "density": "gaussian"}
"""The same as naive Bayes has it, which also takes categories."""

# Where these say auto, the chosen predictor stands. A quick average of Gaussian surprise keeps the peaks. A
# slow one of surprise with heavy tails adds up what is faint and lasts, as far as a quick one confirms it.
_ORDERED = (
    MemberPlan("gmm", AUTO, options=BELL_EACH, time_scale=TimeScale(0.3)),
    MemberPlan("naive_bayes", AUTO, options=HEAVY_TAILED, time_scale=TimeScale(0.05, confirming=0.3)),
)
# One feature alone says little of where a record belongs: what departs from its level and from all of
# training, what departs from its last values and its usual one at this hour, and small departures of that
# kind that add up.
_ONE_FEATURE = (
    MemberPlan("gmm", "level_and_range", options=BELL_EACH, time_scale=TimeScale(0.5)),
    MemberPlan("gmm", "regression", options=BELL_EACH, time_scale=TimeScale(0.5)),
    MemberPlan("gmm", "regression", options=BELL_EACH, time_scale=TimeScale(0.2, averaged="deviation")),
)
FOLLOWING = MemberPlan("naive_bayes", "level", options=HEAVY_TAILED, time_scale=TimeScale(1 / 2))
"""A member that follows the level of an entity, wherever it goes after training."""
# What is usual of late may be wrong at this hour: a slow fall, at noon, to the level of the night. That is
# seldom, and plain where the hours tell much, so it is not to cost what the others hear.
_SEASON = MemberPlan("gmm", "seasonal", options=BELL_EACH, time_scale=TimeScale(0.3), share=0.01)
# A job that runs each hour, a machine that goes round: what is wrong for the phase is usual otherwise.
_CYCLE = MemberPlan("gmm", "cyclic", options=BELL_EACH, time_scale=TimeScale(0.3))
# A mixture beside it hears less of what people labelled in tables, and alone as well. Tables are seldom
# clean, so what is least likely among their numbers does not shape what is normal; but rare texts, flags and
# counts are rare by right, and without them a text would be no likelier than one that was never seen.
_TRIMMED: Mapping[str, int | str] = {"trimmed_percent": 20}
# Records of a sensor that only scatters tell nothing about one another, until one that lasts moves them all.
_DRIFT = MemberPlan(
    "gmm", "none", options=BELL_EACH, time_scale=TimeScale(0.05, averaged="deviation"), share=0.01
)
# A request that fails is not improbable where one in a hundred does; five of twenty that fail are, and how
# improbable each record is does not tell.
_FREQUENCY = MemberPlan(
    "naive_bayes",
    "none",
    options=_BELL_EACH_BESIDE_TEXTS,
    time_scale=TimeScale(0.05, averaged="frequency"),
    share=0.1,
)
# Every feature may be where it often is, and still not where the others say: they no longer go together.
_RELATION = MemberPlan(
    "gmm", "none", options={"n_components": 1, "covariance": "full"}, time_scale=TimeScale(0.2), share=0.003
)
# Among more features naive Bayes takes minutes to choose classes.
_MOST_FEATURES_CHOSEN = 200
_ONLY_DISCRETE = (MemberPlan("naive_bayes", "none"),)


def members_of_one_feature() -> list[MemberPlan]:
    """Return the members for records of one continuous feature."""
    return list(_ONE_FEATURE)


def ordered_members(predictor: str, kinds: Mapping[str, Kind]) -> list[MemberPlan]:
    """Return the members for records that depend on what came before.

    Args:
        predictor: Of the members that take the chosen one.
        kinds: Of the features, by name.
    """
    return [_beside_texts(member, kinds) for member in on_predictor(predictor, _ORDERED)]


def season_member(kinds: Mapping[str, Kind]) -> MemberPlan:
    """Return the member that knows what is usual at this time of day, for features of these kinds."""
    return _beside_texts(_SEASON, kinds)


def drift_member(kinds: Mapping[str, Kind]) -> MemberPlan:
    """Return the member that adds up small departures of records that tell nothing about one another."""
    return _beside_texts(_DRIFT, kinds)


def frequency_member() -> MemberPlan:
    """Return the member that counts how often discrete values come."""
    return _FREQUENCY


def relation_member() -> MemberPlan:
    """Return the member that knows how features go together."""
    return _RELATION


def cycle_member() -> MemberPlan:
    """Return the member that knows what is usual in this phase of a cycle, for one feature."""
    return _CYCLE


def independent_members(kinds: Mapping[str, Kind]) -> list[MemberPlan]:
    """Return the members for records that tell nothing about one another: each is judged by itself."""
    options = {} if set(kinds.values()) - {"continuous"} else _TRIMMED
    if len(kinds) > _MOST_FEATURES_CHOSEN:
        options = {**options, **HEAVY_TAILED}
    return those_that_take([MemberPlan("naive_bayes", "none", options=options)], kinds)


def mixture_beside(kinds: Mapping[str, Kind]) -> list[MemberPlan]:
    """Return the members of ``independent_members`` and a mixture, for labels to find better."""
    return [*independent_members(kinds), *those_that_take([MemberPlan("gmm", "none")], kinds)]


def discrete_members() -> list[MemberPlan]:
    """Return the members for records without a continuous feature."""
    return list(_ONLY_DISCRETE)


def on_predictor(predictor: str, members: Sequence[MemberPlan]) -> list[MemberPlan]:
    """Return the members with a predictor in the place of ``auto``."""
    return [
        replace(member, predictor=predictor) if member.predictor == AUTO else member for member in members
    ]


def those_that_take(members: Sequence[MemberPlan], kinds: Mapping[str, Kind]) -> list[MemberPlan]:
    """Return the members whose families can take every kind of feature."""
    return [member for member in members if _takes(member.family, kinds)]


def _beside_texts(member: MemberPlan, kinds: Mapping[str, Kind]) -> MemberPlan:
    """Return the member, as naive Bayes has it where its family cannot take every kind of feature."""
    if _takes(member.family, kinds):
        return member
    return replace(member, family="naive_bayes", options=_BELL_EACH_BESIDE_TEXTS)


def _takes(family: str, kinds: Mapping[str, Kind]) -> bool:
    try:
        for kind in kinds.values():
            modelled_as(kind, family)
    except ValueError:
        return False
    return True
