"""Tests for detector.training.labels."""

import pytest

from detector.training.labels import anomalous_rows, regime_codes


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "2", "0.5", "-1", "spike", "anomaly"])
def test_a_label_that_says_anything_marks_the_record(text: str) -> None:
    assert anomalous_rows([text, "0"]).tolist() == [True, False]


@pytest.mark.parametrize("text", [None, "", " ", "0", "0.0", "-0", "false", "FALSE", "nan"])
def test_no_label_a_zero_and_false_do_not(text: str | None) -> None:
    assert anomalous_rows([text, "1"]).tolist() == [False, True]


def test_regimes_are_numbered_in_the_order_of_the_alphabet() -> None:
    codes, names = regime_codes(["night", None, "day", "", "night"])
    assert names == ("day", "night")
    assert codes.tolist() == [1, -1, 0, -1, 1]


def test_no_records_have_no_labels() -> None:
    assert anomalous_rows([]).tolist() == []
    assert regime_codes([])[1] == ()
