"""Tests for detector.scoring.frequencies: how often discrete values come, averaged."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.scoring.drift import Drift
from detector.scoring.frequencies import ANY_OTHER, COUNT, SET, Frequencies, independent_records

WEIGHT = 0.1
# A text with two columns and all others, no column of feature 1, a flag, and a count that scatters twice as
# much as Poisson's.
OWN = Frequencies(
    feature=np.array([0, 0, 0, 2, 3]),
    category=np.array([0, 3, ANY_OTHER, SET, COUNT]),
    usual=np.array([[0.7, 0.2, 0.1, 0.02, 0.5], [0.5, 0.3, 0.2, 0.1, 2.0]]),
    dispersion=np.array([[1.0, 1.0, 1.0, 1.0, 2.0], [1.5] * 5]),
)


def records(n: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    text = rng.choice(5, size=n, p=[0.7, 0.05, 0.03, 0.2, 0.02])
    flag, count = rng.random(n) < 0.02, rng.poisson(0.5, n)
    return np.column_stack([text, rng.normal(size=n), flag, count]).astype(float)


def averaged(z: FloatArray, before: FloatArray | None = None, model: int = 0) -> Drift:
    n = len(z)
    before = OWN.usual[[model]] if before is None else before
    return OWN.scan(before, z, np.full(n, model), WEIGHT, np.ones(n, dtype=bool), np.array([n]))


def test_columns_are_texts_all_others_flags_and_counts() -> None:
    z = np.array([[0.0, 9.0, 1.0, 4.0], [3.0, 9.0, 0.0, -999.0], [2.0, 9.0, np.nan, 1.0], [np.nan] * 4])
    np.testing.assert_array_equal(
        OWN.values(z),
        [[1, 0, 0, 1, 4], [0, 1, 0, 0, np.nan], [0, 0, 1, np.nan, 1], [np.nan] * 5],
    )


@pytest.mark.parametrize("model", [0, 1])
def test_surprise_is_that_of_the_column_whose_likelihood_ratio_is_largest(model: int) -> None:
    z = records(60)
    after, averages, surprise = averaged(z, model=model)
    mean, usual, dispersion = OWN.usual[model].copy(), OWN.usual[model], OWN.dispersion[model]
    for t, value in enumerate(OWN.values(z)):
        mean += WEIGHT * (value - mean)
        np.testing.assert_allclose(averages[t], mean)
        ratio = mean * np.log(mean / usual)
        ratio[:4] += (1 - mean[:4]) * np.log((1 - mean[:4]) / (1 - usual[:4]))
        ratio[4] -= mean[4] - usual[4]
        nats = independent_records(WEIGHT) * ratio / dispersion
        assert surprise[t] == pytest.approx(max(nats.max(), 0.5), rel=1e-9)
    np.testing.assert_allclose(after[0], mean)


def test_of_independent_records_an_average_varies_as_the_mean_of_so_many() -> None:
    _, averages, _ = averaged(records(200_000))
    assert averages[100:, 0].var() == pytest.approx(0.7 * 0.3 / independent_records(WEIGHT), rel=0.05)


def test_runs_in_pieces_and_beside_others_give_the_same_bits() -> None:
    z = records(90)
    whole = averaged(z)
    first = averaged(z[:40])
    second = averaged(z[40:], first.after)
    for together, part in ((whole.average[40:], second.average), (whole.surprise[40:], second.surprise)):
        np.testing.assert_array_equal(together, part)
    both = OWN.scan(
        OWN.usual[[0, 1]],
        np.vstack([z, records(50, 1)]),
        np.repeat([0, 1], [90, 50]),
        WEIGHT,
        np.ones(140, dtype=bool),
        np.array([90, 50]),
    )
    np.testing.assert_array_equal(both.surprise[:90], whole.surprise)


def test_what_is_missing_or_does_not_count_moves_nothing() -> None:
    z = records(3)
    z[1] = np.nan
    counted = np.array([True, True, False])
    after, averages, _ = OWN.scan(OWN.usual[[0]], z, np.zeros(3, dtype=int), WEIGHT, counted, np.array([3]))
    np.testing.assert_array_equal(averages[1], averages[0])
    np.testing.assert_array_equal(after[0], averages[0])


def test_a_record_does_not_speak_of_a_feature_that_it_lacks() -> None:
    z = records(60)
    z[:20, 0] = 3.0
    z[20:, 0] = np.nan
    surprise = averaged(z).surprise
    assert surprise[:20].max() > 10.0
    assert surprise[20:].max() < 6.0


def test_what_hardly_ever_came_is_no_marvel_where_it_never_came() -> None:
    never = np.full((2, 5), 1e-7)
    never[1] = 1e-4
    same = Frequencies(OWN.feature, OWN.category, never, np.ones((2, 5)))
    nothing = np.tile([1.0, 0.0, 0.0, 0.0], (30, 1))
    nothing[:, 0] = np.nan
    surprise = [
        same.scan(
            same.usual[[m]], nothing, np.full(30, m), WEIGHT, np.ones(30, dtype=bool), np.array([30])
        ).surprise
        for m in (0, 1)
    ]
    np.testing.assert_array_equal(surprise[0], surprise[1])


def test_one_enormous_count_is_soon_forgotten() -> None:
    z = np.tile([0.0, 0.0, 0.0, 0.0], (80, 1))
    z[0, 3] = 1e15
    surprise = averaged(z).surprise
    assert surprise[0] > 2.0
    assert np.isfinite(surprise).all()
    calm = averaged(z[1:]).surprise
    assert surprise[60] < calm[59] + 1.0


def test_the_column_that_strays_most_is_told_of_each_feature() -> None:
    average = np.array([[0.3, 0.6, 0.1, 0.02, 2.5]])
    has = np.zeros((1, 4), dtype=bool)
    strayed = OWN.strayed(average, np.array([0]), WEIGHT, has)
    assert strayed.category[0].tolist() == [3, pytest.approx(np.nan, nan_ok=True), SET, COUNT]
    np.testing.assert_array_equal(strayed.average[0], [0.6, np.nan, 0.02, 2.5])
    np.testing.assert_array_equal(strayed.usual[0], [0.2, np.nan, 0.02, 0.5])
    nats = OWN.nats(average, np.array([0]), WEIGHT)[0]
    # Chance moves the most surprising of three columns farther than one.
    rng = np.random.default_rng(0)
    of_one, of_three = (np.median(rng.chisquare(1, (100_000, k)).max(axis=1)) / 2 for k in (1, 3))
    chance = np.array([of_three, np.nan, of_one, of_one])
    assert strayed.nats[0] + chance == pytest.approx(
        [nats[1], np.nan, nats[3], nats[4]], abs=0.02, nan_ok=True
    )
    lacks = OWN.strayed(average, np.array([0]), WEIGHT, np.array([[True, False, False, True]]))
    assert np.isnan(lacks.nats[0]).tolist() == [True, True, False, True]


def test_arrays_are_read_back_and_checked() -> None:
    arrays = OWN.arrays()
    again = Frequencies.from_arrays(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    wrong = [
        {"usual": OWN.usual * 0.0},
        {"usual": OWN.usual * 5.0},
        {"dispersion": OWN.dispersion * 0.5},
        {"dispersion": OWN.dispersion[:1]},
        {"category": arrays["category"][1:]},
    ]
    for each in wrong:
        with pytest.raises(ValueError, match=r"must be in|has shape"):
            Frequencies.from_arrays(arrays | each)
