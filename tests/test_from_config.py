"""Tests for detector.from_config: what the configuration becomes."""

from typing import Any

from detector.config.root import Config
from detector.from_config import client_settings, input_schema, training_settings


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


def test_settings_of_training_are_what_is_said_of_the_model_and_not_of_the_records() -> None:
    features = [{"name": "rps", "field": "requests.rate", "unit": "1/s", "direction": "above"}]
    training = {"n_components": 2, "typicality": "auto", "files": ["normal.csv"], "seed": 3}
    member = {"family": "gmm", "predictor": "seasonal", "records": 3}
    one = {"name": "one", "input": "hosts", "features": features, "family": "gmm", "training": training}
    two = {"name": "two", "input": "hosts", "features": ["cpu"], "members": [member], "min_features": 0.7}
    two["time_zone"] = "Europe/Berlin"
    settings = [training_settings(detector) for detector in config(detectors=[one, two]).detectors]
    of_rps = {"features.rps.field": "requests.rate", "features.rps.unit": "1/s"}
    assert settings[0] == {"family": "gmm", "training.n_components": "2"} | of_rps
    assert settings[1].pop("members") == '[{"family": "gmm", "predictor": "seasonal", "records": 3}]'
    assert settings[1] == {"features.cpu.field": "cpu", "time_zone": "Europe/Berlin"}
