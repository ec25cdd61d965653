"""Tests for detector.models.vocabulary."""

import numpy as np
import pytest

from detector.models.vocabulary import MAX_CATEGORY_LENGTH, Vocabulary, category_code

TEXTS = ("GET", "POST", "pätch", "200", " GET")


def codes(*texts: str) -> np.ndarray:
    return np.array([category_code(text) for text in texts])


def test_number_of_a_text_is_the_same_in_every_process() -> None:
    # Replicas and replays compute these again, so they must never change.
    assert category_code("GET") == 1237862848925421.0
    assert category_code("") == 4022468892641179.0


def test_numbers_are_whole_and_exact_and_differ() -> None:
    many = codes(*map(str, range(20_000)))
    assert len(set(many.tolist())) == 20_000
    assert ((many >= 0) & (many < 2**52) & (many == np.floor(many))).all()


def test_index_is_the_place_in_the_vocabulary_and_its_size_for_any_other_text() -> None:
    vocabulary = Vocabulary(TEXTS)
    asked = codes("POST", "get", "GET", " GET", "pätch", "200", "201")
    assert vocabulary.index(asked).tolist() == [1, 5, 0, 4, 2, 3, 5]


def test_missing_stays_missing() -> None:
    for vocabulary in (Vocabulary(TEXTS), Vocabulary(())):
        index = vocabulary.index(np.array([np.nan, category_code("nowhere")]))
        np.testing.assert_array_equal(index, [np.nan, len(vocabulary)])


def test_index_of_a_row_does_not_depend_on_the_others() -> None:
    vocabulary = Vocabulary(TEXTS)
    asked = codes(*TEXTS, "x", "y", *TEXTS)
    alone = [vocabulary.index(asked[i : i + 1])[0] for i in range(len(asked))]
    assert vocabulary.index(asked).tolist() == alone


def test_text_of_an_index_is_the_one_put_in() -> None:
    vocabulary = Vocabulary(TEXTS)
    assert [vocabulary.text(i) for i in range(6)] == [*TEXTS, None]


def test_texts_that_agree_in_256_characters_are_one_category() -> None:
    long = "x" * MAX_CATEGORY_LENGTH
    assert category_code(long) == category_code(long + "y") != category_code(long[1:] + "y")


@pytest.mark.parametrize("texts", [["a", "b", "a"], ["a", ""], ["x" * 256, "x" * 257]])
def test_repeated_or_empty_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="an empty text, or one text twice"):
        Vocabulary(texts)
