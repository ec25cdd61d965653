"""Tests for detector.scoring.density: what counts besides the family, and how that is explained."""

import numpy as np
import pytest

from detector.batch import FloatArray
from detector.models.contract import Explanation
from detector.models.gmm import Gmm
from detector.models.scaling import Scaling
from detector.scoring.density import Conditionals, Density
from tests.made import predictor_called, unbounded

RNG = np.random.default_rng(5)
LOCATION, SCALE = np.array([[10.0, -3.0]]), np.array([[2.0, 0.5]])
ONE, MODEL = np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64)


def density(predictor: str) -> Density:
    """A bell about the level of two features, each by itself."""
    bell = Gmm(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    return Density(Scaling(LOCATION, SCALE), predictor_called(predictor, 2), np.array([[0.6, 0.8]]), bell)


def seen(of: Density, z: FloatArray) -> Conditionals:
    before = of.predictor.initial_state(1), of.family.initial_state(1)
    time = 60.0 * np.arange(len(z), dtype=np.float64)
    return of.conditionals(*before, z, time, np.diff(time, prepend=np.nan), len(z) * ONE, MODEL)


def explained(of: Density, z: FloatArray) -> Explanation:
    """Explain the last record."""
    found = seen(of, z)
    assert found.spread is not None
    return of.explain(
        np.empty((1, 0)), found.residual[-1:], found.expected[-1:], np.array([60.0]), MODEL, found.spread[-1:]
    )


def test_a_value_counts_beside_its_distance_from_the_level() -> None:
    z = np.cumsum(RNG.normal(size=(500, 2)), axis=0) / 10
    z[300, 0] = np.nan
    both, alone = seen(density("level_and_range"), z), seen(density("level"), z)
    np.testing.assert_array_equal(both.log_likelihood, alone.log_likelihood)
    np.testing.assert_allclose(both.surprise - alone.surprise, 0.5 * np.nansum(z**2, axis=1), rtol=1e-9)


def test_a_level_out_of_the_range_is_explained_by_the_range() -> None:
    z = 0.1 * RNG.normal(size=(1000, 2)) + [5.0, 0.0]
    found = explained(density("level_and_range"), z)
    assert found.expected[0, 0] == pytest.approx(10.0)
    assert found.std[0, 0] == pytest.approx(2.0)
    assert found.nats[0, 0] > 10.0 > found.nats[0, 1]


def test_a_value_that_leaves_its_level_within_the_range_is_explained_by_the_level() -> None:
    z = 0.1 * RNG.normal(size=(1000, 2))
    z[-1, 1] = 2.0
    found, of_level = explained(density("level_and_range"), z), explained(density("level"), z)
    np.testing.assert_array_equal(found.expected[0, 1], of_level.expected[0, 1])
    np.testing.assert_array_equal(found.nats[0, 1], of_level.nats[0, 1])
    assert found.std[0, 1] < 0.2 * SCALE[0, 1]


@pytest.mark.parametrize(("intervals", "usual"), [(1, True), (3, False), (50, True), (5000, True)])
def test_less_is_expected_of_a_record_after_a_long_gap(intervals: int, usual: bool) -> None:
    wanders, n = 0.98, 4000
    left = (1 - wanders**2) ** 0.5
    predictor = unbounded(wanders * np.eye(2)[None], np.zeros((1, 2)))
    bell = Gmm(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)))
    own = Density(Scaling(LOCATION, SCALE), predictor, np.full((1, 2), left), bell)
    before = RNG.normal(size=(n, 2))
    stays = wanders**intervals
    after = stays * before + (1 - stays**2) ** 0.5 * RNG.normal(size=(n, 2))
    each, time = np.ones(n, dtype=np.int64), np.full(n, 60.0 * intervals)

    def residual(gaps: FloatArray | None) -> FloatArray:
        rows = predictor.initial_state(n)
        rows[:, :2] = before
        return own.conditionals(
            rows, np.empty((n, 0)), after, time, time, each, np.zeros(n, dtype=np.int64), gaps
        ).residual

    known, unknown = residual(np.full(n, float(intervals))), residual(None)
    # As far off as ever, or less: a random walk strays faster than what comes back to its mean.
    assert 0.5 < known.std() < (1.05 if usual else 2.0)
    if intervals <= 4:
        np.testing.assert_array_equal(known, unknown)
    else:
        assert unknown.std() > 4.0


def test_a_long_gap_changes_no_other_row_by_a_bit() -> None:
    own, n = density("autoregressive"), 200
    z, gaps = RNG.normal(size=(n, 2)), np.ones(n)
    gaps[[20, 90]] = 40.0
    time = 60.0 * np.cumsum(gaps)
    state = own.predictor.initial_state(1), own.family.initial_state(1)
    plain, wide = (
        own.conditionals(*state, z, time, 60.0 * gaps, n * ONE, MODEL, given) for given in (None, gaps)
    )
    others = np.delete(np.arange(n), [20, 90])
    for column in ("surprise", "log_likelihood", "expected"):
        np.testing.assert_array_equal(getattr(plain, column)[others], getattr(wide, column)[others])
    assert (wide.surprise[[20, 90]] < plain.surprise[[20, 90]]).all()
    assert plain.spread is None
    assert wide.spread is not None
    assert (wide.spread[others] == 1.0).all()
