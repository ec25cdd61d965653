"""Tests for detector.delivery.backoff."""

import math
import random

import pytest

from detector.delivery.backoff import Backoff, retry_after_s


def test_it_waits_longer_each_time_up_to_a_bound() -> None:
    backoff, rng = Backoff(first_s=1.0, longest_s=30.0), random.Random(1)
    for failures in range(1, 100):
        full_s = min(2.0 ** (failures - 1), 30.0)
        assert full_s / 2 <= backoff.delay_s(failures, rng) <= full_s


def test_two_deliverers_do_not_keep_in_step() -> None:
    backoff = Backoff()
    assert backoff.delay_s(5, random.Random(1)) != backoff.delay_s(5, random.Random(2))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("9" * 400, math.inf),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("²", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, now_s=784_111_740.0) == seconds
