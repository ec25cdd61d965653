"""Training rows from a time range of Kafka topics, decoded as the daemon decodes them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from detector.batch import Batch, Source
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.port import ClientSettings, read_range
from detector.stream.reasons import Reason
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
) -> tuple[Batch, Counter[Reason]]:
    """Read the records of a time range, by their Kafka timestamps, without joining a group.

    Args:
        settings: Where the broker is.
        topics: Read from each of them.
        schema: The input's: features, entity and time.
        from_time_s: Seconds since 1970; the first record at or after it.
        until_time_s: Seconds since 1970, exclusive.
        now_s: Wall clock; bounds how far ahead an event time may be.

    Returns:
        The good records, in offset order within each partition, and how many of the others there
        were by reason: the daemon would have made dead letters of them, training leaves them out.

    Raises:
        NoRecordsError: The range holds no usable record.
        BrokerUnavailableError: No broker answers, or it went silent in between.
        TopicMissingError: A topic does not exist.
    """
    codec = JsonCodec(schema)
    batches: list[Batch] = []
    rejected: Counter[Reason] = Counter()
    for raw in read_range(settings, topics, from_time_s, until_time_s):
        batch, bad = codec.decode(raw, now_s)
        batches.append(batch)
        rejected.update(rejection.reason for rejection in bad)
    if not any(len(batch) for batch in batches):
        found = ", ".join(f"{count} {reason.value}" for reason, count in rejected.items()) or "no record"
        raise NoRecordsError(
            f"topics {', '.join(topics)}: no usable record between {from_time_s:.0f} and {until_time_s:.0f} "
            f"seconds since 1970 (found: {found}); check the time range and the input's fields"
        )
    return concatenated(batches), rejected


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of one input, in order, as one batch."""
    sources: dict[Source, int] = {}
    for batch in batches:
        for source in batch.sources:
            sources.setdefault(source, len(sources))
    renumbered = [
        np.array([sources[source] for source in batch.sources], dtype=np.int64)[batch.source]
        for batch in batches
    ]
    # Successive batches of one codec share most of their texts, or all.
    texts = {id(batch.category_texts): batch.category_texts for batch in batches}
    return Batch(
        input=batches[0].input,
        feature_names=batches[0].feature_names,
        sources=tuple(sources),
        source=np.concatenate(renumbered),
        offset=np.concatenate([batch.offset for batch in batches]),
        entity=[entity for batch in batches for entity in batch.entity],
        time=np.concatenate([batch.time for batch in batches]),
        values=np.concatenate([batch.values for batch in batches]),
        labels={
            name: [text for batch in batches for text in batch.labels[name]] for name in batches[0].labels
        },
        category_texts={code: text for each in texts.values() for code, text in each.items()},
    )
