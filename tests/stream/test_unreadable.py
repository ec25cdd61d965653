"""Tests for detector.stream.unreadable that need no broker; the others are in test_client_contract.py."""

from typing import Any

import pytest
from kafka import TopicPartition, errors

from detector.batch import Source
from detector.stream import unreadable
from detector.stream.port import BrokerUnavailableError, ClientSettings

SOURCE = Source("telemetry", 0)


class Failing:
    """A consumer whose polls fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def end_offsets(self, partitions: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 100)

    def assign(self, partitions: list[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def close(self, **options: object) -> None: ...

    def poll(self, **options: object) -> Any:
        raise self._error


@pytest.mark.parametrize("broken", [errors.CorruptRecordError("CRC"), ValueError("zlib")])
def test_what_is_wrong_with_a_batch_is_passed_over(
    broken: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable, "open_kafka_consumer", lambda *_, **__: Failing(broken))
    settings = ClientSettings("kafka-python", ("nowhere:1",))
    assert unreadable.unreadable_batches(settings, {SOURCE: 90}) == {SOURCE: range(90, 100)}


@pytest.mark.parametrize(
    "passing", [errors.KafkaConnectionError("gone"), errors.NotLeaderForPartitionError()]
)
def test_what_is_wrong_with_a_broker_passes_over_nothing(
    passing: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable, "open_kafka_consumer", lambda *_, **__: Failing(passing))
    settings = ClientSettings("kafka-python", ("nowhere:1",))
    with pytest.raises(BrokerUnavailableError):
        unreadable.unreadable_batches(settings, {SOURCE: 90})
