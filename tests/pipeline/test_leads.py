"""Tests for detector.pipeline.leads: an alert of an average names what made it high, in any batches."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.batch import Batch, IntArray
from detector.pipeline.detector import Detector
from detector.scoring.time_scale import TimeScale
from detector.training.calibrate import calibrate
from tests.made import batch, detector, fitted, gmm, records_like, scoring_model
from tests.pipeline.test_run import by_offset, check_batch_sizes, mixed_batch, part
from tests.pipelines import outcome_of, watch


def averaging(family: str | None = None, *, threshold: float = 1e-3) -> Detector:
    """A detector that averages surprise over about three records."""
    model, _ = scoring_model(gmm(n_components=1) if family is None else fitted(family))
    own = model.members[0].density
    found = calibrate(
        own,
        records_like(own, 2000, np.random.default_rng(5)),
        np.arange(2000.0),
        lengths=np.array([2000]),
        model=np.zeros(1, dtype=np.int64),
        held_out=np.ones(2000, dtype=bool),
        interval_s=1.0,
        min_features=1,
        time_scale=TimeScale(0.3),
        learn=False,
    )
    member = replace(model.members[0], calibration=found.calibration, time_scale=TimeScale(0.3))
    rules = AlertRules(fire_m=1, fire_of=1, resolve_records=3)
    return detector(replace(model, members=(member,)), threshold=threshold, rules=rules)


@pytest.mark.parametrize("family", ["gmm", "hmm", "naive_bayes"])
def test_batch_size_changes_nothing_by_a_bit_of_an_average(family: str) -> None:
    own = averaging(family, threshold=0.05)
    check_batch_sizes(own, mixed_batch(own, missing=0.1))


def pieces(records: Batch, at_once: int) -> list[IntArray]:
    rows = np.arange(len(records))
    return np.split(rows, range(at_once, len(rows), at_once))


def almost_alerted(own: Detector) -> tuple[Batch, int]:
    """Rows with a peak in f0 that is loud and fires nothing, and after it one in f1 that alone is neither."""
    still = np.zeros((40, 3)) + own.model.members[0].density.family.sample(
        4000, np.random.default_rng(1)
    ).mean(0)
    for size in np.arange(1.0, 60.0, 0.25):
        rows = still.copy()
        rows[30, 0] += size
        loud = watch(own).process(batch(rows), np.zeros(40, dtype=np.int64))[0].anomaly_score[30]
        if 0.8 < loud < 1.0:
            break
    for second in np.arange(0.5, size, 0.25):
        rows[31, 1] = still[31, 1] + second
        _, events = watch(own).process(batch(rows), np.zeros(40, dtype=np.int64))
        if events:
            alone = rows.copy()
            alone[30] = still[30]
            assert not watch(own).process(batch(alone), np.zeros(40, dtype=np.int64))[1]
            return batch(rows), 31
    raise AssertionError("no second peak raised the alert")


@pytest.mark.parametrize("at_once", [1, 31, 40])
def test_the_reasons_of_an_average_are_those_of_what_led_up_to_it(at_once: int) -> None:
    own = averaging()
    records, fires_at = almost_alerted(own)
    runner, events = watch(own), []
    for rows in pieces(records, at_once):
        events += runner.process(part(records, rows), np.zeros(len(rows), dtype=np.int64))[1]
    event = by_offset(events)[0]
    assert (event.transition, event.last_offset) == ("firing", fires_at)
    by_feature = {reason.feature: reason for reason in event.reasons}
    assert by_feature["f0"].actual == records.values[30, 0]
    assert by_feature["f1"].actual == records.values[31, 1]
    assert event.reasons[0].feature == "f0"


def test_no_record_after_usual_ones_has_a_smaller_p_value_than_an_absurd_one() -> None:
    own = averaging()
    (member,) = own.model.members
    heavy = replace(member.calibration, complete=replace(member.calibration.complete, shape=0.5))
    model = replace(own.model, members=(replace(member, calibration=heavy),))
    own = replace(own, model=model)
    records = np.repeat(member.density.scaling.location[-1:], 200, axis=0)
    found = []
    for size in (9.0, 1e4, 1e9):
        records[-1] = size
        found.append(outcome_of(own, batch(records))[0].p_value[-1])
    assert found[0] > found[1] >= found[2] > 1e-12
    assert found[2] == pytest.approx(model.of_an_absurd_record(), rel=0.1)
    by_itself, _ = scoring_model(gmm(n_components=1))
    assert by_itself.of_an_absurd_record() < 1e-300
