"""Tests for detector.delivery.dead_letters."""

from detector.batch import Source
from detector.delivery.alert import AlertRecord
from detector.delivery.dead_letters import unreadable
from detector.stream.dead_letter import MAX_KEY_BYTES


def test_what_no_broker_would_take_is_cut_and_says_so() -> None:
    headers = [("h", b"y" * 140_000)]
    letter = unreadable(
        AlertRecord(Source("alerts", 0), 5, b"k" * 120_000, b"x" * 950_000, headers), "no JSON"
    )
    said = dict(letter.headers)
    assert len(letter.key or b"") == MAX_KEY_BYTES
    assert (said["detector.original.bytes"], "h" in said) == (b"950000", False)
    assert (
        len(letter.key or b"") + len(letter.value) + sum(len(n) + len(t) for n, t in letter.headers)
        < 1_000_000
    )
