"""Tests for detector.daemon: which versions serve an input."""

import errno
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from detector.bootstrap.background import Background
from detector.bootstrap.following import Following
from detector.bundles.store import BundleError, BundleRejectedError, BundleStore
from detector.daemon import _input, run
from detector.training.job import TrainingPlan, train
from detector.web.health import Health
from detector.web.metrics import Metrics
from tests.made import batch
from tests.test_from_config import config


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "count"}, "is count in the configuration.*as continuous; write that kind"),
        ({"type": "counter"}, "is counter in the configuration.*as gauge; write that type"),
        ({"scale": "log"}, "is log in the configuration.*as linear; write that scale"),
    ],
)
def test_version_trained_on_other_features_is_refused(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    records = replace(
        batch(np.random.default_rng(0).poisson(5.0, (300, 1)).astype(float)), feature_names=("rps",)
    )
    bundle = train(records, TrainingPlan("one", "gmm", options={"n_components": 1}), 1e9)
    BundleStore(tmp_path).save(bundle.manifest, bundle.model, bundle.held_out)
    BundleStore(tmp_path).set_alias("one", bundle.manifest.version)
    features = [{"name": "rps"} | changed]
    loaded = config(
        detectors=[{"name": "one", "input": "hosts", "features": features, "store": str(tmp_path)}]
    )
    with pytest.raises(BundleRejectedError, match=f"'rps' {said}"):
        run(loaded, tmp_path / "config.yaml")


def test_a_version_trained_by_other_settings_serves_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = replace(batch(np.random.default_rng(0).normal(size=(300, 1))), feature_names=("rps",))
    bundle = train(records, TrainingPlan("one", "gmm", options={"n_components": 1}), 1e9)
    configured = {"family": "gmm", "features.rps.field": "rps", "features.rps.unit": "1/s"}
    manifest = bundle.manifest.model_copy(update={"configured": configured})
    BundleStore(tmp_path).save(manifest, bundle.model, bundle.held_out)
    BundleStore(tmp_path).set_alias("one", manifest.version)
    detector = {"name": "one", "input": "hosts", "family": "gmm", "store": str(tmp_path)}

    def warnings_with(rps: dict[str, str], **changes: str) -> list[str]:
        caplog.clear()
        loaded = config(detectors=[detector | {"features": [{"name": "rps"} | rps]} | changes])
        with ExitStack() as resources:
            metrics = Metrics(CollectorRegistry(), Health())
            _input(loaded, loaded.inputs[0], metrics, None, tmp_path, Background(), resources)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    assert warnings_with({"unit": "1/s"}) == []
    [said] = warnings_with({"field": "requests"}, family="hmm")
    assert said == (
        f"detector 'one': version {manifest.version} was trained by other settings than are configured, and "
        "goes by its own until you train again: family is hmm and was gmm; features.rps.field is requests "
        "and was rps; features.rps.unit is not set and was 1/s"
    )


def test_detectors_follow_their_champions_between_polls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, rng = BundleStore(tmp_path), np.random.default_rng(0)
    versions = []
    for name, created_s in (("rps", 1e9), ("rps", 1.1e9), ("bps", 1.2e9)):
        records = replace(batch(rng.normal(size=(300, 1))), feature_names=(name,))
        bundle = train(records, TrainingPlan("one", "gmm", options={"n_components": 1}), created_s)
        store.save(bundle.manifest, bundle.model, bundle.held_out)
        versions.append(bundle.manifest.version)
    first, second, other = versions
    store.set_alias("one", first)
    loaded = config(
        detectors=[{"name": "one", "input": "hosts", "features": ["rps"], "store": str(tmp_path)}]
    )
    registry = CollectorRegistry()
    metrics, background = Metrics(registry, Health()), Background()
    with ExitStack() as resources:
        file = tmp_path / "config.yaml"
        served = _input(loaded, loaded.inputs[0], metrics, None, file, background, resources)
    background.start()
    [following] = served.arrivals
    assert isinstance(following, Following)

    def version_after_a_look() -> str:
        for _ in range(2):
            following._look_due_s = 0.0
            served.take_arrivals()
            background.do(lambda: None).result(10.0)
        [watch] = served.watches
        return watch.version

    assert version_after_a_look() == first
    store.set_alias("one", second)
    assert version_after_a_look() == second
    store.set_alias("one", other)
    assert version_after_a_look() == second
    assert "was trained on bps, but the configuration lists rps" in caplog.text
    assert registry.get_sample_value("detector_versions_refused_total", {"detector": "one"}) == 1
    store.set_alias("one", first)
    assert version_after_a_look() == first
    (tmp_path / "one" / "champion.alias").write_bytes(b"\xff")
    assert version_after_a_look() == first
    background.stop()


def test_a_store_that_vanishes_is_told_and_what_is_loaded_scores_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    store, rng = BundleStore(folder), np.random.default_rng(0)
    records = replace(batch(rng.normal(size=(300, 1))), feature_names=("rps",))
    bundle = train(records, TrainingPlan("one", "gmm", options={"n_components": 1}), 1e9)
    store.save(bundle.manifest, bundle.model, bundle.held_out)
    version = bundle.manifest.version
    store.promote("one", version, "train", 1e9)
    loaded = config(detectors=[{"name": "one", "input": "hosts", "features": ["rps"], "store": str(folder)}])
    registry = CollectorRegistry()
    with ExitStack() as resources:
        metrics, background = Metrics(registry, Health()), Background()
        served = _input(loaded, loaded.inputs[0], metrics, None, tmp_path, background, resources)
    [following] = served.arrivals
    assert isinstance(following, Following)
    what_vanishes = (
        folder / "one" / version / "model.safetensors",
        folder / "one" / "champion.alias",
        folder,
    )
    for times, away in enumerate(what_vanishes, 1):
        caplog.clear()
        away.rename(tmp_path / "away")
        following._retry_due_s = 0.0
        for _ in range(2):
            following._look_due_s = 0.0
            served.take_arrivals()
        [watch] = served.watches
        assert watch.version == version
        [told] = [record for record in caplog.records if record.levelname == "WARNING"]
        assert str(away if away.suffix == ".safetensors" else folder) in told.getMessage()
        counted = registry.get_sample_value("detector_versions_refused_total", {"detector": "one"})
        assert counted == times
        (tmp_path / "away").rename(away)
        following._look_due_s = 0.0
        served.take_arrivals()


def test_an_input_counts_from_0_before_its_first_record(tmp_path: Path) -> None:
    detector = {"name": "one", "input": "hosts", "features": ["rps"], "store": str(tmp_path), "bootstrap": {}}
    loaded, registry = config(detectors=[detector]), CollectorRegistry()
    with ExitStack() as resources:
        metrics = Metrics(registry, Health())
        file = tmp_path / "config.yaml"
        _input(loaded, loaded.inputs[0], metrics, None, file, Background(), resources)
    decoded = {"input": "hosts", "outcome": "decoded"}
    assert registry.get_sample_value("detector_records_total", decoded) == 0


def test_a_detector_that_is_to_train_needs_a_store_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("detector.bundles.store.tempfile.TemporaryFile", refuse)
    detector = {"name": "one", "input": "hosts", "features": ["rps"], "store": str(tmp_path), "bootstrap": {}}
    file = tmp_path / "config.yaml"
    with pytest.raises(
        BundleError, match=r"store .* cannot be written: Read-only file system; the daemon is"
    ):
        run(config(detectors=[detector]), file)
