"""The configurations that the quality benchmark compares: a name, and what differs from the default."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from detector.config.members import MOST_MEMBERS
from detector.models.families import FAMILIES
from detector.models.predictors import PREDICTORS
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.training.plan import CANDIDATES, MemberPlan

Changes = Mapping[str, Any]
"""Keys of a detector's configuration, nested as in the file, and what they are to be. Three keys are no part
of it: ``committee`` names one of ``COMMITTEES``, ``steering: off`` leaves thresholds where they begin, and
``echo: off`` lets what is weaker than a moment ago be news."""

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


_THREE = TimeScale(1 / 3)
# A VAE takes no fewer, of which part is held out.
_FEWEST_FOR_VAE = 400


def _by_itself(member: MemberPlan) -> MemberPlan:
    return replace(member, time_scale=BY_ITSELF)


def _unconfirmed(member: MemberPlan) -> MemberPlan:
    return replace(member, time_scale=replace(member.time_scale, confirming=None))


def _bell(member: MemberPlan) -> MemberPlan:
    tails = member.options.get("density") == "student"
    return replace(member, options={**member.options, "density": "gaussian"}) if tails else member


def _plain(member: MemberPlan) -> MemberPlan:
    return replace(member, options={})


def _alone(i: int) -> "CommitteeChange":
    return lambda members, _: members[i : i + 1] or members


def _each(change: Callable[[MemberPlan], MemberPlan]) -> "CommitteeChange":
    return lambda members, _: [change(member) for member in members]


def _without_level(members: list[MemberPlan], _: int) -> list[MemberPlan]:
    others = [member for member in members if member.predictor != "level"] or members
    return [_on(member, "level_and_range", "none") for member in others]


def _without_range(members: list[MemberPlan], _: int) -> list[MemberPlan]:
    return [_on(member, "level_and_range", "level") for member in members]


def _on(member: MemberPlan, predictor: str, other: str) -> MemberPlan:
    return replace(member, predictor=other) if member.predictor == predictor else member


def _without_drift(members: list[MemberPlan], _: int) -> list[MemberPlan]:
    return [member for member in members if not member.time_scale.adds_up] or members


def _unlearnt(member: MemberPlan) -> MemberPlan:
    return _on(member, "regression", "autoregressive")


def _with_vae(members: list[MemberPlan], records: int) -> list[MemberPlan]:
    if len(members) >= MOST_MEMBERS or records < _FEWEST_FOR_VAE:
        return members
    predictor = members[0].predictor
    return [*members, MemberPlan("vae", predictor, time_scale=BY_ITSELF if predictor == "none" else _THREE)]


CommitteeChange = Callable[[list[MemberPlan], int], list[MemberPlan]]
"""What is made of the members that were chosen, and of how many training records there are."""
COMMITTEES: Mapping[str, CommitteeChange] = {
    "with first member alone": _alone(0),
    "with second member alone": _alone(1),
    "without averages": _each(_by_itself),
    "without confirmation": _each(_unconfirmed),
    "without heavy tails": _each(_bell),
    "without simple densities": _each(_plain),
    "without level": _without_level,
    "without range": _without_range,
    "without drift": _without_drift,
    "without regression learnt on": _each(_unlearnt),
    "with VAE always": _with_vae,
}
ABLATIONS: dict[str, Changes] = {
    "default without further members": {"training": {"candidates": []}},
    **{f"default {change}": {"committee": change} for change in COMMITTEES},
    "default without predictor": {"predictor": "none"},
    "default without learning": {"training": {"learn": "off"}},
    "default without steering": {"steering": "off"},
    "default without release of what lasts": {"alerting": {"release_after": None}},
    "default without echo": {"echo": "off"},
    "default with episodes of two records": {"alerting": {"fire": {"m": 2, "of": 3}}},
    "default with thresholds alone": {
        "steering": "off",
        "echo": "off",
        "alerting": {"resolve": {"below": 1.0, "records": 11}, "cooldown": None, "release_after": None},
    },
    "default with VAE tried": {"training": {"candidates": [*CANDIDATES, "vae"]}},
}
"""What each technique is worth: the default without it, or with one that is off by default."""
GRID: dict[str, Changes] = {
    f"{family}, {predictor}": {"family": family, "predictor": predictor}
    for family in FAMILIES
    for predictor in PREDICTORS
}
"""Every family behind every predictor."""
