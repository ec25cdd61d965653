"""Tests for detector.training.fit_transforms."""

import logging

import numpy as np
import pytest

from detector.training.fit_transforms import fit_transforms, with_rates, without_negative
from detector.training.training_rows import rows_in_order
from tests.made import batch


def test_a_logarithm_starts_where_one_log_normal_value_in_a_million_lies() -> None:
    x = np.random.default_rng(0).lognormal(2.0, 1.5, (20_000, 1))
    transforms = fit_transforms(x, ["size"], {}, {"size": "log"})
    depth = (2.0 - np.log(transforms.threshold[0])) / 1.5
    assert depth == pytest.approx(4.72, abs=0.15)


def test_the_start_follows_the_unit_and_ignores_zeros() -> None:
    x = np.random.default_rng(0).lognormal(size=(500, 1))
    start = fit_transforms(x, ["size"], {}, {"size": "log"}).threshold
    in_millis = fit_transforms(1000 * x, ["size"], {}, {"size": "log"}).threshold
    with_zeros = fit_transforms(np.vstack([x, np.zeros((500, 1))]), ["size"], {}, {"size": "log"}).threshold
    np.testing.assert_allclose(in_millis, 1000 * start)
    np.testing.assert_array_equal(with_zeros, start)


def test_the_start_is_positive_however_far_values_spread() -> None:
    x = np.repeat([[1e-200], [1e200]], 10, axis=0)
    assert fit_transforms(x, ["size"], {}, {"size": "log"}).threshold[0] > 0


def test_a_logarithm_of_nothing_positive_is_refused() -> None:
    with pytest.raises(
        ValueError, match="feature 'size' has scale log, but none of the values to fit is above 0"
    ):
        fit_transforms(np.zeros((5, 1)), ["size"], {}, {"size": "log"})


def test_negative_values_of_a_logarithmic_feature_count_as_missing(caplog: pytest.LogCaptureFixture) -> None:
    x = np.array([[1.0, -1.0], [2.0, -2.0], [-3.0, -3.0], [np.nan, 4.0]])
    with caplog.at_level(logging.WARNING):
        kept = without_negative(x, ["size", "other"], {"size": "log"})
    np.testing.assert_array_equal(kept[:, 0], [1.0, 2.0, np.nan, np.nan])
    np.testing.assert_array_equal(kept[:, 1], x[:, 1])
    assert "1 of its values are negative (such as -3)" in caplog.text


def test_mostly_negative_values_are_refused() -> None:
    with pytest.raises(ValueError, match="feature 'size' has scale log, but 2 of its values are negative"):
        without_negative(np.array([[-1.0], [-2.0], [3.0]]), ["size"], {"size": "log"})


def test_every_entity_has_rates_of_its_own_and_gauges_stay() -> None:
    values = np.array([[1.0, 7.0], [100.0, 8.0], [3.0, 9.0], [104.0, 1.0]])
    rows = rows_in_order(batch(values, entity=["a", "b", "a", "b"], time=np.array([0.0, 0, 2, 2])))
    rates = with_rates(rows, {"f0": "counter"})
    np.testing.assert_array_equal(rates.values[:, 0], [np.nan, 1.0, np.nan, 2.0])
    np.testing.assert_array_equal(rates.values[:, 1], rows.values[:, 1])
