"""Both clients talk TLS to a real broker, and say what is wrong where they are refused."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from detector.batch import Source
from detector.stream.port import (
    AccessDeniedError,
    BrokerUnavailableError,
    ClientName,
    ClientSettings,
    KafkaClientError,
    SaslMechanism,
    follow_topic,
    open_consumer,
    open_partition,
    open_producer,
    read_range,
)
from tests.kafka.fixtures import create_topic
from tests.kafka.secured_broker import PASSWORD, USER, Authority, SecuredBroker
from tests.system.process import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredBroker]:
    with SecuredBroker() as broker:
        yield broker


@pytest.fixture(params=["kafka-python", "confluent"])
def settings_with(request: pytest.FixtureRequest, broker: SecuredBroker) -> Callable[..., ClientSettings]:
    """Settings of a client that trusts the broker's authority."""
    if request.param == "confluent":
        pytest.importorskip("confluent_kafka")
    client: ClientName = request.param

    def settings(server: str, **security: Any) -> ClientSettings:
        known = ClientSettings(
            client, (server,), group_id=uuid.uuid4().hex, ssl_cafile=str(broker.authority.certificate)
        )
        return replace(known, **security)

    return settings


def with_password(mechanism: SaslMechanism = "SCRAM-SHA-512", password: str = PASSWORD) -> dict[str, Any]:
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_username": USER,
        "sasl_password": password,
    }


def with_certificate(authority: Authority) -> dict[str, Any]:
    certificate, key = authority.issue("client")
    return {"security_protocol": "SSL", "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def there_and_back(broker: SecuredBroker, settings: ClientSettings) -> list[bytes | None]:
    """Write a value to a topic of its own and return what is read from there."""
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    create_topic(broker, topic, 1)
    found: list[bytes | None] = []
    with closing(open_producer(settings)) as producer:
        producer.send(topic, [None], [b"secret"], [[]])
        producer.flush(20.0)
    with closing(open_consumer(settings)) as consumer:
        consumer.subscribe([topic])

        def read() -> bool:
            found.extend(consumer.poll(10, 0.5).value)
            return bool(found)

        wait_until(read, 30.0, "the record")
    return found


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_lets_in(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings], mechanism: SaslMechanism
) -> None:
    settings = settings_with(broker.for_passwords, **with_password(mechanism))
    assert there_and_back(broker, settings) == [b"secret"]


def test_a_certificate_lets_in(broker: SecuredBroker, settings_with: Callable[..., ClientSettings]) -> None:
    settings = settings_with(broker.for_certificates, **with_certificate(broker.authority))
    assert there_and_back(broker, settings) == [b"secret"]


def refusal(settings: ClientSettings) -> KafkaClientError:
    """Return the error that opening a reader ends in."""
    with pytest.raises(KafkaClientError) as caught:
        open_consumer(settings).close()
    return caught.value


def test_a_wrong_password_is_said_to_be_refused(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings]
) -> None:
    error = refusal(settings_with(broker.for_passwords, **with_password(password="guessed")))
    assert isinstance(error, AccessDeniedError)
    assert f"refuse us as user '{USER}'" in str(error)
    assert "guessed" not in str(error)


def test_a_certificate_of_another_authority_is_refused(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings], tmp_path: Path
) -> None:
    settings = settings_with(broker.for_certificates, **with_certificate(Authority(tmp_path)))
    assert isinstance(refusal(settings), BrokerUnavailableError)


def test_a_broker_of_another_authority_is_not_told_the_password(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings], tmp_path: Path
) -> None:
    security = with_password("PLAIN") | {"ssl_cafile": str(Authority(tmp_path).certificate)}
    error = refusal(settings_with(broker.for_passwords, **security))
    assert isinstance(error, BrokerUnavailableError)
    assert "certificate verify failed" in str(error)
    assert str(error).endswith("; check kafka.security (protocol, ca_file, certificate_file)")


def test_talking_in_clear_where_tls_is_spoken_points_to_the_protocol(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings]
) -> None:
    error = refusal(settings_with(broker.for_passwords))
    assert isinstance(error, BrokerUnavailableError)
    assert "; check kafka.security" in str(error)


def test_a_topic_that_may_not_be_seen_is_said_to_be_refused(
    broker: SecuredBroker, settings_with: Callable[..., ClientSettings]
) -> None:
    topic = f"topic-{uuid.uuid4().hex[:12]}"
    create_topic(broker, topic, 1)
    others = ACL(
        principal="User:somebody-else",
        host="*",
        operation=ACLOperation.READ,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType.TOPIC, topic, ACLResourcePatternType.LITERAL),
    )
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.create_acls([others])
    settings = settings_with(broker.for_passwords, **with_password())

    def subscribe() -> None:
        with closing(open_consumer(settings)) as consumer:
            consumer.subscribe([topic])

    reads: list[Callable[[], object]] = [
        subscribe,
        lambda: next(read_range(settings, [topic], 0.0)),
        lambda: next(follow_topic(settings, topic, 0.1)),
        lambda: open_partition(settings, Source(topic, 0)),
    ]
    for read in reads:
        with pytest.raises(AccessDeniedError, match=topic):
            read()
