"""Tests for detector.training.choose and what it leans on, on records whose nature is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, BoolArray, FloatArray
from detector.bundles.manifest import Manifest
from detector.bundles.serving import serve
from detector.bundles.store import BundleStore, load_bundle
from detector.models.kinds import Kind
from detector.training.choose import Chosen, choose
from detector.training.fit_family import no_report
from detector.training.fit_to_try import fit_to_try
from detector.training.job import train
from detector.training.plan import AUTO, CANDIDATES, MemberPlan, TrainingPlan
from tests.made import batch
from tests.pipelines import outcome_of, scores_of

OPEN = TrainingPlan("hosts", AUTO, AUTO)


def chosen(records: Batch, plan: TrainingPlan = OPEN) -> Chosen:
    return choose(records, plan, no_report, None)


def stream(n: int, coefficient: float, d: int = 2, seed: int = 0) -> FloatArray:
    """Each feature follows what it was before."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    for t in range(1, n):
        x[t] += coefficient * x[t - 1]
    return x


def test_records_that_follow_their_past_are_compared_with_it() -> None:
    found = chosen(batch(stream(1000, 0.7)))
    assert found.choice is not None
    first, second = found.plan.members
    assert first.predictor == second.predictor == "autoregressive"
    assert second.time_scale.records == 20
    assert any(reason.startswith("predictor autoregressive: nats") for reason in found.choice.reasons)


def test_of_predictors_that_are_as_good_the_simpler_is_taken() -> None:
    time = np.arange(0.0, 12 * 86400.0, 1800.0)
    values = stream(len(time), 0.7)
    assert chosen(batch(values, time=time)).plan.members[0].predictor == "autoregressive"


def test_where_the_last_record_alone_predicts_records_follow_their_past_and_are_compared_with_it() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(300, 2))
    found = chosen(batch(np.concatenate([steps[:140], 40.0 + np.cumsum(steps[140:], axis=0)])))
    assert found.choice is not None
    nats = {tried.name: tried.nats or 0.0 for tried in found.choice.predictors}
    assert nats["last"] > nats["autoregressive"]
    assert found.plan.members[0].predictor == "autoregressive"


def test_records_enough_to_try_families_on_are_given_canaries_to_find() -> None:
    found = chosen(batch(stream(6000, 0.7)))
    assert found.choice is not None
    assert found.choice.canaries >= 60
    taken, *others = found.choice.committees
    assert taken.members == tuple(member.name for member in found.plan.members)
    assert not taken.note
    assert len(others) == 3
    assert all(0 <= other.recall <= taken.recall or other.note for other in others)
    assert chosen(batch(stream(6000, 0.7))) == found


def test_records_too_few_to_try_families_on_get_no_further_member_and_are_told_so() -> None:
    found = chosen(batch(stream(1000, 0.7)))
    assert found.choice is not None
    assert len(found.plan.members) == 2
    assert any("too few to try" in reason for reason in found.choice.reasons)


def test_only_families_that_are_to_be_tried_are() -> None:
    records = batch(stream(6000, 0.7))
    found = chosen(records, replace(OPEN, candidates=("rbm",)))
    assert found.choice is not None
    tried = {member for committee in found.choice.committees for member in committee.members}
    assert sum("rbm on autoregressive" in name for name in tried) == 1
    assert len(found.choice.committees) == 2
    none = chosen(records, replace(OPEN, candidates=()))
    assert none.choice is not None
    assert (none.choice.committees, len(none.plan.members)) == ((), 2)


def test_where_no_further_member_can_be_fitted_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(records: Batch, anomalous: BoolArray | None, plan: TrainingPlan, member: MemberPlan) -> Any:
        return None if member.family == "rbm" else fit_to_try(records, anomalous, plan, member)

    monkeypatch.setattr("detector.training.choose_committee.fit_to_try", fails)
    found = chosen(batch(stream(6000, 0.7)), replace(OPEN, candidates=("rbm",)))
    assert found.choice is not None
    said = [reason for reason in found.choice.reasons if "made anomalies found" in reason]
    assert [reason.partition(", ")[2] for reason in said] == ["no other committee to compare with"]


def test_records_that_tell_nothing_about_one_another_get_a_further_member_only_on_request() -> None:
    records = batch(np.random.default_rng(0).normal(size=(6000, 2)))
    assert (default := chosen(records).choice) is not None
    assert default.committees == ()
    assert (asked := chosen(records, replace(OPEN, candidates=("rbm", "hmm"))).choice) is not None
    assert len(asked.committees) == 2


def loaded(n: int, coefficient: float) -> FloatArray:
    """Three features that follow a load."""
    load = stream(n, coefficient, d=1)
    own = load.std() * stream(n, 0.0, d=3) * [0.2, 6.0, 0.04]
    return np.asarray(load * [1.0, 30.0, 0.2] + own)


@pytest.mark.parametrize("coefficient", [0.0, 0.9])
def test_features_that_go_together_get_a_member_that_hears_when_they_do_not(coefficient: float) -> None:
    values = loaded(8000, coefficient)
    # As high and as low as ever, but not when the others are.
    values[7000:7060, 1] = values[6000:6060, 1]
    records = batch(values[:6500])
    found = chosen(records)
    assert found.choice is not None
    assert "features go together: a member knows how" in found.choice.reasons
    related = found.plan.members[-1]
    assert (related.family, related.predictor, related.share) == ("gmm", "none", 0.003)

    rules = AlertRules(Budget(1, "entity", 86400.0))
    alone = found.plan.with_members([m for m in found.plan.members if m != related])
    heard = [
        outcome_of(serve(train(records, plan, 1e9), rules), batch(values[6500:]))[0].alert[500:560].any()
        for plan in (found.plan, alone)
    ]
    assert heard == [True, False]


def test_features_that_go_together_for_longer_than_a_regime_lasts_are_known_to() -> None:
    # Of six entities the newest 2,000 to fit of each begin in one regime, and end in the other.
    values = np.concatenate([loaded(9000, 0.7) for _ in range(6)])
    values[:, 2] += np.where(np.arange(len(values)) % 9000 // 1425 % 2 == 0, 0.6, 0.0)
    entities = [f"e{i}" for i in range(6) for _ in range(9000)]
    found = chosen(batch(values, entity=entities), replace(OPEN, candidates=("gmm",)))
    assert found.plan.members[-1].options.get("covariance") == "full"


def test_tables_are_fitted_without_their_least_likely_records_unless_rare_texts_would_be_among_them() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 3))
    values[:, 2] = values[:, 2] > 2.0
    table = batch(values)
    numbers, flags = chosen(table), chosen(table, replace(OPEN, kinds={"f2": "binary"}))
    assert numbers.plan.members[0].options == {"trimmed_percent": 20}
    assert flags.plan.members[0].options == {}


def test_only_features_that_go_together_get_a_member_that_knows_how() -> None:
    independent, few = chosen(batch(stream(6500, 0.7, d=3))), chosen(batch(loaded(3000, 0.9)))
    straying = loaded(6500, 0.9)
    straying[:, 2] += np.linspace(0.0, 10.0, len(straying)) * straying[:, 2].std()
    for found in (independent, few, chosen(batch(straying))):
        assert found.choice is not None
        assert not any("go together" in reason for reason in found.choice.reasons)
        assert all(member.options.get("covariance") != "full" for member in found.plan.members)


def test_one_feature_is_compared_with_its_level_its_range_and_its_past_and_its_drift_is_watched() -> None:
    members = chosen(batch(stream(300, 0.7, d=1))).plan.members
    assert [member.predictor for member in members] == ["level_and_range", "regression", "regression"]
    assert [member.time_scale.adds_up for member in members] == [False, False, True]


def test_one_feature_of_several_levels_gets_a_member_that_knows_them() -> None:
    rng = np.random.default_rng(2)
    runs = [
        (50.0 if i % 2 else 5.0, int(rng.normal(90, 10) if i % 2 else rng.normal(30, 4))) for i in range(200)
    ]
    machine = np.repeat([level for level, _ in runs], [length for _, length in runs])[:11_000, None]
    machine += rng.normal(size=machine.shape)
    time = np.arange(0.0, 60.0 * len(machine), 60.0)
    records = batch(machine[:9000], time=time[:9000])
    found = chosen(records)
    assert found.choice is not None
    assert found.choice.canaries >= 60
    assert len(found.plan.members) == 4
    assert found.plan.members[-1].family in ("hmm", "gmm")
    assert chosen(records, replace(OPEN, candidates=())).plan.members == found.plan.members[:3]

    machine[10_500:10_520] = 28.0 + rng.normal(size=(20, 1))
    detector = serve(train(records, OPEN, 1e9), AlertRules(Budget(1, "entity", 86400.0)))
    scores, events = outcome_of(detector, batch(machine[9000:], time=time[9000:]))
    assert scores.alert[1500:1520].any()
    assert sum(event.transition == "firing" and event.time < time[10_500] for event in events) <= 2


def test_a_wave_of_one_feature_gets_a_member_that_follows_it() -> None:
    t = np.arange(9000.0)
    rng = np.random.default_rng(0)
    # Its length wanders, or a member would know it as a cycle.
    lengths = 60.0 * np.exp(0.1 * np.sin(2 * np.pi * t / 1700.0))
    phase = np.cumsum(2 * np.pi / lengths)
    wave = (10 * np.sin(phase) + 4 * np.sin(2 * phase + 1.0) + 0.5 * rng.normal(size=t.size))[:, None]
    members = chosen(batch(wave, time=10.0 * t)).plan.members
    assert (members[-1].predictor, members[-1].order) == ("autoregressive", 24)


def test_a_committee_that_was_chosen_becomes_a_bundle_that_says_why() -> None:
    bundle = train(batch(stream(600, 0.7)), OPEN, 1e9)
    assert bundle.manifest.choice is not None
    assert [member.family for member in bundle.manifest.members] == ["gmm", "naive_bayes"]
    assert bundle.manifest.members[0].weight == 0.3
    again = Manifest.model_validate_json(bundle.manifest.model_dump_json())
    assert again.choice == bundle.manifest.choice


def test_a_day_that_repeats_is_compared_with_the_usual_day() -> None:
    time = np.arange(0.0, 12 * 86400.0, 1800.0)
    rng = np.random.default_rng(0)
    profile = 3.0 * rng.normal(size=48)
    values = profile[np.arange(len(time)) % 48, None] + 0.3 * rng.normal(size=(len(time), 2))
    assert chosen(batch(values, time=time)).plan.members[0].predictor == "seasonal"


@pytest.mark.parametrize("clusters", [1, 2])
def test_records_that_tell_nothing_about_one_another_are_judged_each_by_itself(clusters: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1000, 2)) + 8.0 * rng.integers(clusters, size=(1000, 1))
    members = chosen(batch(values)).plan.members
    assert [member.family for member in members] == ["naive_bayes"]
    assert {member.predictor for member in members} == {"none"}
    assert not any(member.time_scale.is_average for member in members)


@pytest.mark.parametrize("n", [3000, 4000])
def test_of_many_that_tell_nothing_about_one_another_small_departures_add_up(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(n, 2))
    *_, last = chosen(batch(values)).plan.members
    assert last.time_scale.adds_up == (n >= 3334)
    assert (last.share < 0.1) == (n >= 3334)


def test_a_shift_of_one_feature_of_several_that_lasts_is_found_and_told() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_t(4, size=(9000, 6)) / np.sqrt(2)
    x[8200:8300, 4] += 2.0
    time = 60.0 * np.arange(float(len(x)))
    trained = train(batch(x[:6000], time=time[:6000]), OPEN, 1e9)
    detector = serve(trained, AlertRules(Budget(1, "entity", 86400.0)))
    scores, events = outcome_of(detector, batch(x[6000:], time=time[6000:]))
    assert scores.alert[2200:2300].any()
    assert scores.alert[:2200].mean() < 0.01
    event = next(event for event in events if event.start >= time[8200])
    assert event.reasons[0].feature == "f4"


def test_features_that_hardly_ever_jump_do_not_make_a_table_a_stream() -> None:
    flags = np.random.default_rng(0).random((2000, 4)) < 0.002
    choice = chosen(batch(flags.astype(float))).choice
    assert choice is not None
    nats = {entry.name: entry.nats for entry in choice.predictors if entry.nats is not None}
    # Being scaled another way is all that it gains: in any order as much.
    assert nats["autoregressive"] > nats["none"] + 0.03 * 4
    assert any("judged each by itself" in reason for reason in choice.reasons)


def test_the_newest_records_and_labelled_ones_have_no_say() -> None:
    values = stream(1000, 0.7)
    plan = chosen(batch(values)).plan
    anomalous = np.zeros(1000, dtype=bool)
    anomalous[300:310] = True
    values[700:] = 1e3 * np.random.default_rng(1).normal(size=(300, 2))
    assert chosen(batch(values)).plan == plan
    before = choose(batch(values), OPEN, no_report, anomalous)
    values[300:310] = -1e3
    after = choose(batch(values), OPEN, no_report, anomalous)
    assert before == after


def test_records_without_a_continuous_feature_are_for_naive_bayes() -> None:
    kinds: dict[str, Kind] = {"f0": "binary", "f1": "count"}
    values = np.random.default_rng(0).integers(2, size=(300, 2)).astype(float)
    assert chosen(batch(values), replace(OPEN, kinds=kinds)).plan.members == (
        MemberPlan("naive_bayes", "none"),
    )


def test_a_family_that_cannot_take_a_feature_is_no_candidate() -> None:
    values = stream(600, 0.7)
    values[:, 1] = np.arange(600) % 3
    records = replace(batch(values), category_texts={0.0: "a", 1.0: "b", 2.0: "c"})
    members = chosen(records, replace(OPEN, kinds={"f1": "categorical"})).plan.members
    assert {member.family for member in members} == {"naive_bayes"}


def test_a_text_among_numbers_takes_no_member_away() -> None:
    values = stream(2000, 0.7)
    values[:, 1] = np.arange(2000) % 3
    records = replace(batch(values), category_texts={0.0: "a", 1.0: "b", 2.0: "c"})
    plan = replace(OPEN, kinds={"f1": "categorical"}, candidates=())
    quick, slow = chosen(records, plan).plan.members
    assert (quick.time_scale.weight, slow.time_scale.weight) == (0.3, 0.05)
    assert [member.options["density"] for member in (quick, slow)] == ["gaussian", "student"]
    # One record far off is enough for the quick one.
    trained = train(records, replace(plan, family=AUTO), 1e9)
    own = serve(trained, AlertRules(Budget(1, "entity", 1e6)))
    odd = values[:200].copy()
    odd[100, 0] += 15.0
    scores = scores_of(own, odd)
    assert scores.exceeds_threshold[100]
    assert not scores.exceeds_threshold[:100].any()


def test_a_configured_predictor_is_every_members() -> None:
    members = chosen(batch(stream(1000, 0.7)), replace(OPEN, predictor="last")).plan.members
    assert {member.predictor for member in members} == {"last"}
    assert len(set(map(repr, members))) == len(members)


def test_a_configured_family_gets_the_predictor_that_fits_it() -> None:
    plan = replace(OPEN, family="gmm", others=(MemberPlan("hmm", "last"),))
    found = chosen(batch(stream(1000, 0.7)), plan)
    assert [member.predictor for member in found.plan.members] == ["autoregressive", "last"]


def test_a_plan_that_leaves_nothing_open_stays_as_it_is() -> None:
    plan = TrainingPlan("hosts", "gmm", "last")
    assert chosen(batch(stream(50, 0.7)), plan) == Chosen(plan, None)


def test_a_few_records_get_the_committee_to_begin_with_and_are_told_so() -> None:
    found = chosen(batch(stream(35, 0.7)))
    assert found.choice is not None
    assert [member.predictor for member in found.plan.members] == ["autoregressive"] * 2
    assert any("too few" in reason for reason in found.choice.reasons)


def test_a_few_records_that_tell_nothing_about_one_another_are_recognised() -> None:
    values = np.random.default_rng(0).normal(size=(60, 4))
    assert {member.predictor for member in chosen(batch(values)).plan.members} == {"none"}


def test_many_entities_are_tried_by_a_few_of_them() -> None:
    n = 40
    values = np.vstack([stream(60, 0.9, seed=e) for e in range(n)])
    entity = [f"e{e}" for e in range(n) for _ in range(60)]
    time = np.tile(np.arange(60.0), n)
    assert chosen(batch(values, entity=entity, time=time)).plan.members[0].predictor in (
        "last",
        "autoregressive",
    )


def of_days(strength: float, n_days: int = 12, seed: int = 3, n_features: int = 2) -> Batch:
    """Features that follow what they were before; the hour tells of the first."""
    time = np.arange(0.0, n_days * 86400.0, 600.0)
    values = stream(len(time), 0.7, seed=seed)[:, :n_features]
    values[:, 0] += strength * np.sin(2 * np.pi * time / 86400.0)
    return batch(values, time=time)


@pytest.mark.parametrize("n_features", [1, 2])
def test_where_the_hour_tells_much_a_member_with_a_small_share_knows_it(n_features: int) -> None:
    *others, last = chosen(of_days(6.0, n_features=n_features)).plan.members
    beside = ["autoregressive"] * 2 if n_features > 1 else ["level_and_range", "regression", "regression"]
    assert [member.predictor for member in others] == beside
    assert {member.share for member in others} == {1.0}
    assert last.predictor == "seasonal"
    assert last.share < 0.1


@pytest.mark.parametrize(
    ("records", "plan"),
    [
        (of_days(0.3), OPEN),
        (of_days(0.3, n_features=1), OPEN),
        (of_days(6.0, n_days=2), OPEN),
        (of_days(6.0, n_days=2, n_features=1), OPEN),
        (of_days(6.0), replace(OPEN, candidates=())),
    ],
    ids=["little", "little of one feature", "too few days", "of one feature", "no further members wanted"],
)
def test_elsewhere_none_does(records: Batch, plan: TrainingPlan) -> None:
    assert "seasonal" not in {member.predictor for member in chosen(records, plan).plan.members}


def of_cycles(n: int, noise: float = 0.3, records: int = 34, seed: int = 5) -> FloatArray:
    """One feature: a job of six records in each cycle, shape (n, 1)."""
    at_work = np.arange(n) % records < 6
    return np.asarray((5.0 * at_work + noise * np.random.default_rng(seed).normal(size=n))[:, None])


@pytest.mark.parametrize(
    ("values", "knows"),
    [(of_cycles(1500), True), (of_cycles(1500, noise=9.0), False), (stream(1500, 0.9)[:, :1], False)],
    ids=["cycle", "hardly a cycle", "no cycle"],
)
def test_where_one_feature_goes_in_cycles_a_member_knows_them(values: FloatArray, knows: bool) -> None:
    members = chosen(batch(values, time=300.0 * np.arange(float(len(values))))).plan.members
    assert ("cyclic" in {member.predictor for member in members}) == knows


def test_a_cycle_that_is_not_found_in_all_records_to_fit_is_no_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is tried are some of them."""

    def no_cycle(*_: object) -> None:
        raise ValueError("no cycle")

    monkeypatch.setattr("detector.training.choose.expect", no_cycle)
    members = chosen(batch(of_cycles(1500), time=300.0 * np.arange(1500.0))).plan.members
    assert "cyclic" not in {member.predictor for member in members}


@pytest.mark.parametrize("wrong", ["left out", "twice as often", "late"])
def test_a_job_at_the_wrong_time_is_found_where_its_cycle_is_known(wrong: str) -> None:
    time, n, at = 300.0 * np.arange(7000.0), 4000, 6000
    values = of_cycles(len(time))
    if wrong == "left out":
        values[at : at + 72] = of_cycles(7, records=1000)[6:]
    elif wrong == "twice as often":
        values[at : at + 72] = of_cycles(72, records=17)
    else:
        values[at : at + 72] = np.roll(values[at : at + 72], 12)
    bundle = train(batch(values[:n], time=time[:n]), OPEN, 1e9)
    detector = serve(bundle, AlertRules(Budget(1, "entity", 86400.0)))
    scores, _ = outcome_of(detector, batch(values[n:], time=time[n:]))
    assert scores.alert[at - n : at - n + 90].any()
    assert np.count_nonzero(np.diff(scores.alert[: at - n].astype(int)) == 1) <= 7


@pytest.mark.parametrize(("n_features", "depth"), [(1, 16.0), (2, 10.0)])
def test_a_slow_fall_at_noon_to_the_level_of_the_night_is_found_where_the_hour_is_known(
    tmp_path: Path, n_features: int, depth: float
) -> None:
    time = np.arange(0.0, 32 * 86400.0, 600.0)
    values = stream(len(time), 0.7, seed=4)
    values[:, 0] += 8.0 * np.sin(2 * np.pi * (time / 86400.0 - 0.25))
    values[:, 1] += 8.0 * np.sin(2 * np.pi * (time / 86400.0 - 0.25))
    n, noon = 28 * 144, 30 * 144 + 72
    # Down over six hours, there for three, and back as slowly.
    fall = np.interp(np.arange(len(time)), noon + np.array([-24, 12, 30, 66]), [0.0, depth, depth, 0.0])
    values = (values - fall[:, None])[:, :n_features]
    found = {}
    for candidates in ((), OPEN.candidates):
        bundle = train(batch(values[:n], time=time[:n]), replace(OPEN, candidates=candidates), 1e9)
        bundle = load_bundle(BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out))
        detector = serve(bundle, AlertRules(Budget(1, "entity", 7 * 86400.0)))
        scores, _ = outcome_of(detector, batch(values[n:], time=time[n:]))
        before, during = scores.alert[: noon - n - 24], scores.alert[noon - n - 24 : noon - n + 66]
        found[candidates] = bool(before.any()), bool(during.any())
    assert found == {(): (False, False), OPEN.candidates: (False, True)}


def test_frequencies_are_known_to_a_member_where_averages_can_be_known() -> None:
    rng = np.random.default_rng(0)

    def members(n: int, kinds: dict[str, Kind], candidates: tuple[str, ...] = CANDIDATES) -> list[str]:
        columns = np.column_stack([rng.normal(size=n), rng.random(n) < 0.1, rng.poisson(2.0, n)])
        records = replace(batch(columns[:, -len(kinds) :]), feature_names=tuple(kinds))
        plan = replace(OPEN, kinds=kinds, candidates=candidates)
        return [member.time_scale.averaged for member in chosen(records, plan).plan.members]

    table: dict[str, Kind] = {"f0": "continuous", "f1": "binary", "f2": "count"}
    discrete: dict[str, Kind] = {"f1": "binary", "f2": "count"}
    assert members(4000, table) == ["surprise", "deviation", "frequency"]
    assert members(4000, discrete) == ["surprise", "frequency"]
    for fewer in (members(2000, table), members(2000, discrete)):
        assert "frequency" not in fewer
    assert members(4000, discrete, candidates=("gmm",)) == ["surprise"]
    assert "frequency" not in members(4000, table, candidates=("gmm",))
    assert "frequency" not in members(4000, dict.fromkeys(table, "continuous"))
