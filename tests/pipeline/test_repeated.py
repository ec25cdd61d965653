"""Tests for detector.pipeline.repeated."""

from functools import partial

import numpy as np

from detector.alerting.rules import AlertRules
from detector.models.sequences import runs_of
from detector.pipeline.entity_state import initial_state
from detector.pipeline.repeated import run_repeated
from detector.pipeline.run import run
from tests.made import batch, detector, gmm, scoring_model


def test_what_is_decided_is_scored_as_ever_and_what_follows_alone_is_decided() -> None:
    watcher = detector(
        scoring_model(gmm(), predict=True)[0], threshold=1e-3, rules=AlertRules(fire_m=1, fire_of=1)
    )
    entities = ["a", "b"] * 20
    x = gmm().sample(40, np.random.default_rng(0))
    x[[10, 11, 30, 31]] += 40.0
    records = batch(x, entity=entities)
    slots = np.array([entity == "b" for entity in entities], dtype=np.int64)
    order = np.argsort(slots, kind="stable")
    lengths = runs_of(slots[order])
    plain = run(watcher, initial_state(watcher, ["a", "b"]), records, order, lengths)
    # All of b's records but the last ten are decided, none of a's.
    decided = (slots == 1) & (records.offset < 20)
    state = initial_state(watcher, ["a", "b"])
    again = run_repeated(watcher, state, records, order, lengths, decided, partial(run, watcher))
    np.testing.assert_array_equal(again.scores.p_value, plain.scores.p_value)
    np.testing.assert_array_equal(again.scores.status, plain.scores.status)
    assert plain.scores.alert[decided].any()
    assert not again.scores.alert[decided].any()
    assert {(event.entity, event.last_offset) for event in plain.events if event.transition == "firing"} >= {
        ("a", 10),
        ("b", 11),
    }
    assert [event.id for event in again.events if event.entity == "a"] == [
        event.id for event in plain.events if event.entity == "a"
    ]
    assert all(event.last_offset >= 20 for event in again.events if event.entity == "b")
    np.testing.assert_array_equal(again.state.predictor[0], plain.state.predictor[0])
