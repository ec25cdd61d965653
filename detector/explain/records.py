"""The records of one entity around an episode, found by reading its partition backwards."""

from dataclasses import dataclass

import numpy as np

from detector.batch import Batch
from detector.stream.codec_json import JsonCodec
from detector.stream.port import PartitionReader

_FIRST_CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class EntityRecords:
    """Records of one entity in offset order, in pieces as they were read."""

    pieces: tuple[Batch, ...]
    scanned: int
    """Offsets looked at."""
    reached: int
    """The oldest offset looked at."""
    held_from: int
    """The oldest offset that the topic holds."""
    bounded: bool
    """Whether it stopped for having looked at as many offsets as allowed, not for having enough."""

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.pieces)


def entity_records(
    reader: PartitionReader,
    codec: JsonCodec,
    entity: str,
    first_offset: int,
    until_offset: int,
    wanted: int,
    most_offsets: int,
    now_s: float,
) -> EntityRecords:
    """Return an entity's records of an episode, and ``wanted`` or more before it, as the daemon reads them.

    Args:
        reader: Of the entity's partition.
        codec: Of the detector's features.
        entity: Its name.
        first_offset: Of the episode.
        until_offset: The offset after its last one.
        wanted: How many records before it suffice.
        most_offsets: How many offsets to look at, at most.
        now_s: Wall clock; bounds how far ahead an event time may be.

    Raises:
        BrokerUnavailableError: No broker answers.
    """
    held_from = reader.first_offset
    end = reached = min(until_offset, reader.end_offset)
    lowest = max(held_from, end - most_offsets)
    pieces: list[Batch] = []
    found, chunk = 0, _FIRST_CHUNK
    while reached > lowest and found < wanted:
        begin = max(lowest, reached - chunk)
        read = []
        for raw in reader.read(begin, reached):
            batch, _ = codec.decode(raw, now_s)
            rows = np.array([i for i, name in enumerate(batch.entity) if name == entity], dtype=np.int64)
            if rows.size:
                read.append(batch.take(rows))
                found += int((batch.offset[rows] < first_offset).sum())
        pieces = read + pieces
        reached, chunk = begin, 2 * chunk
    bounded = found < wanted and reached > held_from
    return EntityRecords(tuple(pieces), max(end - reached, 0), reached, held_from, bounded)
