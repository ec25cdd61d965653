"""Batches that no client can read: how often they are tried, and where the records behind them begin.

Bits that turned on a broker's disk stay as they are. Whoever waits for such a batch waits for ever, and with
it all that follows in the partition.
"""

import logging
import re
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from kafka import TopicPartition, errors

from detector.batch import Source
from detector.stream.kafka_python_connection import ask, open_kafka_consumer, unavailable
from detector.stream.port import (
    AccessDeniedError,
    BrokerUnavailableError,
    ClientFailedError,
    ClientSettings,
    FetchError,
    UnreadableBatchError,
    milliseconds,
)

TRIES = 3
"""How often the same batch has to fail before it is passed over: a glitch of the network does not last."""

_BEGINNING = re.compile(r"at offset (\d+) failed crc check")
"""How kafka-python says which batch is bad."""
_BROKEN = (errors.CorruptRecordError, errors.UnsupportedCodecError)
"""Of kafka-python's own errors those that are about a batch: what others are about may be over soon."""
_NOT_TOLD = -1
"""Of two such batches close together, with a good one between, all three are taken for one."""

_log = logging.getLogger(__name__)


class FailedReads:
    """How often in a row reading failed while each partition stood where it stands."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._times: dict[Source, tuple[int, int]] = {}
        """Position, and how often."""

    def error(self, positions: Mapping[Source, int], why: str) -> FetchError | UnreadableBatchError:
        """Return what to raise for one more failure with the consumer at these offsets.

        Raises:
            KafkaClientError: No broker answers.
        """
        for source, offset in positions.items():
            before = self._times.get(source)
            self._times[source] = (offset, before[1] + 1 if before and before[0] == offset else 1)
        tried = {source: offset for source, offset in positions.items() if self._times[source][1] >= TRIES}
        passed = unreadable_batches(self._settings, tried) if tried else {}
        if not passed:
            places = ", ".join(f"{topic}[{n}]@{offset}" for (topic, n), offset in positions.items())
            return FetchError(f"cannot read the records at {places}: {why}; they are tried again")
        batches = ", ".join(_named(source, batch) for source, batch in passed.items())
        return UnreadableBatchError(
            f"passed over what could not be read in {TRIES} attempts: {batches}: {why}. Look after the disk "
            "of the broker that leads the partition; another replica may have the records intact",
            passed,
        )


def poll_readable(settings: ClientSettings, consumer: Any, timeout_ms: int, max_records: int) -> Any:
    """Return what a reader in no group polls; it goes on behind a batch that cannot be read, and says so.

    Raises:
        KafkaClientError: No broker answers, or it refuses.
    """
    try:
        return ask(settings, partial(consumer.poll, timeout_ms=timeout_ms, max_records=max_records))
    except (AccessDeniedError, BrokerUnavailableError, ClientFailedError):
        raise
    # What is wrong with a batch surfaces as any kind of error: struct's, zlib's, kafka-python's own.
    except Exception as error:
        positions = {
            Source(tp.topic, tp.partition): position
            for tp in consumer.assignment()
            if (position := ask(settings, partial(consumer.position, tp, timeout_ms=timeout_ms))) is not None
        }
        batches = unreadable_batches(settings, positions)
        if not batches:
            raise
        for source, batch in batches.items():
            _log.error("%s cannot be read and is left out: %s", _named(source, batch), error)
            consumer.seek(TopicPartition(*source), batch.stop)
        return {}


def unreadable_batches(settings: ClientSettings, positions: Mapping[Source, int]) -> dict[Source, range]:
    """Return the offsets from each position to the end of its batch, where that batch cannot be read.

    Its end is found by trying, in a few small requests.

    Raises:
        KafkaClientError: No broker answers.
    """
    batches = {}
    with closing(_Scout(settings, positions)) as scout:
        for source, position in positions.items():
            end = _end_of_bad_batch(scout, source, position)
            if end is not None:
                batches[source] = range(position, end)
    return batches


def _end_of_bad_batch(scout: "_Scout", source: Source, inside: int) -> int | None:
    batch = scout.bad_batch(source, inside)
    if batch is None:
        return None
    step = 1
    while scout.bad_batch(source, inside + step) == batch:
        inside, step = inside + step, 2 * step
    behind = min(inside + step, scout.end(source))
    while behind - inside > 1:
        middle = (inside + behind) // 2
        if scout.bad_batch(source, middle) == batch:
            inside = middle
        else:
            behind = middle
    return behind


def _named(source: Source, batch: range) -> str:
    return f"{source.topic}[{source.partition}] from offset {batch.start} to {batch.stop - 1}"


class _Scout:
    """Tries single batches, in no group."""

    def __init__(self, settings: ClientSettings, sources: Collection[Source]) -> None:
        self._settings = settings
        # However few bytes are asked for, a broker answers with one batch.
        self._consumer = open_kafka_consumer(settings, group_id=None, max_partition_fetch_bytes=1)
        timeout_ms = milliseconds(settings.request_timeout_s)
        partitions = [TopicPartition(*source) for source in sources]
        self._ends: dict[TopicPartition, int] = ask(
            settings, lambda: self._consumer.end_offsets(partitions, timeout_ms=timeout_ms)
        )

    def end(self, source: Source) -> int:
        return self._ends[TopicPartition(*source)]

    def bad_batch(self, source: Source, offset: int) -> int | None:
        """Return where the batch with this offset begins, if it cannot be read; there is none at the end."""
        if offset >= self.end(source):
            return None
        tp = TopicPartition(*source)
        self._consumer.assign([tp])
        self._consumer.seek(tp, offset)
        until_s = time.monotonic() + self._settings.request_timeout_s
        while time.monotonic() < until_s:
            try:
                polled = self._consumer.poll(timeout_ms=200, max_records=1)
            except errors.OffsetOutOfRangeError:
                # Removed meanwhile, which its reader will notice.
                return None
            # What is wrong with a batch surfaces as any kind of error: struct's, zlib's, kafka-python's own.
            except Exception as error:
                if isinstance(error, errors.KafkaError) and not isinstance(error, _BROKEN):
                    raise unavailable(self._settings, error) from error
                told = _BEGINNING.search(str(error))
                return int(told[1]) if told else _NOT_TOLD
            # Markers of transactions are no records.
            if polled or ask(self._settings, partial(self._consumer.position, tp, timeout_ms=200)) > offset:
                return None
        raise unavailable(self._settings, TimeoutError(f"silent for {self._settings.request_timeout_s} s"))

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=2000)
