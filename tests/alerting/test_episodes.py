"""Tests for detector.alerting.episodes, and for spans.py behind it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from detector.alerting.alert_state import ALERT_STATE, Scored, StateRows, initial_alert_state
from detector.alerting.episodes import RISE, Decision, FireOfEach, count_episodes, decide
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray

RULES = AlertRules(fire_m=2, fire_of=3, resolve_below=0.7, resolve_records=2, cooldown_s=0.0)
AT_ONCE = AlertRules(fire_m=1, fire_of=1, resolve_below=0.7, resolve_records=2, cooldown_s=60.0)


def scored(
    score: FloatArray, lengths: list[int], first_offset: int = 0, time: FloatArray | None = None
) -> Scored:
    offset = np.arange(first_offset, first_offset + len(score))
    p_value: FloatArray = np.exp(-3.0 * score)
    # By hand: whether a row is too likely says nothing of how anomalous it is.
    too_likely = offset % 3 == 0
    time = offset.astype(np.float64) * 10.0 if time is None else time
    return Scored(time, time, offset, -score, p_value, score, offset % 2, too_likely, np.array(lengths))


def one(score: list[float], rules: AlertRules = RULES) -> Decision:
    return decide(initial_alert_state(1), scored(np.array(score, dtype=np.float64), [len(score)]), rules)


def told(decision: Decision) -> list[tuple[int, str]]:
    return [(transition.row, transition.told) for transition in decision.transitions]


@dataclass
class Span:
    """What is known of the open span, record by record."""

    start: float
    first_offset: int
    records: int = 0
    stretches: int = 0
    critical: bool = False
    surprise_nats: float = 0.0
    peak: float = 0.0
    peak_score: float = -np.inf
    last_suspicious: float = 0.0

    def seen(self, score: float, p_value: float, time: float) -> None:
        self.records += 1
        if score >= 1:
            self.surprise_nats -= float(np.log(p_value))
            self.last_suspicious = time
        if score > self.peak_score:
            self.peak, self.peak_score = time, score

    def known(self) -> tuple[float, ...]:
        return tuple(vars(self).values())


@dataclass
class ByHand:
    """The state machine of one entity, one record at a time."""

    rules: AlertRules
    last: list[bool] = field(default_factory=list)
    suspected_since: float | None = None
    severe_since: float | None = None
    calm: int = 0
    loud: bool = False
    loud_since: float = 0.0
    quiet_since: float = -np.inf
    resolved_at: float = -np.inf
    recurs: bool = False
    released: bool = False
    firing: bool = False
    fired_at: float = 0.0
    fired_score: float = 0.0
    told_level: int = 0
    told_beats: int = 0
    span: Span | None = None

    def step(self, score: float, p_value: float, time: float, offset: int) -> str | None:
        rules, suspicious = self.rules, score >= 1
        self.last = [*self.last, suspicious][-rules.fire_of :]
        self.suspected_since = None if not any(self.last) else self.suspected_since or time
        self.severe_since = None if score < rules.critical_score else self.severe_since or time
        self.calm = self.calm + 1 if score < rules.resolve_below else 0
        self.released = self.released and self.calm < rules.resolve_records
        over = self.span is not None and self.span.stretches > 0 and not self.firing
        if over and time - self.resolved_at >= rules.cooldown_s:
            self.span = None
        cooling = self.span is not None and self.span.stretches > 0
        if not (self.firing or any(self.last) or cooling):
            self.span = None
            return None
        if self.span is None:
            if not suspicious:
                return None
            self.span = Span(time, offset)
        self.span.seen(score, p_value, time)
        what = self.transition(score, suspicious, time)
        severe = self.severe_since is not None and time - self.severe_since >= rules.critical_for_s
        if self.firing and severe and not self.span.critical:
            self.span.critical = True
            what = what if what == "firing" else "escalated"
        return what

    def transition(self, score: float, suspicious: bool, time: float) -> str | None:
        rules, span = self.rules, self.span
        assert span is not None
        lasted = self.suspected_since is not None and time - self.suspected_since >= rules.fire_for_s
        if not self.loud:
            if suspicious and sum(self.last) >= rules.fire_m and lasted and not self.released:
                self.loud, self.loud_since = True, time
                self.recurs = self.firing or time - self.resolved_at < rules.cooldown_s
        elif self.calm >= rules.resolve_records or time - self.loud_since > rules.release_after_s:
            self.released = self.calm < rules.resolve_records
            self.loud, self.quiet_since = False, time
            self.recurs = self.recurs and not self.released
        was_firing = self.firing
        self.firing = self.loud or (self.recurs and time - self.quiet_since < rules.cooldown_s)
        if not was_firing:
            if not self.firing:
                return None
            self.fired_at, self.fired_score = time, span.peak_score
            self.told_level = self.told_beats = 0
            span.stretches += 1
            return "firing"
        if not self.firing:
            self.resolved_at = time
            return "released" if self.released else "resolved"
        level, beats = self.told_level, int((time - self.fired_at) // rules.keep_alive_s)
        while span.peak_score / self.fired_score >= RISE ** (level + 1):
            level += 1
        what = "rose" if level > self.told_level else "kept_alive" if beats > self.told_beats else None
        self.told_level, self.told_beats = level, beats
        return what

    def ended(self, time: float) -> None:
        """Of a span that resolved without a cooldown nothing is left."""
        if not self.firing and time - self.resolved_at >= self.rules.cooldown_s:
            self.span = None


def some_rules(rng: np.random.Generator) -> AlertRules:
    m = int(rng.integers(1, 4))
    return AlertRules(
        fire_m=m,
        fire_of=int(rng.integers(m, 7)),
        fire_for_s=float(rng.choice([0.0, 0.0, 40.0])),
        resolve_below=0.7,
        resolve_records=int(rng.integers(1, 6)),
        cooldown_s=float(rng.choice([0.0, 60.0, 400.0])),
        release_after_s=float(rng.choice([80.0, 400.0, 1e9])),
        critical_score=1.6,
        critical_for_s=float(rng.choice([0.0, 25.0])),
        keep_alive_s=float(rng.choice([35.0, 200.0])),
    )


def some_scores(rng: np.random.Generator, lengths: IntArray) -> FloatArray:
    levels = np.repeat(rng.choice([0.2, 0.6, 1.3, 2.5], len(lengths)), lengths)
    scores: FloatArray = levels * rng.exponential(1.0, lengths.sum())
    return scores


SPAN = (
    "start",
    "first_offset",
    "records",
    "stretches",
    "critical",
    "surprise_nats",
    "peak",
    "peak_score",
    "last_suspicious",
)


@pytest.mark.parametrize("seed", range(24))
def test_agrees_with_one_record_at_a_time_however_it_is_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules, n_entities = some_rules(rng), 5
    state, machines = initial_alert_state(n_entities), [ByHand(rules) for _ in range(n_entities)]
    offset, seen = 0, set()
    for _ in range(40):
        lengths = rng.integers(1, 12, n_entities)
        time = 1e9 + 10.0 * np.arange(offset, offset + lengths.sum())
        batch = scored(some_scores(rng, lengths), lengths.tolist(), offset, time)
        offset += int(lengths.sum())
        decision = decide(state, batch, rules)
        state = decision.state
        expected, row = [], 0
        for e, machine in enumerate(machines):
            for _ in range(lengths[e]):
                what = machine.step(
                    batch.anomaly_score[row], batch.p_value[row], batch.time[row], int(batch.offset[row])
                )
                assert decision.loud[row] == machine.loud
                if what:
                    assert machine.span is not None
                    expected.append((row, e, what, *machine.span.known()))
                    if what in ("resolved", "released"):
                        machine.ended(batch.time[row])
                row += 1
            assert state["firing"][e] == machine.firing
            known = (0.0,) * len(SPAN) if machine.span is None else machine.span.known()
            assert tuple(state[name][e] for name in SPAN) == known
        found = [
            (t.row, t.entity, t.told, *(t.span[name].item() for name in SPAN)) for t in decision.transitions
        ]
        # To the bit, sums included.
        assert found == expected
        seen |= {t.told for t in decision.transitions}
    assert {"firing", "escalated", "rose"} <= seen


@pytest.mark.parametrize("seed", range(12))
def test_counting_agrees_with_deciding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = some_rules(rng)
    lengths = np.array([1000, 1, 2999, 1000])
    # Hours apart, here and there.
    time = np.cumsum(10.0 + 500.0 * (rng.uniform(size=5000) < 0.05))
    score = 0.8 * rng.exponential(0.6, 5000) + 0.6 * (np.arange(5000) % 300 < 40)

    def fired(rules: AlertRules) -> int:
        decision = decide(initial_alert_state(4), scored(score, lengths.tolist(), time=time), rules)
        return sum(t.told == "firing" for t in decision.transitions)

    counted = count_episodes(score, time, lengths, rules)
    assert 5 < fired(rules) <= counted
    # What would be told if nothing that came back was one alert.
    assert counted == fired(replace(rules, cooldown_s=0.0))


def test_one_suspicious_record_does_not_fire_two_of_three_do() -> None:
    assert not one([0, 2, 0, 0, 0]).loud.any()
    assert one([0, 2, 0, 2, 0]).loud.tolist() == [False, False, False, True, True]


def test_suspicions_too_far_apart_do_not_fire() -> None:
    assert not one([2, 0, 0, 2, 0, 0, 2]).loud.any()


def test_episode_resolves_after_calm_records_only() -> None:
    decision = one([2, 2, 0.8, 0.1, 0.8, 0.1, 0.1, 0])
    assert decision.loud.tolist() == [False, True, True, True, True, True, False, False]
    assert told(decision) == [(1, "firing"), (6, "resolved")]


def test_what_is_not_suspicious_for_long_enough_does_not_fire() -> None:
    rules = replace(AT_ONCE, fire_for_s=25.0)
    assert told(one([2, 2, 2, 0, 2, 2, 0, 2], rules)) == []
    # 10 s between records: the fourth one completes 25 s.
    assert told(one([0, 2, 2, 2, 2, 2], rules)) == [(4, "firing")]


def test_episode_remembers_start_peak_and_evidence() -> None:
    fired, rose, resolved = one([0, 2, 3, 5, 0, 0]).transitions
    assert (fired.told, rose.told, resolved.told) == ("firing", "rose", "resolved")
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
    decision = one([2.0] * 9 + [0.1, 0.1] + [2.0] * 2, rules)
    assert decision.loud.tolist() == [False, True, True, True, True] + [False] * 7 + [True]
    assert told(decision) == [(1, "firing"), (5, "released"), (12, "firing")]


def test_an_alert_is_critical_once_it_was_severe_for_long_and_stays_so() -> None:
    rules = replace(AT_ONCE, critical_score=2.0, critical_for_s=30.0)
    decision = one([1.5, 2, 2, 1.9, 2, 2, 2, 2, 1.1, 2, 0, 0], rules)
    assert told(decision) == [(0, "firing"), (7, "escalated"), (11, "resolved")]
    assert [bool(t.span["critical"]) for t in decision.transitions] == [False, True, True]


def test_one_record_far_beyond_the_threshold_is_not_critical_though_the_next_one_comes_late() -> None:
    rules = replace(AT_ONCE, critical_for_s=300.0)
    batch = scored(np.array([3.0, 0.9, 3.0]), [3], time=np.array([0.0, 3600.0, 7200.0]))
    assert not any(t.span["critical"] for t in decide(initial_alert_state(1), batch, rules).transitions)


def test_severity_shows_at_the_start_where_an_alert_has_to_last_before_it_fires() -> None:
    rules = replace(AT_ONCE, fire_for_s=30.0, critical_score=2.0, critical_for_s=20.0)
    [fired] = one([2.0] * 4, rules).transitions
    assert (fired.row, bool(fired.span["critical"])) == (3, True)


def test_what_fires_within_the_cooldown_is_the_same_alert() -> None:
    decision = one([2, 0, 0, 0, 0, 0, 1.2, 0, 0], AT_ONCE)
    assert told(decision) == [(0, "firing"), (2, "resolved"), (6, "firing")]
    first, _, again = (t.span for t in decision.transitions)
    assert [int(s["stretches"]) for s in (first, again)] == [1, 2]
    assert first["first_offset"] == again["first_offset"] == 0
    assert (again["start"], again["records"], again["peak_score"]) == (0.0, 7, 2.0)


def test_what_came_back_is_over_only_when_it_stayed_away_for_the_cooldown() -> None:
    comes_and_goes: list[float] = [2, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    decision = one(comes_and_goes, AT_ONCE)
    # Calm at row 11, for 60 s at row 17.
    assert told(decision) == [(0, "firing"), (2, "resolved"), (4, "firing"), (17, "resolved")]
    assert decision.transitions[-1].span["last_suspicious"] == 90.0


def test_what_came_back_has_a_cooldown_from_when_it_resolved() -> None:
    came_back: list[float] = [2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]
    # Calm at row 5, resolved 60 s later, at row 11.
    assert told(one(came_back, AT_ONCE))[2:] == [(3, "firing"), (11, "resolved")]
    for fires_at, stretches, first_offset in ((12, 3, 0), (16, 3, 0), (17, 1, 17)):
        decision = one([*came_back, *[0.0] * (fires_at - 12), 2], AT_ONCE)
        assert told(decision)[3:] == [(11, "resolved"), (fires_at, "firing")]
        span = decision.transitions[-1].span
        assert (int(span["stretches"]), int(span["first_offset"])) == (stretches, first_offset)
    # It may come back for as long as it is not told to be over, at the last moment, too.
    assert told(one([*came_back[:-1], 2, 0, 0, 0, 0, 0, 0, 0, 0], AT_ONCE))[3:] == [(19, "resolved")]


def test_what_came_back_is_told_of_while_it_may_come_back_again() -> None:
    rules = replace(AT_ONCE, keep_alive_s=30.0)
    assert told(one([2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0], rules))[2:] == [
        (3, "firing"),
        (6, "kept_alive"),
        (9, "kept_alive"),
        (11, "resolved"),
    ]


def test_a_level_that_came_back_and_lasts_is_released_at_once() -> None:
    rules = replace(AT_ONCE, release_after_s=35.0)
    decision = one([2, 0, 0, 2, 2, 2, 2, 2, 2, 2], rules)
    assert told(decision) == [(0, "firing"), (2, "resolved"), (3, "firing"), (7, "released")]
    assert not decision.loud[7:].any()


def test_what_fires_when_the_cooldown_is_over_is_another_alert() -> None:
    decision = one([2, 0, 0, 0, 0, 0, 0, 0, 2], AT_ONCE)
    first, _, second = (t.span for t in decision.transitions)
    assert (int(second["stretches"]), int(second["first_offset"])) == (1, 8)
    assert int(first["first_offset"]) == 0
    silent = scored(np.array([2.0, 0.0, 0.0, 2.0]), [4], time=np.array([0.0, 10.0, 20.0, 5000.0]))
    spans = [t.span for t in decide(initial_alert_state(1), silent, AT_ONCE).transitions]
    assert [int(s["first_offset"]) for s in spans] == [0, 0, 3]


def test_critical_stays_critical_when_it_fires_again() -> None:
    rules = replace(AT_ONCE, critical_score=2.0, critical_for_s=10.0)
    decision = one([2, 2, 0, 0, 1.2], rules)
    assert told(decision) == [(0, "firing"), (1, "escalated"), (3, "resolved"), (4, "firing")]
    assert bool(decision.transitions[-1].span["critical"])


def test_what_goes_on_is_told_of_again_and_again() -> None:
    rules = replace(AT_ONCE, keep_alive_s=30.0)
    assert told(one([1.2] * 8, rules)) == [(0, "firing"), (3, "kept_alive"), (6, "kept_alive")]
    # Of a gap that swallows several, one is told.
    batch = scored(np.full(3, 1.2), [3], time=np.array([0.0, 500.0, 510.0]))
    assert told(decide(initial_alert_state(1), batch, rules)) == [
        (0, "firing"),
        (1, "kept_alive"),
        (2, "kept_alive"),
    ]


def test_a_peak_is_told_once_for_every_factor_that_it_grew_by() -> None:
    decision = one([1, 1.4, 1.5, 1.6, 1.2, 2.2, 2.3, 1.5, 9.0], AT_ONCE)
    assert told(decision) == [(0, "firing"), (2, "rose"), (6, "rose"), (8, "rose")]
    assert [t.explained for t in decision.transitions] == [True] * 4


def test_an_alert_that_fires_again_tells_a_peak_beyond_the_one_that_was_told_and_no_weaker_one() -> None:
    decision = one([4, 0, 0, 0, 1.2, 2.4, 3.6, 5, 6.1], AT_ONCE)
    assert told(decision) == [(0, "firing"), (2, "resolved"), (4, "firing"), (8, "rose")]
    assert decision.transitions[-1].span["peak_score"] == 6.1


def test_a_keep_alive_and_an_end_are_explained_by_what_was_told_before() -> None:
    decision = one([1.2] * 5 + [0, 0], replace(AT_ONCE, keep_alive_s=30.0))
    assert [(t.told, t.explained) for t in decision.transitions] == [
        ("firing", True),
        ("kept_alive", False),
        ("resolved", False),
    ]


def test_episode_remembers_on_which_side_its_peak_lay() -> None:
    state = initial_alert_state(1)
    for score, side, at_peak in ((2, True, True), (3, False, False), (2.5, True, False), (4, True, True)):
        batch = scored(np.array([score]), [1])._replace(too_likely=np.array([side]))
        state = decide(state, batch, RULES).state
        assert state["peak_too_likely"] == at_peak


def test_more_than_64_records_at_once_leave_the_same_memory_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    score = rng.exponential(0.7, 200)
    at_once = decide(initial_alert_state(1), scored(score, [200]), RULES).state
    state = initial_alert_state(1)
    for i in range(200):
        state = decide(state, scored(score[i : i + 1], [1], i), RULES).state
    assert_same(at_once, state)


def test_entities_that_sleep_keep_their_state_to_the_bit() -> None:
    rng = np.random.default_rng(6)
    lengths = np.full(6, 30)
    score = np.where(np.arange(180) < 90, rng.exponential(0.9, 180), 0.1)
    state = decide(initial_alert_state(6), scored(score, lengths.tolist()), AT_ONCE).state
    quiet = scored(np.full(6, 0.1), [1] * 6, first_offset=180)
    together = decide(state, quiet, AT_ONCE).state
    for e in range(6):
        alone = scored(np.full(1, 0.1), [1], first_offset=180 + e)
        assert_same(decide(state[e : e + 1], alone, AT_ONCE).state, together[e : e + 1])


def assert_same(left: StateRows, right: StateRows) -> None:
    for name in set(ALERT_STATE.names or ()) - {"aftermath"}:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize(("seed", "piece"), [(0, 1), (1, 7), (2, 200)])
def test_entities_that_fire_by_rules_of_their_own_do_as_if_all_did(seed: int, piece: int) -> None:
    rng = np.random.default_rng(seed)
    of_each = [
        replace(RULES, fire_m=m, fire_of=of, fire_for_s=for_s)
        for m, of, for_s in ((1, 1, 0.0), (2, 3, 0.0), (3, 5, 45.0), (60, 64, 0.0), (2, 64, 900.0))
    ]
    # Suspicious in bursts, calm for long between.
    score = np.where(np.sin(np.arange(200) / 25.0) > rng.normal(size=(5, 200)), 1.3, 0.2)
    own_fire = FireOfEach(
        np.array([rules.fire_m for rules in of_each]),
        np.array([rules.fire_of for rules in of_each]),
        np.array([rules.fire_for_s for rules in of_each]),
    )
    together, alone = initial_alert_state(5), [initial_alert_state(1) for _ in of_each]
    for start in range(0, 200, piece):
        part = score[:, start : start + piece]
        n = part.shape[1]
        time = np.tile(np.arange(start, start + n) * 10.0, 5)
        both = decide(together, scored(part.ravel(), [n] * 5, time=time), RULES, own_fire)
        together = both.state
        for e, rules in enumerate(of_each):
            row = slice(e * n, (e + 1) * n)
            # Offsets as in the whole, which say what is told of whom.
            single = decide(alone[e], scored(part[e], [n], e * n, time[row]), rules)
            alone[e] = single.state
            np.testing.assert_array_equal(both.loud[row], single.loud)
            assert [t.told for t in both.transitions if t.entity == e] == [t.told for t in single.transitions]
            assert together[e].tobytes() == single.state[0].tobytes()
