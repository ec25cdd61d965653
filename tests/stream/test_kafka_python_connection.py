"""What a broker says last is heard, even where its end of the connection came with it."""

import socket
from types import SimpleNamespace

import pytest

pytest.importorskip("kafka")

from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

import detector.stream.kafka_python_connection  # noqa: F401  (what is tested is what importing it does)


@pytest.mark.parametrize("transport", [KafkaTCPTransport, KafkaSSLTransport])
def test_what_came_before_the_end_is_handed_on_first(transport: type) -> None:
    broker, client = socket.socketpair()
    with client:
        broker.sendall(b"refused: wrong password")
        broker.close()
        client.setblocking(False)
        reader = SimpleNamespace(_sock=client)
        assert transport._sock_recv(reader) == (b"refused: wrong password", None)  # type: ignore[attr-defined]
        data, end = transport._sock_recv(reader)  # type: ignore[attr-defined]
        assert data == b""
        assert "disconnected" in str(end)
