"""Models of entities' own, from the job that trains them to scores, alerts, bundles and synthetic records."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from detector.alerting.rules import AlertRules
from detector.batch import Batch, FloatArray, Scores, Status
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleStore
from detector.pipeline.detector import Detector
from detector.scoring.generate import generate
from detector.training.job import TrainingPlan, train
from tests.made import batch
from tests.pipelines import outcome_of, scores_of, slots_of, watch

PLAN = {
    "gmm": TrainingPlan("hosts", "gmm", options={"n_components": 2}),
    "hmm": TrainingPlan("hosts", "hmm", options={"n_states": 2}),
    "naive_bayes": TrainingPlan("hosts", "naive_bayes", options={"n_classes": 2}),
}
EVERY_FAMILY = pytest.mark.parametrize("family", PLAN)
KNOWN = ("opposed", "parallel")


def rows(entity: str, n: int, seed: int) -> FloatArray:
    """Two features that are both high or both low, or one high while the other is low."""
    rng = np.random.default_rng(seed)
    level = rng.choice([-2.0, 2.0], size=(n, 1))
    signs = np.array([1.0, -1.0 if entity == "opposed" else 1.0])
    return np.asarray(level * signs + 0.5 * rng.normal(size=(n, 2)))


@cache
def trained(family: str, models: str = "per_entity") -> Bundle:
    records = np.vstack([rows(entity, 600, seed) for seed, entity in enumerate(KNOWN)])
    entity = [entity for entity in KNOWN for _ in range(600)]
    plan = replace(PLAN[family], models="pooled" if models == "pooled" else "per_entity")
    return train(batch(records, entity=entity), plan, 1e9)


def detector(family: str, models: str = "per_entity") -> Detector:
    return serve(trained(family, models), AlertRules(fire_m=1, fire_of=1))


def mixed(n: int = 240) -> Batch:
    """Records of three entities in no order, one of them never seen in training, with gaps."""
    rng = np.random.default_rng(5)
    names = [(*KNOWN, "stranger")[i] for i in rng.integers(0, 3, n)]
    values = np.vstack([rows(name, 1, 1000 + i) for i, name in enumerate(names)])
    values[rng.random(n) < 0.1, 0] = np.nan
    return batch(values, entity=names)


@EVERY_FAMILY
def test_the_manifest_says_who_has_a_model_of_its_own(family: str) -> None:
    assert trained(family).manifest.entities_with_own_family == KNOWN
    assert trained(family, "pooled").manifest.entities_with_own_family == ()


@EVERY_FAMILY
def test_batch_size_changes_nothing_by_a_bit(family: str) -> None:
    records = mixed()
    slots = slots_of(records)
    whole, _ = outcome_of(detector(family), records)
    for size in (1, 7):
        runner, pieces = watch(detector(family)), []
        for start in range(0, len(records), size):
            at = np.arange(start, min(start + size, len(records)))
            pieces.append(runner.process(part(records, at), slots[at])[0])
        for column in ("status", "log_likelihood", "p_value"):
            np.testing.assert_array_equal(
                np.concatenate([getattr(p, column) for p in pieces]), getattr(whole, column)
            )


def part(records: Batch, at: np.ndarray) -> Batch:
    return replace(
        records,
        source=records.source[at],
        offset=records.offset[at],
        entity=[records.entity[i] for i in at],
        time=records.time[at],
        values=records.values[at],
    )


@EVERY_FAMILY
def test_an_entity_never_seen_is_scored_by_the_pooled_model(family: str) -> None:
    scores = {models: scores_of_entity(family, models, "stranger") for models in ("per_entity", "pooled")}
    own, pooled = scores["per_entity"], scores["pooled"]
    scored = (own.status == Status.SCORED) & (pooled.status == Status.SCORED)
    assert scored.sum() > 100
    np.testing.assert_allclose(own.log_likelihood[scored], pooled.log_likelihood[scored], rtol=1e-9)


@EVERY_FAMILY
@pytest.mark.parametrize("entity", KNOWN)
def test_a_record_usual_for_another_entity_is_improbable(family: str, entity: str) -> None:
    """A pooled model knows both, and cannot tell whose is which."""
    foreign = rows("parallel" if entity == "opposed" else "opposed", 200, 8)
    own, shared = (
        scores_of(detector(family, models), foreign, [entity] * 200).p_value
        for models in ("per_entity", "pooled")
    )
    assert np.nanmedian(own) < 0.2 * np.nanmedian(shared)


@EVERY_FAMILY
def test_p_values_are_uniform_with_and_without_all_features(family: str) -> None:
    for hidden in ([], [1]):
        x = rows("opposed", 3000, 9)
        x[:, hidden] = np.nan
        p_value = scores_of(detector(family), x, ["opposed"] * 3000).p_value
        assert np.nanmean(p_value < 0.1) == pytest.approx(0.1, abs=0.05)
        assert np.nanmedian(p_value) == pytest.approx(0.5, abs=0.1)


def scores_of_entity(family: str, models: str, entity: str) -> Scores:
    return scores_of(detector(family, models), rows(entity, 200, 7), [entity] * 200)


@EVERY_FAMILY
def test_an_alert_says_what_the_entitys_own_model_expected(family: str) -> None:
    for entity, sign in zip(KNOWN, (-1.0, 1.0), strict=True):
        x = rows(entity, 150, 6)
        x[140] = [2.0, -sign * 5.0]
        _, events = outcome_of(detector(family), batch(x, entity=[entity] * 150))
        event = next(e for e in events if e.last_offset == 140 and e.transition == "firing")
        expected = next(reason.expected for reason in event.reasons if reason.feature == "f1")
        assert isinstance(expected, float)
        assert expected * sign > 1.0


@EVERY_FAMILY
def test_synthetic_records_of_an_entity_come_from_its_own_model(family: str) -> None:
    member = trained(family).model.members[0]
    x = generate(member.density, member.examples, np.array([0, 1, 2]), 3000, np.random.default_rng(0))
    opposed, parallel, stranger = (np.corrcoef(of_entity.T)[0, 1] for of_entity in x)
    assert opposed < -0.5
    assert parallel > 0.5
    assert opposed < stranger < parallel


def test_the_report_judges_what_all_models_generate() -> None:
    """Two bells of entities that oppose each other fill the space between their four clusters."""
    own, pooled = (trained("gmm", models).manifest.members[0].report for models in ("per_entity", "pooled"))
    assert own.generated is not None
    assert pooled.generated is not None
    assert own.generated.generated.precision > pooled.generated.generated.precision + 0.1


@EVERY_FAMILY
def test_a_saved_bundle_scores_to_the_bit(family: str, tmp_path: Path) -> None:
    bundle, store = trained(family), BundleStore(tmp_path)
    folder = store.save(bundle.manifest, bundle.model, bundle.held_out)
    again = store.load("hosts", bundle.manifest.version)
    assert json.loads((folder / "manifest.json").read_text())["entities_with_own_family"] == list(KNOWN)
    assert again.model.entities_with_own_family == KNOWN
    one, two = (outcome_of(serve(b, AlertRules()), mixed())[0] for b in (bundle, again))
    np.testing.assert_array_equal(one.log_likelihood, two.log_likelihood)
    np.testing.assert_array_equal(one.p_value, two.p_value)


def test_a_bundle_from_before_there_were_models_per_entity_still_loads(tmp_path: Path) -> None:
    bundle, store = trained("gmm", "pooled"), BundleStore(tmp_path)
    folder = store.save(bundle.manifest, bundle.model, bundle.held_out)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["models"], manifest["entities_with_own_family"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    again = store.load("hosts", bundle.manifest.version)
    assert again.model.density.entity_families is None
    assert again.manifest.models == "pooled"
