"""Tests for detector.daemon: what the configuration becomes."""

import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from detector.bootstrap.background import Background
from detector.bootstrap.following import Following
from detector.bundles.store import BundleRejectedError, BundleStore
from detector.config.root import Config
from detector.daemon import _input, client_settings, input_schema, run, stopped_by_signals
from detector.training.job import TrainingPlan, train
from detector.web.health import Health
from detector.web.metrics import Metrics
from tests.made import batch


def config(**changes: Any) -> Config:
    return Config.model_validate(
        {
            "inputs": [
                {
                    "name": "hosts",
                    "topics": ["a", "b"],
                    "entity": ["tags.host", "disk"],
                    "labels": ["tags.team"],
                }
            ],
            "detectors": [
                {
                    "name": "one",
                    "input": "hosts",
                    "features": ["cpu", {"name": "rps", "field": "requests.rate"}],
                },
                {"name": "two", "input": "hosts", "features": ["memory", "cpu"]},
            ],
            **changes,
        }
    )


def test_input_is_read_once_for_all_its_detectors() -> None:
    loaded = config()
    schema = input_schema(loaded, loaded.inputs[0])
    assert schema.features == (("cpu", ("cpu",)), ("rps", ("requests", "rate")), ("memory", ("memory",)))
    assert schema.entity == (("tags", "host"), ("disk",))
    assert schema.labels == (("tags.team", ("tags", "team")),)
    assert schema.time == ("time",)


def test_a_hangup_ends_nothing_and_says_how_a_configuration_is_applied(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    asked: list[str] = []
    with stopped_by_signals(lambda: asked.append("stop")):
        signal.raise_signal(signal.SIGHUP)
        assert asked == []
        assert "SIGHUP changes nothing: the configuration is read at the start" in caplog.text
        signal.raise_signal(signal.SIGTERM)
        assert asked == ["stop"]
    assert [signal.getsignal(number) for number in numbers] == before


def test_one_detector_alone_is_read_in_its_own_order() -> None:
    loaded = config()
    schema = input_schema(loaded, loaded.inputs[0], loaded.detectors[1])
    assert schema.features == (("memory", ("memory",)), ("cpu", ("cpu",)))


def test_kinds_of_the_features_say_how_their_fields_are_read() -> None:
    features = [
        {"name": "cpu", "kind": "count"},
        {"name": "method", "field": "http.method", "kind": "categorical"},
        {"name": "up", "kind": "binary"},
    ]
    loaded = config(
        detectors=[
            {"name": "one", "input": "hosts", "features": features, "family": "naive_bayes"},
            {"name": "two", "input": "hosts", "features": ["cpu", "up"]},
        ]
    )
    schema = input_schema(loaded, loaded.inputs[0])
    assert [name for name, _ in schema.features] == ["cpu", "method", "up"]
    assert schema.readings == ("number", "text", "flag")
    assert input_schema(loaded, loaded.inputs[0], loaded.detectors[1]).readings == ("number", "number")


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


def test_an_input_counts_from_0_before_its_first_record(tmp_path: Path) -> None:
    detector = {"name": "one", "input": "hosts", "features": ["rps"], "store": str(tmp_path), "bootstrap": {}}
    loaded, registry = config(detectors=[detector]), CollectorRegistry()
    with ExitStack() as resources:
        metrics = Metrics(registry, Health())
        file = tmp_path / "config.yaml"
        _input(loaded, loaded.inputs[0], metrics, None, file, Background(), resources)
    decoded = {"input": "hosts", "outcome": "decoded"}
    assert registry.get_sample_value("detector_records_total", decoded) == 0


def test_list_of_values_is_read_only_where_it_means_one_thing() -> None:
    both = config()
    assert input_schema(both, both.inputs[0]).values_field is None
    assert input_schema(both, both.inputs[0], both.detectors[0]).values_field is None
    alone = config(detectors=[{"name": "one", "input": "hosts", "features": ["cpu", "memory"]}])
    assert input_schema(alone, alone.inputs[0]).values_field == ("values",)


def test_kafka_section_reaches_the_clients_with_its_secret_only_where_it_is_used() -> None:
    loaded = config(
        kafka={
            "bootstrap_servers": ["kafka-1:9092", "kafka-2:9092"],
            "client": "kafka-python",
            "group_id": "g",
            "instance_id": "i",
            "session_timeout": "20s",
            "start_from": "latest",
            "compression": "zstd",
            "security": {
                "protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "username": "u",
                "password": "canary",
            },
        }
    )
    settings = client_settings(loaded)
    assert settings.bootstrap_servers == ("kafka-1:9092", "kafka-2:9092")
    assert (settings.group_id, settings.instance_id, settings.start_from) == ("g", "i", "latest")
    assert (settings.session_timeout_s, settings.compression) == (20.0, "zstd")
    assert (settings.security_protocol, settings.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (settings.sasl_username, settings.sasl_password) == ("u", "canary")
    assert "canary" not in repr(settings)
    assert "canary" not in repr(loaded)
