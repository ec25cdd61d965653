"""Tests for detector.stream.dead_letter."""

from detector.batch import Source
from detector.stream.dead_letter import (
    MAX_KEY_BYTES,
    MAX_ORIGINAL_HEADER_BYTES,
    MAX_VALUE_BYTES,
    dead_letters,
)
from detector.stream.port import Header, RawRecords
from detector.stream.reasons import Reason, Rejected
from tests.stream.records import ListEnvelope, raw_records


def polled(values: list[bytes | None], headers: list[list[Header]] | None = None) -> RawRecords:
    plain = raw_records(values, sources=[Source("a", 0), Source("b", 7)], source=[1] * len(values))
    envelope = ListEnvelope([b"key"] * len(values), headers or [[] for _ in values])
    return RawRecords(plain.sources, plain.source, plain.offset + 100, plain.value, envelope)


def test_letter_holds_the_original_bytes_and_says_where_from_and_why() -> None:
    bad = [Rejected(2, Reason.WRONG_TYPE, "cpu is text: ü")]
    raw = polled([b"good", b"good", b"{\xff"], [[], [], [("trace", b"\x00\x01")]])
    keys, values, headers = dead_letters(raw, bad, "hosts")
    assert (keys, values) == ([b"key"], [b"{\xff"])
    assert headers == [
        [
            ("trace", b"\x00\x01"),
            ("__connect.errors.topic", b"b"),
            ("__connect.errors.partition", b"7"),
            ("__connect.errors.offset", b"102"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.exception.message", "cpu is text: ü".encode()),
            ("detector.reason", b"wrong_type"),
            ("detector.input", b"hosts"),
        ]
    ]


def test_tombstone_becomes_an_empty_value_not_another_tombstone() -> None:
    bad = [Rejected(0, Reason.EMPTY, "no value")]
    assert dead_letters(polled([None]), bad, "hosts").values == [b""]


def test_what_no_broker_would_take_is_cut_and_says_so() -> None:
    bad = [Rejected(0, Reason.TOO_LARGE, "x" * 200)]
    raw = polled([b"v" * 10_000_000], [[("h", b"x" * MAX_ORIGINAL_HEADER_BYTES)]])
    raw.envelope._keys[0] = b"k" * 10_000_000  # type: ignore[attr-defined]
    keys, values, headers = dead_letters(raw, bad, "hosts")
    assert (len(keys[0] or b""), len(values[0] or b"")) == (MAX_KEY_BYTES, MAX_VALUE_BYTES)
    assert dict(headers[0])["detector.original.bytes"] == b"10000000"
    assert "h" not in dict(headers[0])
    size = len(keys[0] or b"") + len(values[0] or b"") + sum(len(n) + len(t) for n, t in headers[0])
    assert size < 1_000_000


def test_surrogates_in_a_detail_do_not_break_the_letter() -> None:
    bad = [Rejected(0, Reason.MALFORMED_JSON, "\ud800")]
    assert (
        dict(dead_letters(polled([b"x"]), bad, "i").headers[0])["__connect.errors.exception.message"] == b"?"
    )
