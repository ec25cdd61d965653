"""Tests for detector.alerting.episodes."""

from dataclasses import replace

import numpy as np
import pytest

from detector.alerting.episodes import (
    ALERT_STATE,
    Decision,
    Scored,
    count_episodes,
    decide,
    initial_alert_state,
)
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray

RULES = AlertRules(fire_m=2, fire_of=3, resolve_below=0.7, resolve_records=2)


def scored(score: FloatArray, lengths: list[int], first_offset: int = 0) -> Scored:
    offset = np.arange(first_offset, first_offset + len(score))
    p_value: FloatArray = np.exp(-3.0 * score)
    # By hand: whether a row is too likely says nothing of how anomalous it is.
    too_likely = offset % 3 == 0
    time = offset.astype(np.float64) * 10.0
    return Scored(time, offset, -score, p_value, score, offset % 2, too_likely, np.array(lengths))


def one(score: list[float], rules: AlertRules = RULES) -> Decision:
    return decide(initial_alert_state(1), scored(np.array(score, dtype=np.float64), [len(score)]), rules)


class ByHand:
    """The state machine, one record at a time."""

    def __init__(self, rules: AlertRules) -> None:
        self.rules = rules
        self.last: list[bool] = []
        self.calm, self.firing, self.released, self.fired_at = 0, False, False, 0.0
        self.start: float | None = None
        self.records, self.nats, self.peak = 0, 0.0, -np.inf

    def step(self, score: float, p_value: float, time: float) -> tuple[bool, str | None]:
        suspicious = score >= 1
        self.last = [*self.last, suspicious][-self.rules.fire_of :]
        self.calm = self.calm + 1 if score < self.rules.resolve_below else 0
        self.released = self.released and self.calm < self.rules.resolve_records
        if not (self.firing or any(self.last)):
            self.start, self.records, self.nats, self.peak = None, 0, 0.0, -np.inf
            return False, None
        if self.start is None:
            self.start = time
        self.records += 1
        self.nats -= np.log(p_value) if suspicious else 0.0
        self.peak = max(self.peak, score)
        fires = suspicious and sum(self.last) >= self.rules.fire_m
        if not (self.firing or self.released) and fires:
            self.firing, self.fired_at = True, time
            return True, "fires"
        if self.firing and self.calm >= self.rules.resolve_records:
            self.firing = False
            return False, "resolves"
        if self.firing and time - self.fired_at > self.rules.release_after_s:
            self.firing, self.released = False, True
            return False, "resolves"
        return self.firing, None

    def close(self) -> None:
        self.start, self.records, self.nats, self.peak = None, 0, 0.0, -np.inf


def test_one_suspicious_record_does_not_fire_two_of_three_do() -> None:
    assert not one([0, 2, 0, 0, 0]).firing.any()
    assert one([0, 2, 0, 2, 0]).firing.tolist() == [False, False, False, True, True]


def test_suspicions_too_far_apart_do_not_fire() -> None:
    assert not one([2, 0, 0, 2, 0, 0, 2]).firing.any()


def test_episode_resolves_after_calm_records_only() -> None:
    decision = one([2, 2, 0.8, 0.1, 0.8, 0.1, 0.1, 0])
    assert decision.firing.tolist() == [False, True, True, True, True, True, False, False]
    assert [t.fires for t in decision.transitions] == [True, False]


def test_episode_remembers_start_peak_and_evidence() -> None:
    fired, resolved = one([0, 2, 3, 5, 0, 0]).transitions
    assert fired.span["start"] == 10.0
    assert fired.span["first_offset"] == 1
    assert fired.span["peak_score"] == 3.0
    assert fired.span["records"] == 2
    assert resolved.span["peak_score"] == 5.0
    assert resolved.span["peak"] == 30.0
    assert resolved.span["surprise_nats"] == pytest.approx(3.0 * (2 + 3 + 5))
    assert resolved.span["last_suspicious"] == 30.0


def test_an_episode_that_lasts_is_the_new_normal_until_a_calm_stretch() -> None:
    rules = replace(RULES, release_after_s=35.0)
    score = [2.0] * 9 + [0.1, 0.1] + [2.0] * 2
    decision = one(score, rules)
    assert decision.firing.tolist() == [False, True, True, True, True] + [False] * 7 + [True]
    told = [(t.row, t.fires, t.released) for t in decision.transitions]
    assert told == [(1, True, False), (5, False, True), (12, True, False)]


def test_episode_remembers_on_which_side_its_peak_lay() -> None:
    state = initial_alert_state(1)
    for score, side, at_peak in ((2, True, True), (3, False, False), (2.5, True, False), (4, True, True)):
        batch = scored(np.array([score]), [1])._replace(too_likely=np.array([side]))
        state = decide(state, batch, RULES).state
        assert state["peak_too_likely"] == at_peak


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_one_record_at_a_time_however_it_is_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = AlertRules(
        fire_m=int(rng.integers(1, 4)),
        fire_of=int(rng.integers(3, 7)),
        resolve_below=0.7,
        resolve_records=int(rng.integers(1, 8)),
        release_after_s=float(rng.choice([40.0, 200.0, 1e9])),
    )
    n_entities = 5
    state = initial_alert_state(n_entities)
    machines = [ByHand(rules) for _ in range(n_entities)]
    offset = 0
    transitions = 0
    for _ in range(40):
        lengths = rng.integers(1, 12, n_entities)
        levels = np.repeat(rng.choice([0.2, 0.6, 1.3], n_entities), lengths)
        batch = scored(levels * rng.exponential(1.0, lengths.sum()), lengths.tolist(), offset)
        offset += int(lengths.sum())
        decision = decide(state, batch, rules)
        state = decision.state
        expected = []
        row = 0
        for e, machine in enumerate(machines):
            for _ in range(lengths[e]):
                firing, transition = machine.step(
                    batch.anomaly_score[row], batch.p_value[row], batch.time[row]
                )
                assert decision.firing[row] == firing
                if transition:
                    fires = transition == "fires"
                    expected.append((row, fires, machine.start, machine.records, machine.nats, machine.peak))
                    if transition == "resolves":
                        machine.close()
                row += 1
            assert state["firing"][e] == machine.firing
            assert state["records"][e] == machine.records
        fields = ["start", "records", "surprise_nats", "peak_score"]
        found = [(t.row, t.fires, *(t.span[name] for name in fields)) for t in decision.transitions]
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert left == pytest.approx(right)
        transitions += len(found)
    assert transitions > 20


def test_counting_agrees_with_deciding() -> None:
    rng = np.random.default_rng(3)
    score = rng.exponential(0.6, 5000)
    lengths = np.array([1000, 1, 2999, 1000])
    decision = decide(initial_alert_state(4), scored(score, lengths.tolist()), RULES)
    fired = sum(t.fires for t in decision.transitions)
    assert fired > 10
    assert count_episodes(score, lengths, RULES) == fired


def test_more_than_64_records_at_once_leave_the_same_memory_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    score = rng.exponential(0.7, 200)
    at_once = decide(initial_alert_state(1), scored(score, [200]), RULES).state
    state = initial_alert_state(1)
    for i in range(200):
        state = decide(state, scored(score[i : i + 1], [1], i), RULES).state
    for name in ALERT_STATE.names or ():
        np.testing.assert_allclose(at_once[name], state[name], err_msg=name)
