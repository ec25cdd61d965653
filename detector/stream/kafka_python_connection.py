"""How kafka-python is configured, opened, and its errors translated, for reader and writer alike."""

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import kafka.codec
from kafka import KafkaConsumer, TopicPartition, errors
from kafka.net import transport

from detector.stream.port import (
    PROBE_TIMEOUT_S,
    AccessDeniedError,
    BrokerUnavailableError,
    ClientSettings,
    ClientSettingsError,
    InstanceIdTakenError,
    KafkaClientError,
    TopicMissingError,
    milliseconds,
    what_to_check,
)

Result = TypeVar("Result")


Received = tuple[bytes, Exception | None]
"""What kafka-python read from a socket, and why it can read no more."""


def _last_words_first(receive: Callable[[Any], Received]) -> Callable[[Any], Received]:
    """Return a ``receive`` that tells of the end of a connection only once all before it was handed on."""

    def receive_all(connection: Any) -> Received:
        data, end = receive(connection)
        return data, None if data else end

    return receive_all


def _hear_last_words() -> None:
    """Mend what kafka-python 3.0.12 does with the end of a connection.

    It throws away what it reads together with it. A broker that refuses a password says so and hangs up, so a
    busy machine reads both at once, and would not hear that it was refused. A version without these parts
    has to be looked at anew, but does its work.
    """
    for name in ("KafkaTCPTransport", "KafkaSSLTransport"):
        of_kind: Any = getattr(transport, name, None)
        if hasattr(of_kind, "_sock_recv"):
            of_kind._sock_recv = _last_words_first(of_kind._sock_recv)


_hear_last_words()


def connection_options(settings: ClientSettings) -> dict[str, Any]:
    """Return what reader and writer are both told."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": milliseconds(settings.connect_timeout_s),
        "request_timeout_ms": milliseconds(settings.request_timeout_s),
        # Half a minute by default: so long it would stay away from a broker that is back.
        "reconnect_backoff_max_ms": 2000,
        "security_protocol": settings.security_protocol,
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "metrics_enabled": False,
    }
    if settings.sasl_mechanism is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    if settings.api_version is not None:
        options["api_version"] = settings.api_version
    return options


def open_kafka_consumer(settings: ClientSettings, **options: Any) -> Any:
    """Open a reader that commits nothing by itself and never moves its position by itself."""
    check_codecs()
    return connect(
        settings,
        lambda: KafkaConsumer(
            **connection_options(settings),
            enable_auto_commit=False,
            # Where to start and what was lost is decided here, not silently in the library.
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            **options,
        ),
    )


def check_codecs() -> None:
    """Refuse to start without a codec: kafka-python misses it inside a batch, and stops there for ever."""
    present = {
        "lz4": kafka.codec.has_lz4(),
        "snappy": kafka.codec.has_snappy(),
        "zstd": kafka.codec.has_zstd(),
    }
    missing = [codec for codec, found in present.items() if not found]
    if missing:
        raise ClientSettingsError(
            f"kafka-python cannot read batches compressed with {', '.join(missing)}; "
            "install them with: pip install 'kafka-python[lz4,snappy,zstd]'"
        )


def connect(settings: ClientSettings, make: Callable[[], Any]) -> Any:
    """Open what ``make`` makes, in the port's errors."""
    # At DEBUG the library logs the SASL password.
    library = logging.getLogger("kafka")
    if library.getEffectiveLevel() < logging.INFO:
        library.setLevel(logging.INFO)
    complaints = _Complaints()
    library.addHandler(complaints)
    try:
        return make()
    except _DENIED as error:
        raise denied(settings, error) from error
    except (errors.KafkaConfigurationError, ValueError, TypeError, AssertionError) as error:
        raise ClientSettingsError(f"kafka-python refuses a setting: {error}") from error
    # Name resolution, sockets and TLS fail with their own errors.
    except (errors.KafkaError, OSError) as error:
        if isinstance(complaints.worst, _DENIED):
            raise denied(settings, complaints.worst) from error
        raise unavailable(settings, complaints.worst or error) from error
    finally:
        library.removeHandler(complaints)


_DENIED = (errors.AuthorizationError, errors.SaslAuthenticationFailedError)


class _Complaints(logging.Handler):
    """Why the library could not connect: all it raises is that there was no connection in time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.worst: BaseException | None = None
        """A refusal, else what the last attempt failed with."""

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        for argument in arguments:
            if isinstance(argument, BaseException) and not isinstance(argument, errors.KafkaTimeoutError):
                self.worst = self.worst if isinstance(self.worst, _DENIED) else argument


def ask(settings: ClientSettings, call: Callable[[], Result]) -> Result:
    """Call a library function that waits for a broker, in the port's errors."""
    try:
        return call()
    except errors.FencedInstanceIdError as error:
        raise fenced(settings) from error
    except _DENIED as error:
        raise denied(settings, error) from error
    except errors.RetriableError as error:
        raise unavailable(settings, error) from error
    except errors.KafkaError as error:
        raise KafkaClientError(f"brokers {', '.join(settings.bootstrap_servers)}: {error!r}") from error


def reachable(settings: ClientSettings) -> bool:
    """Say whether any seed accepts a connection."""
    for server in settings.bootstrap_servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_TIMEOUT_S).close()
            return True
        except (OSError, ValueError):
            continue
    return False


def unavailable(settings: ClientSettings, error: BaseException) -> BrokerUnavailableError:
    """Nobody answers."""
    return BrokerUnavailableError(
        f"no answer from {', '.join(settings.bootstrap_servers)}: {error}; {what_to_check(str(error))}"
    )


def denied(settings: ClientSettings, error: BaseException) -> AccessDeniedError:
    """The broker says no."""
    whom = f"group {settings.group_id!r}" if isinstance(error, errors.GroupAuthorizationFailedError) else "us"
    return AccessDeniedError(
        f"brokers {', '.join(settings.bootstrap_servers)} refuse {whom} as user {settings.sasl_username!r}: "
        f"{error!r}; check the credentials and the ACLs"
    )


def not_found(
    settings: ClientSettings, consumer: Any, topics: Sequence[str]
) -> AccessDeniedError | TopicMissingError:
    """Return why topics are not among those that brokers tell of: what may not be seen is not, either."""
    try:
        asked = [TopicPartition(topic, 0) for topic in topics]
        consumer.end_offsets(asked, timeout_ms=milliseconds(PROBE_TIMEOUT_S))
    except errors.AuthorizationError as error:
        return denied(settings, error)
    except errors.KafkaError:
        pass
    return TopicMissingError(f"topics {', '.join(topics)} do not exist; create them")


def fenced(settings: ClientSettings) -> InstanceIdTakenError:
    """Somebody else has our place."""
    return InstanceIdTakenError(
        f"another member of group {settings.group_id!r} has instance id {settings.instance_id!r}; "
        "give every replica its own kafka.instance_id"
    )
