"""Tests for detector.pipeline.rows: what members share is worked out once, and nobody can tell."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.batch import Scores
from detector.pipeline.detector import Detector
from detector.scoring.committee import Committee
from detector.scoring.density import Density
from detector.scoring.examples import SurpriseOfPattern
from tests.made import detector, fitted, predictor_called, scoring_model
from tests.pipeline.test_leads import averaging
from tests.pipeline.test_run import check_batch_sizes, mixed_batch
from tests.pipelines import outcome_of


def of_two(family: str, predictor: str) -> Detector:
    """A committee of a density record by record, and of averages of the same."""
    model, _ = scoring_model(fitted(family), predictor=predictor_called(predictor, 3))
    (member,) = model.members
    slow = averaging().model.members[0]
    of_pattern = SurpriseOfPattern(member.density, member.examples)
    calibration = replace(slow.calibration, surprise_of_pattern=of_pattern)
    slow = replace(slow, density=member.density, examples=member.examples, calibration=calibration)
    committee = Committee.fit(np.random.default_rng(2).random((500, 2)))
    both = replace(model, members=(member, slow), committee=committee)
    return detector(both, threshold=0.05, rules=AlertRules(fire_m=1, fire_of=1))


@pytest.mark.parametrize("family", ["gmm", "hmm"])
def test_members_that_share_a_density_say_the_same_to_the_bit_as_each_with_its_own(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = of_two(family, "regression")
    assert len(shared.model.densities) == 1
    monkeypatch.setattr(Density, "is_same_as", lambda *_: False)
    apart = of_two(family, "regression")
    assert len(apart.model.densities) == 2
    records = mixed_batch(shared, missing=0.1)
    (scores, events), (expected, told) = outcome_of(shared, records), outcome_of(apart, records)
    assert events
    assert events == told
    same_scores(scores, expected)


def same_scores(scores: Scores, expected: Scores) -> None:
    for column in ("status", "log_likelihood", "p_value", "anomaly_score", "alert"):
        np.testing.assert_array_equal(getattr(scores, column), getattr(expected, column), err_msg=column)


def test_batch_size_changes_nothing_by_a_bit_where_a_density_is_shared() -> None:
    own = of_two("hmm", "ewma")
    records = mixed_batch(own, missing=0.1)
    check_batch_sizes(own, records)
