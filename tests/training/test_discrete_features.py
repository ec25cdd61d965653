"""Tests for detector.training.discrete_features."""

import logging

import numpy as np
import pytest

from detector.models.kinds import Kind
from detector.models.vocabulary import category_code
from detector.training import discrete_features
from detector.training.discrete_features import discrete_columns, kinds_for, without_impossible

KINDS: dict[str, Kind] = {"errors": "count", "up": "binary"}


def test_families_take_what_they_know_and_numbers_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    names = ("cpu", "errors", "up")
    with caplog.at_level(logging.INFO):
        assert kinds_for("naive_bayes", names, KINDS) == ("continuous", "count", "binary")
        assert caplog.messages == []
        assert kinds_for("rbm", names, KINDS) == ("continuous", "continuous", "binary")
    assert caplog.messages == ["family rbm takes feature 'errors', a count, for a plain number"]


def test_texts_are_refused_by_name_where_a_family_has_no_use_for_them() -> None:
    assert kinds_for("naive_bayes", ["method"], {"method": "categorical"}) == ("categorical",)
    with pytest.raises(ValueError, match="feature 'method' is categorical, which family rbm cannot model"):
        kinds_for("rbm", ["method"], {"method": "categorical"})


def test_impossible_values_count_as_missing_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    values = np.array(
        [[1.0, 0.5, 0.0], [-1.0, 7.0, 1.0], [2.5, np.nan, 2.0], [1e300, -3.0, np.nan], [0.0] * 3]
    )
    kinds: tuple[Kind, ...] = ("count", "continuous", "binary")
    before = values.copy()
    cleaned = without_impossible(values, ("a", "b", "c"), kinds)
    expected = values.copy()
    expected[[1, 2], 0] = expected[2, 2] = np.nan
    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(values, before)
    assert (
        "feature 'a' is declared count, but 2 of its values are not 0, 1, 2, ... (such as -1)" in caplog.text
    )
    assert "feature 'c' is declared binary, but 1 of its values are not 0 or 1 (such as 2)" in caplog.text


def test_feature_that_is_mostly_impossible_is_refused() -> None:
    values = np.array([[0.5], [0.25], [1.0], [np.nan]])
    with pytest.raises(
        ValueError, match=r"feature 'a' is declared count, but 2 of .*; declare it continuous"
    ):
        without_impossible(values, ["a"], ["count"])


def test_vocabulary_is_the_most_frequent_texts_first(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["b", "c", "a", "c", "d", "b"]
    codes = {category_code(text): text for text in texts}
    values = np.array([[1.0, category_code(text)] for text in texts] + [[1.0, np.nan]])
    kinds: tuple[Kind, ...] = ("count", "categorical")

    def vocabulary() -> tuple[str, ...] | None:
        columns = discrete_columns(values, codes, kinds)
        assert columns is not None
        assert columns.vocabularies[0] is None
        return None if columns.vocabularies[1] is None else columns.vocabularies[1].texts

    assert vocabulary() == ("b", "c", "a", "d")
    monkeypatch.setattr(discrete_features, "MOST_CATEGORIES", 3)
    assert vocabulary() == ("b", "c", "a")


def test_continuous_features_alone_have_no_discrete_columns() -> None:
    assert discrete_columns(np.ones((3, 2)), {}, ["continuous", "continuous"]) is None
