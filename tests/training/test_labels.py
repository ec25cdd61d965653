"""Tests for detector.training.labels."""

from dataclasses import replace

import numpy as np
import pytest

from detector.training.labels import LabelFields, anomalous_rows, regime_codes, those_that_occur
from tests.made import batch


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


def test_regimes_without_a_record_are_left_out_of_the_numbers() -> None:
    codes, names = those_that_occur(np.array([4, -1, 1, 4]), ("a", "b", "c", "d", "e"))
    assert names == ("b", "e")
    assert codes.tolist() == [1, -1, 0, 1]


def test_no_records_have_no_labels() -> None:
    assert anomalous_rows([]).tolist() == []
    assert regime_codes([])[1] == ()


def test_labels_are_those_of_the_fields_that_are_named() -> None:
    records = replace(
        batch(np.zeros((2, 1))), labels={"bad": ["1", None], "shift": [None, "night"], "team": ["a", "b"]}
    )
    both, none = LabelFields("bad", "shift"), LabelFields()
    assert (both.names, none.names) == (("bad", "shift"), ())
    anomalous, regime = both.of(records)
    assert anomalous is not None
    assert anomalous.tolist() == [True, False]
    assert regime == [None, "night"]
    assert none.of(records) == (None, None)
