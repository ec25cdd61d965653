"""How confluent-kafka is configured, opened, and its errors translated, for reader and writer alike."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from detector.extras import how_to_install
from detector.stream.port import (
    PROBE_TIMEOUT_S,
    AccessDeniedError,
    BrokerUnavailableError,
    ClientFailedError,
    ClientSettings,
    ClientSettingsError,
    InstanceIdTakenError,
    KafkaClientError,
    TopicMissingError,
    what_to_check,
)

try:
    from confluent_kafka import KafkaError, KafkaException
except ImportError as error:
    raise ClientSettingsError(
        "kafka.client is confluent, and confluent-kafka is not installed; "
        f"{how_to_install('confluent')}, or set kafka.client to kafka-python"
    ) from error

_TOPIC_LOOKUP_PAUSE_S = 0.2
_DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED}
_MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_SILENT = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
}


class Connection:
    """The last thing librdkafka complained of, and the errors that come of it."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self.complaint: KafkaError | None = None

    def options(self) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "bootstrap.servers": ",".join(settings.bootstrap_servers),
            "client.id": settings.client_id,
            "security.protocol": settings.security_protocol.lower(),
            # The default, to start again from the seeds, can hang for ever after a broker was killed.
            "metadata.recovery.strategy": "none",
            "reconnect.backoff.max.ms": 2000,
            "error_cb": self._complain,
            "logger": logging.getLogger("librdkafka"),
            # It repeats every failed connection each second; the exceptions here carry the reason.
            "log_level": 2,
        }
        if settings.ssl_cafile is not None:
            options["ssl.ca.location"] = settings.ssl_cafile
        if settings.ssl_certfile is not None:
            options["ssl.certificate.location"] = settings.ssl_certfile
            options["ssl.key.location"] = settings.ssl_keyfile
        if settings.sasl_mechanism is not None:
            options |= {
                "sasl.mechanism": settings.sasl_mechanism,
                "sasl.username": settings.sasl_username,
                "sasl.password": settings.sasl_password,
            }
        return options

    def _complain(self, error: KafkaError) -> None:
        # That all brokers are down says less than why the last one is.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.complaint = error

    def translated(self, cause: KafkaException) -> KafkaClientError:
        """Return the port's error for librdkafka's exception."""
        return self.error_for(cause.args[0])

    def error_for(self, reason: KafkaError) -> KafkaClientError:
        """Return the port's error for librdkafka's."""
        code, settings = reason.code(), self.settings
        # A refused password shows only as silence to whoever waits for an answer.
        complaint = self.complaint
        complained = "" if complaint is None else complaint.str()
        because = f" ({complained})" if complained else ""
        brokers = f"brokers {', '.join(settings.bootstrap_servers)}"
        if code in _DENIED or (complaint is not None and complaint.code() in _DENIED):
            whom = f"group {settings.group_id!r}" if code == KafkaError.GROUP_AUTHORIZATION_FAILED else "us"
            return AccessDeniedError(
                f"{brokers} refuse {whom} as user {settings.sasl_username!r}: "
                f"{reason.str()}{because}; check the credentials and the ACLs"
            )
        if code in _FENCED or "fenced" in reason.str():
            return InstanceIdTakenError(
                f"another member of group {settings.group_id!r} has instance id {settings.instance_id!r}: "
                f"{reason.str()}; give every replica its own kafka.instance_id"
            )
        if reason.fatal() or code == KafkaError._FATAL:
            return ClientFailedError(f"member of group {settings.group_id!r} cannot go on: {reason.str()}")
        if code in _MISSING:
            return TopicMissingError(f"a topic does not exist: {reason.str()}; create it")
        if code in _SILENT or reason.retriable():
            return BrokerUnavailableError(
                f"no answer from {brokers}: {reason.str()}{because}; {what_to_check(complained)}"
            )
        return KafkaClientError(f"{brokers}: {reason.str()} ({reason.name()})")

    def open(self, make: Callable[[dict[str, Any]], Any], options: Mapping[str, Any]) -> Any:
        """Open a client and wait until a broker answered it."""
        try:
            client = make({**self.options(), **options})
        except (KafkaException, ValueError, TypeError) as error:
            raise ClientSettingsError(f"confluent-kafka refuses a setting: {error}") from error
        try:
            client.list_topics(timeout=self.settings.connect_timeout_s)
        except KafkaException as error:
            # Why is told by a callback, which a poll serves; without a subscription it can lose no record.
            client.poll(0)
            raise self.translated(error) from error
        return client

    def metadata(self, client: Any, topic: str, timeout_s: float) -> Any:
        """Ask the brokers about one topic."""
        try:
            answer = client.list_topics(topic, timeout_s)
        except KafkaException as error:
            raise self.translated(error) from error
        self.complaint = None
        return answer

    def find_topic(self, client: Any, topic: str, patience_s: float) -> None:
        """Return once the topic has partitions; a broker that creates it on demand needs a moment."""
        deadline = time.monotonic() + patience_s
        while True:
            found = self.metadata(client, topic, self.settings.connect_timeout_s).topics[topic]
            if found.error is None and found.partitions:
                return
            if found.error is not None and found.error.code() in _DENIED:
                raise AccessDeniedError(f"topic {topic!r}: {self.error_for(found.error)}")
            if time.monotonic() >= deadline:
                raise _missing(topic)
            time.sleep(_TOPIC_LOOKUP_PAUSE_S)

    def miss_topic(self, client: Any, topic: str) -> None:
        """Raise where a topic exists no more; one that changes its leader does."""
        found = self.metadata(client, topic, PROBE_TIMEOUT_S).topics[topic]
        if found.error is not None and found.error.code() in _MISSING:
            raise _missing(topic)


def _missing(topic: str) -> TopicMissingError:
    return TopicMissingError(f"topic {topic!r} does not exist; create it")
