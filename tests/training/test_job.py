"""Tests for detector.training.job."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, Scores, Status
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleStore, load_bundle
from detector.models.kinds import Kind
from detector.models.naive_bayes import NaiveBayes
from detector.models.predictors import PREDICTORS
from detector.models.vae import Vae
from detector.scoring.time_scale import TimeScale
from detector.scoring.typicality import Choice
from detector.training import fit_vae, train_member
from detector.training.job import TrainingError, TrainingPlan, train
from detector.training.plan import MemberPlan
from tests.made import batch
from tests.models.families_by_hand import random_vae
from tests.pipelines import outcome_of, scores_of

PLAN = TrainingPlan("hosts", "gmm", options={"n_components": 1})


def rows(n: int = 900, d: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    for t in range(1, n):
        x[t] += 0.7 * x[t - 1]
    return x * 5 + 100


def test_order_of_the_training_records_does_not_matter() -> None:
    records = batch(rows(), entity=[f"e{i % 3}" for i in range(900)])
    shuffle = np.random.default_rng(1).permutation(900)
    shuffled = replace(
        records,
        entity=[records.entity[i] for i in shuffle],
        time=records.time[shuffle],
        values=records.values[shuffle],
    )
    one, two = train(records, PLAN, 1e9), train(shuffled, PLAN, 1e9)
    assert one.manifest.training.data_sha256 == two.manifest.training.data_sha256
    for name, array in one.model.arrays().items():
        np.testing.assert_array_equal(array, two.model.arrays()[name], err_msg=name)


@pytest.mark.parametrize(("kinds", "times"), [({}, 1), ({"f0": "count"}, 2)])
def test_records_that_members_take_alike_are_put_in_order_once(
    monkeypatch: pytest.MonkeyPatch, kinds: dict[str, Kind], times: int
) -> None:
    prepared: list[str] = []
    prepare = train_member.prepare

    def counted(records: Batch, plan: TrainingPlan, *labels: Any) -> train_member.Material:
        prepared.append(plan.family)
        return prepare(records, plan, *labels)

    monkeypatch.setattr(train_member, "prepare", counted)
    plan = replace(PLAN, kinds=kinds, others=(MemberPlan("naive_bayes", "none"),))
    bundle = train(batch(np.round(rows())), plan, 1e9)
    assert prepared == ["gmm", "naive_bayes"][:times]
    assert [member.family for member in bundle.manifest.members] == ["gmm", "naive_bayes"]


def test_incident_after_training_is_found_and_normal_traffic_keeps_quiet() -> None:
    x = rows(6000)
    x[5500:5506] += 60
    bundle = train(batch(x[:4000]), PLAN, 1e9)
    later = batch(x[4000:], time=np.arange(4000.0, 6000.0))
    detector = serve(bundle, AlertRules(Budget(1, "entity", 2000.0)))
    scores, events = outcome_of(detector, later)
    assert scores.alert[1500:1508].any()
    assert sum(e.transition == "firing" for e in events) <= 6
    top = next(e for e in events if e.transition == "firing" and 5500 <= e.time <= 5510)
    reason = top.reasons[0]
    assert isinstance(reason.actual, float)
    assert isinstance(reason.expected, float)
    assert isinstance(reason.std, float)
    assert reason.actual - reason.expected > 3 * reason.std


@pytest.mark.parametrize(("interval_s", "learns"), [(1.0, False), (60.0, True)])
def test_a_young_version_goes_on_learning_where_single_records_teach(interval_s: float, learns: bool) -> None:
    plan = replace(PLAN, time_scale=TimeScale(0.3))
    assert train(batch(rows(), time=interval_s * np.arange(900.0)), plan, 1e9).model.learns == learns


def test_calibration_rows_are_the_newest_and_shape_no_density() -> None:
    x = rows()
    changed = x.copy()
    changed[800:] += 1000
    one, two = train(batch(x), PLAN, 1e9), train(batch(changed), PLAN, 1e9)
    for name, array in one.model.arrays().items():
        if name.startswith(("scaling/", "predictor/", "residual/", "family/")):
            np.testing.assert_array_equal(array, two.model.arrays()[name], err_msg=name)
    assert not np.array_equal(
        one.model.members[0].calibration.complete.surprise, two.model.members[0].calibration.complete.surprise
    )


def test_a_hidden_markov_model_has_as_many_mixtures_as_asked_for() -> None:
    plan = TrainingPlan("hosts", "hmm", options={"n_states": 2, "n_mixtures": 3})
    bundle = train(batch(rows(600)), plan, 1e9)
    chosen = bundle.manifest.members[0].choices
    assert (chosen["states"], chosen["mixtures"]) == (2, 3)
    assert bundle.model.arrays()["0/family/weights"].shape == (2, 3)


def test_a_hidden_markov_model_counts_time_in_the_usual_interval() -> None:
    time = 30.0 * np.arange(600.0)
    time[100:] += 900.0
    plan = TrainingPlan("hosts", "hmm", options={"n_states": 2, "n_mixtures": 1})
    bundle = train(batch(rows(600), time=time), plan, 1e9)
    assert bundle.manifest.training.interval_s == 30.0
    np.testing.assert_array_equal(bundle.model.arrays()["0/family/interval_s"], [30.0])


def test_entities_with_few_records_are_scored_by_the_pooled_model() -> None:
    entity = ["big"] * 870 + ["small"] * 30
    bundle = train(batch(rows(), entity=entity), PLAN, 1e9)
    assert bundle.manifest.entities == ("big",)


def test_missing_values_are_no_obstacle() -> None:
    x = rows()
    x[np.random.default_rng(0).uniform(size=x.shape) < 0.2] = np.nan
    bundle = train(batch(x), PLAN, 1e9)
    scores, _ = outcome_of(serve(bundle, AlertRules()), batch(x[700:]))
    assert np.nanmedian(scores.p_value) == pytest.approx(0.5, abs=0.1)


def test_constant_feature_is_no_obstacle_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    x = rows()
    x[:, 1] = 7.0
    with caplog.at_level("INFO"):
        bundle = train(batch(x), PLAN, 1e9)
    assert "taken for constant, since they vary by no more than rounding does: f1" in caplog.text
    changed = x[700:].copy()
    changed[50:60, 1] = 9.0
    scores, _ = outcome_of(serve(bundle, AlertRules()), batch(changed))
    assert scores.p_value[50] < 0.01
    assert np.nanmedian(scores.p_value) > 0.2


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_log_likelihood_is_in_the_units_of_the_data(predictor: str) -> None:
    """Multiplying every feature by c takes D log c off the log-likelihood, and nothing off the p-value."""
    plan = replace(PLAN, predictor=predictor)
    x, time = rows() + 20.0 * np.sin(2 * np.pi * np.arange(900) / 20)[:, None], 600.0 * np.arange(900.0)

    def scores(c: float) -> Scores:
        detector = serve(train(batch(c * x, time=time), plan, 1e9), AlertRules())
        return outcome_of(detector, batch(c * x[600:], time=time[600:]))[0]

    plain, scaled = scores(1.0), scores(8.0)
    np.testing.assert_allclose(scaled.log_likelihood[1:], plain.log_likelihood[1:] - 3 * np.log(8), atol=1e-6)
    np.testing.assert_allclose(scaled.p_value[1:], plain.p_value[1:], rtol=1e-6)


def test_daily_pattern_is_more_likely_under_seasonal_than_under_none() -> None:
    time = 600.0 * np.arange(14.0 * 144)
    day = np.sin(2 * np.pi * time / 86_400)
    x = np.random.default_rng(0).normal(size=(time.size, 3)) + 5 * day[:, None]
    likely = {
        name: train(batch(x, time=time), replace(PLAN, predictor=name), 1e9).manifest
        for name in ("seasonal", "none")
    }
    seasonal, none = (likely[name].members[0].held_out_mean_log_likelihood for name in ("seasonal", "none"))
    assert seasonal is not None
    assert none is not None
    assert seasonal > none + 0.5


def test_after_a_change_of_clocks_the_local_hour_is_usual_where_the_zone_is_known(tmp_path: Path) -> None:
    """Two weeks of winter time in Berlin, which go up at eight on the clock, and a day of summer time."""
    zone, change_s = ZoneInfo("Europe/Berlin"), datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp()
    time = change_s + 600.0 * np.arange(-14.0 * 144, 144.0)
    hour = np.array([datetime.fromtimestamp(t, zone).hour for t in time])
    x = (10.0 * ((hour >= 8) & (hour < 18)) + np.random.default_rng(0).normal(size=time.size))[:, None]
    winter, summer = time < change_s, time >= change_s

    def p_value_after_eight(time_zone: str) -> np.ndarray:
        plan = replace(PLAN, predictor="seasonal", time_zone=time_zone)
        trained = train(batch(x[winter], time=time[winter]), plan, 1e9)
        kept = load_bundle(BundleStore(tmp_path).save(trained.manifest, trained.model, trained.held_out))
        assert kept.manifest.time_zone == time_zone
        scores, _ = outcome_of(serve(kept, AlertRules()), batch(x[summer], time=time[summer]))
        return np.asarray(scores.p_value[hour[summer] == 8])

    assert p_value_after_eight("UTC").max() < 0.01
    assert p_value_after_eight("Europe/Berlin").min() > 0.01


def test_seasonal_says_that_the_records_cover_too_little_time() -> None:
    with pytest.raises(TrainingError, match="'hosts': predictor seasonal learns from at least 2 days"):
        train(batch(rows()), replace(PLAN, predictor="seasonal"), 1e9)


def test_order_of_the_autoregression_is_the_plans_and_warms_up_as_long() -> None:
    bundle = train(batch(rows()), replace(PLAN, order=3), 1e9)
    scores, _ = outcome_of(serve(bundle, AlertRules()), batch(rows(60, seed=1)))
    assert (scores.status[:4] == Status.SCORED).tolist() == [False, False, False, True]
    with pytest.raises(TrainingError, match="order 25 of predictor autoregressive"):
        train(batch(rows()), replace(PLAN, order=25), 1e9)


def with_block(height: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of which 60 are an incident in the part that fits and 60 one in the part held out."""
    x, incident = rows(2000), np.zeros(2000, dtype=bool)
    incident[500:560] = incident[1700:1760] = True
    x[incident] += height
    return x, incident


@pytest.mark.parametrize("predictor", ["autoregressive", "ewma"])
def test_records_labelled_anomalous_leave_no_trace_in_the_bundle(predictor: str) -> None:
    plan = replace(PLAN, predictor=predictor)
    bundles = []
    for height in (5.0, 4000.0):
        x, incident = with_block(height)
        bundles.append(train(batch(x), plan, 1e9, anomalous=incident))
    one, two = bundles
    for name, array in one.model.arrays().items():
        np.testing.assert_array_equal(array, two.model.arrays()[name], err_msg=name)
    np.testing.assert_array_equal(one.held_out.p_value, two.held_out.p_value)
    facts = one.manifest.training
    assert (facts.records, facts.anomalous_records, facts.fitting_records) == (2000, 120, 1316)
    # Each part of a broken sequence has to warm up again, and it is one entity still.
    assert one.held_out.lengths.tolist() == [1880 - 1316 - 1]


def test_incident_moves_the_calibration_unless_it_is_labelled() -> None:
    x, incident = with_block(300.0)
    clean = train(batch(with_block(0.0)[0]), PLAN, 1e9)
    labelled, ignored = train(batch(x), PLAN, 1e9, anomalous=incident), train(batch(x), PLAN, 1e9)

    def p_value_of_a_surprise(bundle: Bundle) -> float:
        later = rows(60, seed=5)
        later[50] += 25.0
        return float(outcome_of(serve(bundle, AlertRules()), batch(later))[0].p_value[50])

    assert p_value_of_a_surprise(labelled) < 1.7 * p_value_of_a_surprise(clean)
    assert p_value_of_a_surprise(ignored) > 10 * p_value_of_a_surprise(clean)


def test_vae_is_shown_anomalous_records_and_told_which_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def fit(x: np.ndarray, **options: Any) -> Vae:
        told.update(options, x=x)
        return random_vae(3, 3)

    monkeypatch.setattr(fit_vae, "fit_vae", fit)
    x, incident = with_block(300.0)
    plan = TrainingPlan("hosts", "vae", options={"window": 3})
    bundle = train(batch(x), plan, 1e9, anomalous=incident)
    # The autoregression expects each record from the one before: the first has none, and 560 a wrong one.
    assert told["lengths"].tolist() == [len(told["x"])] == [1316 + 60 - 1]
    assert np.flatnonzero(told["anomalous"]).tolist() == list(range(499, 560))
    assert (np.abs(told["x"][500:559]) > 3).any(axis=1).all()
    assert np.abs(told["x"][~told["anomalous"]]).max() < 6
    assert bundle.manifest.training.fitting_records == 1316


def test_labels_do_not_depend_on_the_order_of_the_records() -> None:
    x, incident = with_block(9.0)
    records, shuffle = batch(x), np.random.default_rng(1).permutation(2000)
    shuffled = replace(records, time=records.time[shuffle], values=records.values[shuffle])
    one = train(records, PLAN, 1e9, anomalous=incident)
    two = train(shuffled, PLAN, 1e9, anomalous=incident[shuffle])
    assert one.manifest.training.data_sha256 == two.manifest.training.data_sha256
    np.testing.assert_array_equal(one.held_out.p_value, two.held_out.p_value)


def test_records_that_are_all_anomalous_are_too_few() -> None:
    with pytest.raises(TrainingError, match="0 records beside 900 labelled anomalous are too few"):
        train(batch(rows()), PLAN, 1e9, anomalous=np.ones(900, dtype=bool))


def test_family_without_counts_takes_them_for_numbers_and_the_manifest_says_so() -> None:
    x = rows()
    x[:, 1] = np.random.default_rng(0).poisson(3, 900)
    x[:, 2] = np.random.default_rng(1).uniform(size=900) < 0.3
    declared = train(batch(x), replace(PLAN, kinds={"f1": "count", "f2": "binary"}), 1e9)
    plain = train(batch(x), PLAN, 1e9)
    for name, array in plain.model.arrays().items():
        np.testing.assert_array_equal(array, declared.model.arrays()[name], err_msg=name)
    assert [f.kind for f in declared.manifest.features] == ["continuous", "count", "binary"]
    assert set(declared.manifest.members[0].modelled_as) == {"continuous"}


def test_family_without_use_for_texts_names_the_feature_and_who_has() -> None:
    with pytest.raises(TrainingError, match=r"'f1' is categorical, which family gmm cannot.*naive_bayes"):
        train(batch(rows()), replace(PLAN, kinds={"f1": "categorical"}), 1e9)


def test_binary_feature_of_a_machine_with_binary_units_is_neither_shifted_nor_scaled(tmp_path: Path) -> None:
    x = rows(600)
    x[:, 1] = np.random.default_rng(1).uniform(size=600) < 0.3
    x[7, 1] = 3.0
    plan = TrainingPlan("hosts", "rbm", options={"n_hidden": 2}, kinds={"f1": "binary"})
    bundle = train(batch(x), plan, 1e9)
    density = bundle.model.density
    np.testing.assert_array_equal(density.scaling.location[:, 1], 0.0)
    np.testing.assert_array_equal(density.scaling.scale[:, 1] * density.residual_scale[:, 1], 1.0)
    assert density.predictor.arrays()["intercept"].shape[1] == 2
    loaded = load_bundle(BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out))
    later = batch(rows(50, seed=2))
    later.values[:, 1] = 1.0
    one, two = (scores_of(serve(b, AlertRules()), later.values) for b in (bundle, loaded))
    np.testing.assert_array_equal(one.p_value, two.p_value)
    assert np.isfinite(one.p_value[1:]).all()


def entities_of_two_kinds(differ: bool) -> Batch:
    """Eight entities of 400 records: all like one another, or the odd ones with features that oppose."""
    parts = []
    for e in range(8):
        x = np.random.default_rng(e).normal(size=(400, 2))
        x[:, 1] = 0.6 * x[:, 1] + (-0.8 if differ and e % 2 else 0.8) * x[:, 0]
        parts.append(10.0 * e + x)
    return batch(np.vstack(parts), entity=[f"e{e}" for e in range(8) for _ in range(400)])


@pytest.mark.parametrize("family", ["gmm", "hmm", "naive_bayes"])
def test_entities_that_differ_are_likelier_under_models_of_their_own(family: str) -> None:
    hmm = {"n_states": 2, "n_mixtures": 1}
    options = {"gmm": {"n_components": 1}, "hmm": hmm, "naive_bayes": {"n_classes": 2}}[family]
    plan = TrainingPlan("hosts", family, predictor="none", options=options)
    records = entities_of_two_kinds(differ=True)
    pooled, own = (train(records, replace(plan, models=m), 1e9) for m in ("pooled", "per_entity"))
    assert len(own.manifest.entities_with_own_family) == 8
    assert own.manifest.models == "per_entity"
    assert pooled.manifest.entities_with_own_family == ()
    assert pooled.model.density.entity_families is None
    likely, likelier = (b.manifest.members[0].held_out_mean_log_likelihood for b in (pooled, own))
    assert likely is not None
    assert likelier is not None
    assert likelier > likely + 0.1
    assert own.model.density.warmup_records == pooled.model.density.warmup_records
    for name, array in pooled.model.density.family.arrays().items():
        np.testing.assert_array_equal(own.model.density.family.arrays()[name], array)


def test_entities_that_are_alike_share_the_pooled_model() -> None:
    plan = TrainingPlan("hosts", "gmm", predictor="none", options={"n_components": 1}, models="per_entity")
    bundle = train(entities_of_two_kinds(differ=False), plan, 1e9)
    assert bundle.manifest.entities == tuple(f"e{e}" for e in range(8))
    assert len(bundle.manifest.entities_with_own_family) <= 1


def test_neural_families_for_many_entities_are_refused_before_any_is_fitted() -> None:
    records = batch(rows(150 * 101), entity=[f"e{i % 101}" for i in range(150 * 101)])
    with pytest.raises(TrainingError, match=r"fit a rbm to each of 101 entities.*at most 100 are allowed"):
        train(records, TrainingPlan("hosts", "rbm", models="per_entity"), 1e9)


def test_unknown_family_is_named() -> None:
    with pytest.raises(TrainingError, match="no family is called 'kmeans'"):
        train(batch(rows()), replace(PLAN, family="kmeans"), 1e9)


def test_unknown_setting_of_the_family_is_named() -> None:
    with pytest.raises(TrainingError, match="family gmm has no setting"):
        train(batch(rows()), replace(PLAN, options={"n_states": 3}), 1e9)


def test_density_of_naive_bayes_is_the_plans_and_wide_kernels_without() -> None:
    plan = replace(PLAN, family="naive_bayes", options={"n_classes": 1})
    asked_for = replace(plan, options={"n_classes": 1, "density": "gaussian"})
    for own, kind in ((plan, "kernel"), (asked_for, "gaussian")):
        family = train(batch(rows()), own, 1e9).model.density.family
        assert isinstance(family, NaiveBayes)
        assert set(family.kinds) == {kind}
    with pytest.raises(TrainingError, match="no density is called 'round'"):
        train(batch(rows()), replace(plan, options={"density": "round"}), 1e9)


def test_covariance_of_a_gaussian_mixture_is_the_plans_and_in_the_manifest() -> None:
    plan = replace(PLAN, options={"n_components": 2, "covariance": "tied"})
    assert train(batch(rows()), plan, 1e9).manifest.members[0].choices["covariance"] == "tied"
    with pytest.raises(TrainingError, match="no covariance is called 'round'"):
        train(batch(rows()), replace(PLAN, options={"covariance": "round"}), 1e9)
    with pytest.raises(TrainingError, match="n_components of family gmm is 'two'; give a whole number"):
        train(batch(rows()), replace(PLAN, options={"n_components": "two"}), 1e9)


def test_too_few_records_say_how_many_are_needed() -> None:
    with pytest.raises(TrainingError, match="10 records are too few"):
        train(batch(rows(10)), PLAN, 1e9)


def test_feature_without_any_value_is_named() -> None:
    x = rows()
    x[:, 2] = np.nan
    with pytest.raises(TrainingError, match=r"features \['f2'\] have no value"):
        train(batch(x), PLAN, 1e9)


def test_infinite_value_is_named() -> None:
    x = rows()
    x[5, 1] = np.inf
    with pytest.raises(TrainingError, match="feature 'f1' is infinite in 1 records"):
        train(batch(x), PLAN, 1e9)


def test_no_records_say_what_to_check() -> None:
    with pytest.raises(TrainingError, match="no records to train on"):
        train(batch(np.empty((0, 2))), PLAN, 1e9)


@pytest.mark.parametrize(("typicality", "said"), [("auto", "off"), ("on", "on")])
def test_the_plan_decides_on_the_guard_and_the_bundle_keeps_it(
    tmp_path: Path, typicality: Choice, said: str
) -> None:
    bundle = train(batch(rows()), replace(PLAN, typicality=typicality), 1e9)
    assert bundle.manifest.members[0].choices["typicality"] == said
    again = load_bundle(BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out))
    assert (again.model.members[0].calibration.lower is not None) == (said == "on")
