"""Texts, counts and flags from JSON records to alerts, through the job, the store and the codec."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from detector.alerting.event import AlertEvent
from detector.alerting.feature_rules import FeatureRule
from detector.alerting.rules import AlertRules, Budget
from detector.batch import Batch, Scores
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleStore, load_bundle
from detector.models.kinds import Kind
from detector.pipeline.detector import Detector
from detector.scoring.time_scale import TimeScale
from detector.stream.alert_record import encode_alert
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.training.job import TrainingError, TrainingPlan, train
from detector.training.plan import MemberPlan
from tests.made import batch
from tests.pipelines import outcome_of, scores_of, watch
from tests.stream.records import raw_records

START_S = 1_780_000_000.0
NOW_S = START_S + 1e6
SCHEMA = InputSchema(
    name="requests",
    features=(
        ("latency", ("latency",)),
        ("method", ("http", "method")),
        ("errors", ("errors",)),
        ("cached", ("cached",)),
    ),
    categorical=frozenset({("http", "method")}),
    binary=frozenset({("cached",)}),
)
PLAN = TrainingPlan(
    "requests",
    "naive_bayes",
    kinds={"method": "categorical", "errors": "count", "cached": "binary"},
    options={"n_classes": 1},
)


def features(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "latency": float(rng.normal(0.2, 0.02)),
            "http": {"method": str(rng.choice(["GET", "POST", "PUT"], p=[0.8, 0.19, 0.01]))},
            "errors": int(rng.poisson(2.0)),
            "cached": bool(rng.uniform() < 0.5),
        }
        for _ in range(n)
    ]


def decoded(rows: list[dict[str, Any]], codec: JsonCodec | None = None) -> Batch:
    records = [{"entity": "shop", "time": START_S + 10 * i, "features": row} for i, row in enumerate(rows)]
    raw = raw_records([json.dumps(record).encode() for record in records])
    batch, rejected = (codec or JsonCodec(SCHEMA)).decode(raw, NOW_S)
    assert rejected == []
    return batch


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = train(decoded(features(3000, 0)), PLAN, 1e9)
    store = BundleStore(tmp_path_factory.mktemp("store"))
    return load_bundle(store.save(trained.manifest, trained.model, trained.held_out))


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Detector:
    return serve(bundle, AlertRules(Budget(1, "entity", 3e4), fire_m=1, fire_of=1))


def with_odd(at: int, **changed: Any) -> list[dict[str, Any]]:
    rows = features(60, 1)
    rows[at] |= changed
    return rows


def scored(detector: Detector, rows: list[dict[str, Any]]) -> tuple[Scores, list[AlertEvent]]:
    return outcome_of(detector, decoded(rows))


def test_manifest_says_what_every_feature_is(bundle: Bundle) -> None:
    modelled_as = bundle.manifest.members[0].modelled_as
    kinds = [(f.kind, of, f.vocabulary) for f, of in zip(bundle.manifest.features, modelled_as, strict=True)]
    assert kinds == [
        ("continuous", "continuous", None),
        ("categorical", "categorical", ("GET", "POST", "PUT")),
        ("count", "count", None),
        ("binary", "binary", None),
    ]


@pytest.mark.parametrize(
    ("changed", "feature", "actual", "expected"),
    [
        ({"http": {"method": "DELETE"}}, "method", "DELETE", "GET"),
        ({"http": {"method": 7}}, "method", "7", "GET"),
        ({"errors": 40}, "errors", 40.0, pytest.approx(2.0, abs=0.2)),
        ({"errors": -1}, "errors", -1.0, pytest.approx(2.0, abs=0.2)),
        ({"errors": 0.5}, "errors", 0.5, pytest.approx(2.0, abs=0.2)),
    ],
)
def test_odd_value_is_improbable_and_the_reason_names_it(
    detector: Detector, changed: dict[str, Any], feature: str, actual: Any, expected: Any
) -> None:
    scores, events = scored(detector, with_odd(50, **changed))
    assert scores.status[50] == 0
    assert scores.p_value[50] < 1e-2 < np.median(scores.p_value[1:50])
    event = next(event for event in events if event.last_offset == 50)
    reason = event.reasons[0]
    assert (reason.feature, reason.actual, reason.expected) == (feature, actual, expected)
    written = json.loads(encode_alert(event, "group").value)["reasons"][0]
    assert (written["feature"], written["actual"]) == (feature, actual)
    assert (written["std"] is None) == (feature == "method")


def test_likelihood_of_an_ordinary_record_is_the_product_of_its_features(detector: Detector) -> None:
    """A text that is four times as frequent is four times as likely, whatever else is in the record."""
    rows = with_odd(20, http={"method": "GET"})
    other = [row | {"http": {"method": "POST"}} if i == 20 else row for i, row in enumerate(rows)]
    one, two = scored(detector, rows)[0], scored(detector, other)[0]
    ratio = np.exp(one.log_likelihood[20] - two.log_likelihood[20])
    assert ratio == pytest.approx(0.8 / 0.19, rel=0.15)
    # The past of other features holds no texts, so nothing else has changed.
    np.testing.assert_array_equal(np.delete(one.log_likelihood, 20), np.delete(two.log_likelihood, 20))


def test_missing_text_is_marginalised(detector: Detector) -> None:
    missing, there = with_odd(20, http={}), with_odd(20, http={"method": "GET"})
    one, two = scored(detector, missing)[0], scored(detector, there)[0]
    assert one.log_likelihood[20] - two.log_likelihood[20] == pytest.approx(-np.log(0.8), abs=0.1)


def test_scores_have_the_same_bits_after_a_restart_and_record_by_record(
    bundle: Bundle, detector: Detector
) -> None:
    rows = with_odd(50, http={"method": "DELETE"}, cached=None)
    whole = scored(detector, rows)[0]
    used = JsonCodec(SCHEMA)
    used.decode(
        raw_records([json.dumps({"features": {"http": {"method": f"m{i}"}}}).encode() for i in range(99)]),
        NOW_S,
    )
    own = watch(detector)
    one_by_one = []
    polled = decoded(rows, used)
    for i in range(len(rows)):
        part = polled.take(np.arange(len(rows)) == i)
        one_by_one.append(own.process(part, np.zeros(1, dtype=np.int64))[0].log_likelihood[0])
    np.testing.assert_array_equal(whole.log_likelihood, one_by_one)


def test_features_without_any_number_need_no_predictor(tmp_path: Path) -> None:
    records = decoded(features(600, 0))
    texts = replace(records, feature_names=("method",), values=records.values[:, 1:2])
    trained = train(texts, TrainingPlan("m", "naive_bayes", kinds={"method": "categorical"}), 1e9)
    assert trained.manifest.predictor == "none"
    loaded = load_bundle(BundleStore(tmp_path).save(trained.manifest, trained.model, trained.held_out))
    one, two = (scores_of(serve(b, AlertRules()), texts.values) for b in (trained, loaded))
    np.testing.assert_array_equal(one.log_likelihood, two.log_likelihood)


def test_labelled_regimes_are_the_classes_and_are_named_in_the_manifest() -> None:
    rng = np.random.default_rng(0)
    night = rng.uniform(size=900) < 0.5
    rows = features(900, 0)
    for row, is_night in zip(rows, night.tolist(), strict=True):
        row["latency"] += 1.0 if is_night else 0.0
    regime = [None if i % 3 == 0 else "night" if night[i] else "day" for i in range(900)]
    regime[-1] = "holiday"
    bundle = train(decoded(rows), replace(PLAN, options={}), 1e9, regime=regime)
    facts = bundle.manifest.training
    assert (facts.regimes, facts.regime_records) == (("day", "night"), 600)
    assert bundle.manifest.members[0].choices["classes"] == 2
    z = bundle.model.density.scaling.standardise(decoded(rows).values, np.zeros(900, dtype=np.int64))
    family = bundle.model.density.family
    believed = family.latent(family.initial_state(900), z, np.full(900, np.nan))
    assert (believed.argmax(axis=1) == night).mean() > 0.99


@pytest.mark.parametrize(
    ("level", "models", "warned"),
    [(200.0, "pooled", True), (200.0, "per_entity", False), (4.0, "pooled", False)],
)
def test_counts_of_unlike_levels_are_named(
    level: float, models: Literal["pooled", "per_entity"], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    errors = np.concatenate([rng.poisson(2.0, 400), rng.poisson(level, 400)]).astype(float)
    records = batch(
        np.column_stack([errors, rng.normal(size=800)]),
        entity=["web"] * 400 + ["db"] * 400,
        time=np.tile(60.0 * np.arange(400.0), 2),
    )
    plan = TrainingPlan("d", "naive_bayes", "none", kinds={"f0": "count"}, models=models)
    train(records, plan, 1e9)
    assert ("the count f0 has unlike levels" in caplog.text) == warned


FREQUENT = replace(PLAN, family="auto", predictor="auto", options={})


@pytest.fixture(scope="module")
def frequent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = train(decoded(features(6000, 0)), FREQUENT, 1e9)
    store = BundleStore(tmp_path_factory.mktemp("frequent"))
    return load_bundle(store.save(trained.manifest, trained.model, trained.held_out))


def with_incident(feature: str, n: int = 2000) -> list[dict[str, Any]]:
    """Requests of which the last hundred are unlike the others together, and none of them by itself."""
    rows = features(n, 5)
    for i in range(n - 100, n):
        if feature == "method" and i % 4 == 0:
            rows[i]["http"] = {"method": "PUT"}
        if feature == "errors" and i % 2:
            rows[i]["errors"] = 5
        if feature == "cached":
            rows[i]["cached"] = i % 20 != 0
    return rows


@pytest.mark.parametrize(
    ("feature", "of", "value"),
    [("method", "share", "PUT"), ("errors", "mean", None), ("cached", "share", 1.0)],
)
def test_values_that_come_too_often_are_found_and_told(
    frequent: Bundle, feature: str, of: str, value: str | float | None
) -> None:
    assert [member.averaged for member in frequent.manifest.members][-1] == "frequency"
    rules = AlertRules(Budget(1, "entity", 2e4))
    before = 10 * 1900 + START_S
    _, events = outcome_of(serve(frequent, rules), decoded(with_incident(feature)))
    fired, *again = [event for event in events if event.transition == "firing" and event.start >= before]
    assert {event.alert_id for event in again} <= {fired.alert_id}
    assert sum(event.transition == "firing" and event.start < before for event in events) <= 2
    first = fired.reasons[0]
    assert first.feature == feature
    assert first.frequency is not None
    assert (first.frequency.of, first.frequency.value, first.frequency.records) == (of, value, 20)
    assert first.frequency.actual > 1.3 * first.frequency.expected
    assert fired.member == "naive_bayes on none, frequencies over 20 records"
    assert fired.reasons[1].nats < 0.5 * first.nats


def test_averages_of_frequencies_do_not_depend_on_batches(frequent: Bundle) -> None:
    detector = serve(frequent, AlertRules(Budget(1, "entity", 2e4)))
    records = decoded(with_incident("method", 300))
    whole, _ = outcome_of(detector, records)
    watching = watch(detector)
    parts = [
        watching.process(records.take(part), np.zeros(len(part), dtype=np.int64))[0].p_value
        for part in np.array_split(np.arange(300), 7)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole.p_value)


def test_a_deviation_of_a_count_that_does_not_matter_is_no_alert_if_its_mean_is_too_high(
    frequent: Bundle,
) -> None:
    def fires(rule: FeatureRule) -> bool:
        rules = (FeatureRule(), FeatureRule(), rule, FeatureRule())
        detector = serve(frequent, AlertRules(Budget(1, "entity", 2e4)), feature_rules=rules)
        _, events = outcome_of(detector, decoded(with_incident("errors")))
        return any(event.transition == "firing" and event.start >= START_S + 19_000 for event in events)

    assert fires(FeatureRule(direction="above"))
    assert not fires(FeatureRule(direction="below"))
    assert not fires(FeatureRule(smallest_absolute=3.0))


def test_a_member_of_ones_own_may_average_frequencies_only_of_what_its_family_takes_for_discrete() -> None:
    member = MemberPlan("gmm", "none", time_scale=TimeScale(0.05, averaged="frequency"))
    plan = replace(PLAN, options={}, kinds={"errors": "count"}).with_members([member])
    records = batch(np.random.default_rng(0).poisson(2.0, (1000, 1)).astype(float))
    records = replace(records, feature_names=("errors",))
    with pytest.raises(TrainingError, match="no frequencies to average"):
        train(records, plan, 1e9)


def test_a_flag_that_never_changed_makes_no_new_entity_suspicious() -> None:
    rng = np.random.default_rng(0)

    def records(*entities: str, n: int) -> Batch:
        values = np.column_stack([rng.normal(size=(len(entities) * n, 2)), np.ones((len(entities) * n, 1))])
        time = START_S + np.repeat(np.arange(0.0, 60.0 * n, 60.0), len(entities))
        return batch(values, entity=list(entities) * n, time=time)

    plan = replace(FREQUENT, kinds={"f2": "binary"})
    trained = train(records("a", "b", n=4000), plan, 1e9)
    assert trained.manifest.members[-1].averaged == "frequency"
    test = records("a", "new", n=300)
    test.values[200, 2] = 0.0
    scores, _ = outcome_of(serve(trained, AlertRules(Budget(1, "entity", 86_400.0))), test)
    of_new = np.array(test.entity) == "new"
    assert scores.anomaly_score[of_new].max() < 1.0
    assert scores.anomaly_score[200] > 1.0
    assert (scores.anomaly_score[~of_new] >= 1.0).sum() < 50


def test_an_alert_ends_where_its_feature_comes_no_more(frequent: Bundle) -> None:
    rows = features(300, 7)
    for i in range(100, 112):
        rows[i]["http"] = {"method": "PUT"}
    for row in rows[112:]:
        del row["http"]
    scores, events = outcome_of(serve(frequent, AlertRules(Budget(1, "entity", 2e4))), decoded(rows))
    assert [event.transition for event in events if event.transition != "updated"] == ["firing", "resolved"]
    assert not scores.alert[130:].any()


def test_chance_in_other_features_does_not_matter_to_a_rule() -> None:
    rng = np.random.default_rng(3)
    n, flags = 5000, 20
    values = np.column_stack([rng.poisson(5.0, n), rng.random((n, flags)) < 0.5]).astype(float)
    kinds: dict[str, Kind] = {"f0": "count"}
    kinds.update({f"f{j}": "binary" for j in range(1, flags + 1)})
    plan = replace(FREQUENT, kinds=kinds)
    trained = train(batch(values, time=np.arange(0.0, 10.0 * n, 10.0)), plan, 1e9)
    test = np.column_stack([rng.poisson(5.0, 400), rng.random((400, flags)) < 0.5]).astype(float)
    test[300:, 0] = rng.poisson(2.0, 100)

    def fires(rule: FeatureRule) -> bool:
        rules = (rule, *[FeatureRule()] * flags)
        detector = serve(trained, AlertRules(Budget(1, "entity", 2e4)), feature_rules=rules)
        _, events = outcome_of(detector, batch(test, time=np.arange(0.0, 4000.0, 10.0)))
        return any(event.transition == "firing" and event.start >= 3000.0 for event in events)

    assert fires(FeatureRule())
    assert not fires(FeatureRule(direction="above"))
