"""The configurations that the quality benchmark compares: a name, and what differs from the default."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from detector.models.families import FAMILIES
from detector.models.predictors import PREDICTORS
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.training.plan import CANDIDATES, MemberPlan

Changes = Mapping[str, Any]
"""Keys of a detector's configuration, nested as in the file, and what they are to be. The key ``without``
names one of ``WITHOUT``, or ``STEERING``: what no configuration turns off."""

DEFAULT: dict[str, Changes] = {"default": {}}
_QUICK = {
    "family": "gmm",
    "predictor": "autoregressive",
    "records": 3,
    "n_components": 1,
    "covariance": "diagonal",
}
_SLOW = {
    "family": "naive_bayes",
    "predictor": "autoregressive",
    "records": 20,
    "n_classes": 1,
    "density": "student",
}
STREAM_COMMITTEE = [_QUICK, _SLOW | {"confirming_records": 3}]
"""What training takes by default for records of several features that follow one another."""


def _by_itself(member: MemberPlan) -> MemberPlan:
    return replace(member, time_scale=BY_ITSELF)


def _unconfirmed(member: MemberPlan) -> MemberPlan:
    return replace(member, time_scale=TimeScale(member.time_scale.weight))


def _bell(member: MemberPlan) -> MemberPlan:
    tails = member.options.get("density") == "student"
    return replace(member, options={**member.options, "density": "gaussian"}) if tails else member


def _plain(member: MemberPlan) -> MemberPlan:
    return replace(member, options={})


def _alone(i: int) -> Callable[[list[MemberPlan]], list[MemberPlan]]:
    return lambda members: members[i : i + 1] or members


def _each(change: Callable[[MemberPlan], MemberPlan]) -> Callable[[list[MemberPlan]], list[MemberPlan]]:
    return lambda members: [change(member) for member in members]


STEERING = "steering"
WITHOUT: Mapping[str, Callable[[list[MemberPlan]], list[MemberPlan]]] = {
    "second member": _alone(0),
    "first member": _alone(1),
    "averages": _each(_by_itself),
    "confirmation": _each(_unconfirmed),
    "heavy tails": _each(_bell),
    "simple densities": _each(_plain),
    "level": lambda members: [member for member in members if member.predictor != "level"] or members,
}
"""What is done to the members that were chosen."""
ABLATIONS: dict[str, Changes] = {
    "default without further members": {"training": {"candidates": []}},
    **{f"default without {technique}": {"without": technique} for technique in WITHOUT},
    "default without predictor": {"predictor": "none"},
    "default without learning": {"training": {"learn": "off"}},
    "default without steering": {"without": STEERING},
    "default with episodes of two records": {"alerting": {"fire": {"m": 2, "of": 3}}},
    "default with VAE": {"training": {"candidates": [*CANDIDATES, "vae"]}},
}
"""What each technique is worth: the default without it, or with one that is off by default."""
GRID: dict[str, Changes] = {
    f"{family}, {predictor}": {"family": family, "predictor": predictor}
    for family in FAMILIES
    for predictor in PREDICTORS
}
"""Every family behind every predictor."""
