"""What the settings become in either library, and what is refused; no broker needed."""

import logging
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import kafka.codec
import pytest
from kafka import errors

from detector.stream.kafka_python_connection import connect, connection_options
from detector.stream.port import (
    AccessDeniedError,
    BrokerUnavailableError,
    ClientSettings,
    ClientSettingsError,
    InvalidTopicError,
    check_topics,
    open_consumer,
    open_producer,
    what_to_check,
)

SECURED = ClientSettings(
    "confluent",
    ("kafka-1:9093", "kafka-2:9093"),
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="detector",
    sasl_password="very secret",
    ssl_cafile="/etc/ca.pem",
)


def test_the_password_is_not_shown() -> None:
    assert "very secret" not in repr(SECURED)
    assert "very secret" not in str(SECURED)


def test_kafka_python_is_told_of_the_security() -> None:
    options = connection_options(SECURED)
    assert options["bootstrap_servers"] == ["kafka-1:9093", "kafka-2:9093"]
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "detector"
    assert options["sasl_plain_password"] == "very secret"
    assert options["ssl_cafile"] == "/etc/ca.pem"


def test_confluent_is_told_of_the_security() -> None:
    pytest.importorskip("confluent_kafka")
    from detector.stream.confluent_connection import Connection

    options = Connection(SECURED).options()
    assert options["bootstrap.servers"] == "kafka-1:9093,kafka-2:9093"
    assert options["security.protocol"] == "sasl_ssl"
    assert options["sasl.mechanism"] == "SCRAM-SHA-512"
    assert options["sasl.username"] == "detector"
    assert options["sasl.password"] == "very secret"
    assert options["ssl.ca.location"] == "/etc/ca.pem"


def test_a_refused_password_is_not_mistaken_for_an_absent_broker() -> None:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    from detector.stream.confluent_connection import Connection

    connection = Connection(SECURED)
    connection.options()["error_cb"](
        confluent_kafka.KafkaError(confluent_kafka.KafkaError._AUTHENTICATION, "bad credentials")
    )
    timeout = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TRANSPORT, "no answer")
    error = connection.error_for(timeout)
    assert isinstance(error, AccessDeniedError)
    assert "bad credentials" in str(error)
    assert "very secret" not in str(error)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("InvalidReceiveError: Invalid frame length: 352518912", "check kafka.security (protocol, ca_file,"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "check kafka.security (protocol, ca"),
        ("SSL routines::ssl/tls alert bad certificate", "check kafka.security (protocol, ca_file,"),
        (
            "Disconnected: SSL connection closed by peer",
            "check kafka.security.protocol, kafka.bootstrap_servers",
        ),
        ("socket disconnected", "check kafka.security.protocol, kafka.bootstrap_servers and that"),
        ("", "check kafka.security.protocol, kafka.bootstrap_servers and that the brokers run"),
        ("111 ECONNREFUSED", "check kafka.bootstrap_servers and that the brokers run"),
    ],
)
def test_what_to_check_depends_on_why_no_broker_answers(reason: str, said: str) -> None:
    assert what_to_check(reason).startswith(said)
    with pytest.raises(BrokerUnavailableError, match=re.escape(f"{reason}; {said}")):
        connect(SECURED, partial(fail_with, OSError(reason)))


def fail_with(error: Exception) -> None:
    raise error


def test_a_group_is_named_only_where_the_group_is_refused() -> None:
    unknown, group = errors.SaslAuthenticationFailedError("no"), errors.GroupAuthorizationFailedError("no")
    with pytest.raises(AccessDeniedError, match="kafka-2:9093 refuse us as user 'detector': "):
        connect(SECURED, partial(fail_with, unknown))
    with pytest.raises(AccessDeniedError, match="refuse group 'detector' as user 'detector': "):
        connect(SECURED, partial(fail_with, group))
    confluent_kafka = pytest.importorskip("confluent_kafka")
    from detector.stream.confluent_connection import Connection

    code = confluent_kafka.KafkaError
    connection = Connection(SECURED)
    assert "refuse us as user 'detector': " in str(connection.error_for(code(code._AUTHENTICATION)))
    refused = connection.error_for(code(code.GROUP_AUTHORIZATION_FAILED))
    assert "refuse group 'detector' as user 'detector': " in str(refused)


def test_kafka_python_may_not_log_at_debug_what_is_secret() -> None:
    library, root = logging.getLogger("kafka"), logging.getLogger()
    before = library.level, root.level
    try:
        root.setLevel(logging.DEBUG)
        library.setLevel(logging.DEBUG)
        connect(SECURED, lambda: None)
        assert logging.getLogger("kafka.net.connection").getEffectiveLevel() >= logging.INFO
    finally:
        library.setLevel(before[0])
        root.setLevel(before[1])


@pytest.mark.parametrize("codec", ["lz4", "snappy", "zstd"])
def test_an_absent_codec_is_found_at_the_start(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka.codec, f"has_{codec}", lambda: False)
    with pytest.raises(ClientSettingsError, match=rf"compressed with {codec}; install"):
        open_consumer(ClientSettings("kafka-python", ("127.0.0.1:1",)))


@pytest.mark.parametrize("opened", [open_consumer, open_producer])
def test_a_setting_the_library_refuses_is_told_as_such(opened: Callable[[ClientSettings], Any]) -> None:
    pytest.importorskip("confluent_kafka")
    nonsense: Any = "CARRIER_PIGEON"
    with pytest.raises(ClientSettingsError, match="refuses a setting"):
        opened(ClientSettings("confluent", ("127.0.0.1:1",), security_protocol=nonsense))


def test_confluent_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for module in ("detector.stream.confluent_client", "detector.stream.confluent_connection"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ClientSettingsError, match=r"pip install '\.\[confluent\]' in the source folder"):
        open_consumer(ClientSettings("confluent", ("127.0.0.1:1",)))


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "größe", "a/b", "x" * 250])
def test_illegal_topic_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidTopicError, match="not a Kafka topic name"):
        check_topics(["fine", name])


def test_legal_topic_names_are_not() -> None:
    check_topics(["a", "telemetry.scores", "A_b-9", "x" * 249])
