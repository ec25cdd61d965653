"""Tests for detector.training.choose_by_labels: committees judged by what people labelled."""

from dataclasses import replace

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.training.choose import Chosen, choose
from detector.training.choose_by_labels import choose_by_labels
from detector.training.default_committee import BELL_EACH
from detector.training.fit_family import no_report
from detector.training.plan import AUTO, MemberPlan, TrainingPlan
from tests.made import batch

OPEN = TrainingPlan("hosts", AUTO, AUTO)
N = 4000


def twins(coefficient: float) -> FloatArray:
    """Two features that show nearly the same, which follows its past."""
    rng = np.random.default_rng(0)
    level = rng.normal(size=N)
    for t in range(1, N):
        level[t] += coefficient * level[t - 1]
    return level[:, None] + 0.1 * rng.normal(size=(N, 2))


def contradicting(values: FloatArray, rows: BoolArray) -> FloatArray:
    """Let the second feature show the opposite of the first, which is nothing unusual for it alone."""
    changed = values.copy()
    changed[rows, 1] = -changed[rows, 0]
    return changed


def marked(*rows: int) -> BoolArray:
    anomalous = np.zeros(N, dtype=np.bool_)
    anomalous[list(rows)] = True
    return anomalous


def chosen(values: FloatArray, anomalous: BoolArray | None, plan: TrainingPlan = OPEN) -> Chosen:
    return choose(batch(values), plan, no_report, anomalous)


def judged_by_labels(found: Chosen) -> bool:
    assert found.choice is not None
    said = any("labelled anomalous" in reason for reason in found.choice.reasons)
    assert said == bool(found.choice.labelled)
    return said


def test_labels_take_a_committee_that_nothing_else_would() -> None:
    anomalous = marked(*range(2100, 2700, 40))
    values = contradicting(twins(0.6), anomalous)
    unjudged = chosen(values, None)
    assert {member.predictor for member in unjudged.plan.members[:2]} == {"autoregressive"}
    assert MemberPlan("gmm", "none") not in unjudged.plan.members
    found = chosen(values, anomalous)
    assert MemberPlan("gmm", "none") in found.plan.members
    assert judged_by_labels(found)
    assert found.choice is not None
    taken, *others = found.choice.labelled
    assert taken.members == tuple(member.name for member in found.plan.members)
    assert all(taken.average_precision > other.average_precision + 0.05 for other in others)


def test_a_further_member_is_taken_or_left_open_by_what_labels_say_of_it() -> None:
    anomalous = marked(*range(2900, 3900, 40))
    values = contradicting(twins(0.6), anomalous)
    bell = MemberPlan("gmm", "autoregressive", options=BELL_EACH)
    plan = replace(OPEN, candidates=("naive_bayes", "gmm"))
    blind = choose_by_labels(batch(values), anomalous, plan, [[bell]])
    assert blind is not None
    assert blind.members == [bell, MemberPlan("gmm", "none")]
    assert blind.undecided == ()
    seeing = choose_by_labels(batch(values), anomalous, plan, [[MemberPlan("gmm", "autoregressive")]])
    assert seeing is not None
    assert len(seeing.members) == 1
    assert "gmm" in seeing.undecided


def test_a_committee_without_others_beside_it_is_said_to_be() -> None:
    anomalous = marked(*range(2900, 3900, 40))
    alone = [[MemberPlan("gmm", "autoregressive")]]
    found = choose_by_labels(batch(twins(0.6)), anomalous, replace(OPEN, candidates=()), alone)
    assert found is not None
    assert found.reason.endswith("events; no other committee to compare with")


def test_a_few_labels_or_one_event_have_no_say() -> None:
    values = twins(0.6)
    for rows in (range(2100, 2640, 60), range(2400, 2430)):
        anomalous = marked(*rows)
        assert not judged_by_labels(chosen(contradicting(values, anomalous), anomalous))


def test_labels_among_the_newest_records_have_no_say() -> None:
    anomalous = marked(*range(2900, 4000, 40))
    assert not judged_by_labels(chosen(contradicting(twins(0.6), anomalous), anomalous))


def test_one_feature_is_compared_with_something_else_where_labels_ask_for_it() -> None:
    rng = np.random.default_rng(0)
    values = 3.0 * rng.choice([-1.0, 1.0], size=(N, 1)) + 0.3 * rng.normal(size=(N, 1))
    anomalous = marked(*range(2100, 2700, 40))
    values[anomalous] = 0.0
    found = chosen(values, anomalous)
    assert judged_by_labels(found)
    taken = found.plan.members[0]
    assert (taken.family, taken.predictor) == ("naive_bayes", "none")
