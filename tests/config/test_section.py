"""Tests for detector.config.section: durations and field paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.config.section import parse_duration, split_path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("1h30m", 5400),
        ("7d", 604800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("2w", 1209600),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "s", "7 days", "-1s", "1e3s", "1s ", "0s", "nan", 5, 5.0, True, None, [], "5"]
)
def test_no_durations(value: object) -> None:
    with pytest.raises(ValueError, match="write it like"):
        parse_duration(value)


@given(st.integers(1, 10_000), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_longer_number_is_a_longer_time(number: int, unit: str) -> None:
    assert 0 < parse_duration(f"{number}{unit}") < parse_duration(f"{number + 1}{unit}")


def test_paths() -> None:
    assert split_path("a.b") == ("a", "b")
    assert split_path(["a", "b.c"]) == ("a", "b.c")


@pytest.mark.parametrize("value", ["", ".", "a.", ".a", "a..b", [], [""], [1], 3, None])
def test_no_paths(value: object) -> None:
    with pytest.raises(ValueError, match="is not a field path"):
        split_path(value)
