"""Bad records on their way to the dead-letter topic: as they came, with where from and why in headers.

Header names follow Kafka Connect, so tools that read its dead letters read these. The original headers
come first. A record without a value has an empty one here, or it would be a tombstone in a compacted topic.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from detector.batch import Source
from detector.stream.port import Header, RawRecords
from detector.stream.reasons import Reason, Rejected

MAX_VALUE_BYTES = 900_000
"""A broker takes 1 MiB a record unless told otherwise, key and headers included. Longer values are cut."""
MAX_KEY_BYTES = 32_768
MAX_ORIGINAL_HEADER_BYTES = 65_536
"""More than that of original headers is left out, whole."""


class DeadLetters(NamedTuple):
    """The columns to send."""

    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[list[Header]]


def bounded(
    key: bytes | None, value: bytes, original: Sequence[Header], context: Mapping[str, str]
) -> tuple[bytes | None, bytes, list[Header]]:
    """Return key, value and headers of one letter, no larger than a broker takes.

    Args:
        key: Of the bad record.
        value: Likewise; ``detector.original.bytes`` says how long it was where it is cut.
        original: Headers of the bad record, left out where they are more than fit.
        context: Where from and why, by header.
    """
    # On the wire each has its two lengths as well.
    if sum(len(name) + len(content) + 10 for name, content in original) > MAX_ORIGINAL_HEADER_BYTES:
        original = []
    said = dict(context)
    if len(value) > MAX_VALUE_BYTES:
        said["detector.original.bytes"] = str(len(value))
    headers = [*original, *((name, text.encode(errors="replace")) for name, text in said.items())]
    return None if key is None else key[:MAX_KEY_BYTES], value[:MAX_VALUE_BYTES], headers


def dead_letters(raw: RawRecords, rejected: Sequence[Rejected], input: str) -> DeadLetters:
    """Return one record for each rejected one, in order.

    Headers: ``__connect.errors.topic``, ``.partition``, ``.offset``, ``.stage`` (always VALUE_CONVERTER:
    the bytes could not be converted to a record), ``.exception.message``; and ``detector.reason``, one of
    ``Reason``, ``detector.input``, ``detector.original.bytes`` where the value was cut.

    Args:
        raw: The poll they came in.
        rejected: Rows of it.
        input: The input's name.
    """
    letters = DeadLetters([], [], [])
    for bad in rejected:
        key, value = raw.key(bad.index), raw.value[bad.index] or b""
        source = raw.sources[int(raw.source[bad.index])]
        context = _context(input, source, int(raw.offset[bad.index]), bad.reason, bad.detail)
        key, value, headers = bounded(key, value, raw.headers(bad.index), context)
        letters.keys.append(key)
        letters.values.append(value)
        letters.headers.append(headers)
    return letters


def unreadable_letter(input: str, source: Source, batch: range) -> DeadLetters:
    """Return the one record for offsets of a source whose bytes nobody can read: empty, without a key.

    Headers as those of ``dead_letters``, with the first offset; and ``detector.records``, how many they are.
    """
    detail = f"offsets {batch.start} to {batch.stop - 1} cannot be read: their batch is broken on the broker"
    context = _context(input, source, batch.start, Reason.UNREADABLE, detail)
    key, value, headers = bounded(None, b"", [], context | {"detector.records": str(len(batch))})
    return DeadLetters([key], [value], [headers])


def refused_letter(key: bytes | None, value: bytes, original: Sequence[Header], topic: str) -> DeadLetters:
    """Return the one record for an event that the alerts topic refuses.

    Headers: the event's own; ``detector.reason``, ``refused_for_size``, and ``detector.topic``, which topic.
    """
    context = {"detector.reason": "refused_for_size", "detector.topic": topic}
    key, value, headers = bounded(key, value, original, context)
    return DeadLetters([key], [value], [headers])


def _context(input: str, source: Source, offset: int, reason: Reason, detail: str) -> dict[str, str]:
    return {
        "__connect.errors.topic": source.topic,
        "__connect.errors.partition": str(source.partition),
        "__connect.errors.offset": str(offset),
        "__connect.errors.stage": "VALUE_CONVERTER",
        "__connect.errors.exception.message": detail,
        "detector.reason": reason.value,
        "detector.input": input,
    }
