"""Tests for detector.training.plan."""

from typing import Any

from detector.config.detectors import DetectorConfig
from detector.scoring.time_scale import TimeScale
from detector.training.plan import MemberPlan, plan_of


def configured(**keys: Any) -> DetectorConfig:
    return DetectorConfig.model_validate({"name": "hosts", "input": "t", "features": ["cpu"]} | keys)


def test_everything_is_left_open_by_default() -> None:
    assert plan_of(configured()).members == (MemberPlan("auto", "auto"),)


def test_a_family_takes_its_settings_from_the_training_section() -> None:
    training = {"n_states": 4, "order": 2}
    plan = plan_of(configured(family="hmm", predictor="autoregressive", training=training))
    assert plan.members == (MemberPlan("hmm", "autoregressive", 2, {"n_states": 4}),)


def test_members_are_as_configured() -> None:
    members = [
        {"family": "naive_bayes", "density": "student", "n_classes": 1, "predictor": "last", "records": 10},
        {"family": "gmm"},
    ]
    assert plan_of(configured(members=members)).members == (
        MemberPlan("naive_bayes", "last", 1, {"n_classes": 1, "density": "student"}, TimeScale(0.1)),
        MemberPlan("gmm", "auto"),
    )


def test_the_plans_of_members_are_those_of_detectors_of_their_own() -> None:
    members = [{"family": "hmm", "predictor": "last", "records": 5}, {"family": "gmm", "predictor": "none"}]
    alone = [plan_of(configured(members=[member])) for member in members]
    assert list(plan_of(configured(members=members)).of_members()) == alone


def test_a_members_name_says_what_it_is() -> None:
    member = MemberPlan("gmm", "last", options={"covariance": "diagonal"}, time_scale=TimeScale(0.1))
    assert member.name == "gmm (diagonal) on last, over 10 records"
    assert MemberPlan("gmm", "none").name == "gmm on none"
