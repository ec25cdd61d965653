"""Training rows from a time range of Kafka topics, decoded as the daemon decodes them.

The range is one of event times. Kafka knows when records were written: no earlier than what they tell of,
but for clocks that differ, and as much later as somebody took to write them. So reading begins where the
range does, goes on to the end of the topics, and what lies outside is left out once its time is known.
"""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from detector.batch import Batch
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.port import ClientSettings, read_range
from detector.stream.reasons import Reason
from detector.training.newest_records import NewestRecords
from detector.training.sources import SourceError


class NoRecordsError(SourceError):
    """The range holds no usable record."""


def read_topic(
    settings: ClientSettings,
    topics: Sequence[str],
    schema: InputSchema,
    from_time_s: float,
    until_time_s: float,
    now_s: float,
    newest: NewestRecords | None = None,
) -> tuple[Batch, Counter[Reason]]:
    """Read the records of a range of event times, without joining a group.

    Args:
        settings: Where the broker is.
        topics: Read from each of them.
        schema: The input's: features, entity and time.
        from_time_s: Seconds since 1970, inclusive.
        until_time_s: Seconds since 1970, exclusive; infinite for all.
        now_s: Wall clock; bounds how far ahead an event time may be.
        newest: What keeps the records; None: one that keeps them all.

    Returns:
        The good records that were kept, in offset order within each partition, and how many of the bad
        ones there were by reason: the daemon would have made dead letters of them, training leaves them out.

    Raises:
        NoRecordsError: The range holds no usable record.
        BrokerUnavailableError: No broker answers, or it went silent in between.
        TopicMissingError: A topic does not exist.
    """
    codec = JsonCodec(schema)
    newest = newest or NewestRecords()
    rejected: Counter[Reason] = Counter()
    outside = 0
    for raw in read_range(settings, topics, from_time_s - schema.max_future_s):
        batch, bad = codec.decode(raw, now_s)
        inside = (batch.time >= from_time_s) & (batch.time < until_time_s)
        outside += int(np.count_nonzero(~inside))
        newest.add(batch if inside.all() else batch.take(inside))
        rejected.update(rejection.reason for rejection in bad)
    if not newest.seen:
        counts = [f"{count} {reason.value}" for reason, count in rejected.items()]
        counts += [f"{outside} of other times"] if outside else []
        wanted = range_text(from_time_s, until_time_s)
        raise NoRecordsError(
            f"topics {', '.join(topics)}: no usable record with a time {wanted} (found: "
            f"{', '.join(counts) or 'no record'}); check the time range and the input's fields"
        )
    return newest.batch(), rejected


def range_text(from_time_s: float, until_time_s: float) -> str:
    """Return a range of times in words, RFC 3339."""
    first, end = (
        "" if math.isinf(s) else datetime.fromtimestamp(s, UTC).isoformat(timespec="seconds")[:-6] + "Z"
        for s in (from_time_s, until_time_s)
    )
    return f"from {first} until {end}" if end else f"from {first} on"
