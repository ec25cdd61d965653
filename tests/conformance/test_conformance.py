"""Every family keeps every promise of the contract, on data drawn from a family of its own kind."""

from typing import get_args

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detector.batch import FloatArray, IntArray, Status
from detector.models.contract import Evidence, Family
from detector.models.families import FAMILIES, family_from_arrays
from detector.training.job import TrainingPlan, train
from tests.conformance.listed import (
    LISTED,
    MANY,
    THINNING,
    calibrated,
    drawn,
    fitted,
    of_evidence,
    of_kind,
)
from tests.made import batch
from tests.models.families_by_hand import log_likelihood, scan, step_by_step, with_gaps
from tests.pipelines import outcome_of, scores_of

EVERY_FAMILY = pytest.mark.parametrize("name", LISTED)
LENGTHS = np.array([7, 1, 30, 12])


def entities(name: str, *, gaps: bool = False, n_features: int = 3) -> tuple[FloatArray, IntArray]:
    """Held-out rows of four entities, end to end."""
    x = drawn(name, int(LENGTHS.sum()), 5, n_features)
    return (with_gaps(x) if gaps else x), LENGTHS


def state_before_last(family: Family, x: FloatArray) -> FloatArray:
    return scan(family, x[:-1], np.array([len(x) - 1]))[0]


def explained(family: Family, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Nats, expectation and spread of every row of one sequence, each in the light of those before it."""
    rows, parts = family.initial_state(1), []
    for t in range(len(x)):
        parts.append(family.explain(rows, x[t : t + 1], np.array([np.nan])))
        rows, _ = family.step(rows, x[t : t + 1], np.array([np.nan]))
    return (
        np.vstack([part.nats for part in parts]),
        np.vstack([part.expected for part in parts]),
        np.vstack([part.std for part in parts]),
    )


def test_every_family_is_listed() -> None:
    assert {listed.family for listed in LISTED.values()} == set(FAMILIES)


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_shapes(name: str, n_features: int) -> None:
    family = fitted(name, n_features)
    assert family.name == LISTED[name].family
    assert family.evidence in get_args(Evidence)
    assert family.n_features == n_features
    assert family.warmup_records >= 0
    x, lengths = entities(name, gaps=True, n_features=n_features)
    assert family.initial_state(4).shape == (4, family.state_size)
    rows, values = scan(family, x, lengths)
    assert rows.shape == (4, family.state_size)
    assert values.shape == (len(x),)
    stepped_rows, stepped = family.step(rows, x[:4], np.full(4, 1.0))
    assert stepped_rows.shape == (4, family.state_size)
    assert stepped.shape == (4,)
    explanation = family.explain(rows, x[:4], np.full(4, 1.0))
    assert explanation.nats.shape == explanation.expected.shape == explanation.std.shape == (4, n_features)
    assert family.sample(11, np.random.default_rng(0)).shape == (11, n_features)
    for array in (rows, values, explanation.nats, explanation.expected, explanation.std):
        assert array.dtype == np.float64


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_rows_of_its_own_kind_have_a_finite_log_likelihood(name: str, n_features: int) -> None:
    x, lengths = entities(name, n_features=n_features)
    assert np.isfinite(scan(fitted(name, n_features), x, lengths)[1]).all()


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_a_far_out_row_is_less_likely_and_a_farther_one_even_less(
    name: str, n_features: int, direction: float
) -> None:
    family, x = fitted(name, n_features), drawn(name, 300, 6, n_features)
    usual = log_likelihood(family, x)
    rows = np.repeat(state_before_last(family, x), 3, axis=0)
    numbers = of_kind(name, n_features, "continuous")
    for features, bound in ((numbers, usual.min()), (numbers[:1], usual[-1] - 20.0)):
        far = np.tile(x[-1:], (3, 1))
        far[:, features] += direction * np.outer([20.0, 60.0, 200.0], x.std(axis=0)[features])
        values = family.step(rows, far, np.full(3, np.nan))[1]
        assert values[0] < bound
        assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("name", of_evidence("exact", "lower_bound"))
def test_log_likelihood_is_in_nats_of_a_density_over_the_features(name: str) -> None:
    family, x = fitted(name, 1), drawn(name, 50, 7, 1)
    grid = np.linspace(x.mean() - 60 * x.std(), x.mean() + 60 * x.std(), 200_001)[:, None]
    rows = np.repeat(state_before_last(family, x), len(grid), axis=0)
    density = np.exp(family.step(rows, grid, np.full(len(grid), np.nan))[1])
    mass = np.trapezoid(density, grid[:, 0])
    if family.evidence == "exact":
        assert mass == pytest.approx(1.0, abs=2e-3)
    else:
        assert 0.8 < mass < 1.02


@pytest.mark.parametrize("name", of_evidence("exact", "lower_bound", "unnormalised"))
@pytest.mark.parametrize("hidden", [0, 1])
def test_a_missing_value_is_the_integral_over_it(name: str, hidden: int) -> None:
    family, x = fitted(name, 2), drawn(name, 60, 8, 2)
    rows = state_before_last(family, x)
    centre, reach = x[:, hidden].mean(), 30 * x[:, hidden].std()
    grid = np.linspace(centre - reach, centre + reach, 100_001)
    difference = []
    for observed in x[:8]:
        filled = np.tile(observed, (len(grid), 1))
        filled[:, hidden] = grid
        joint = family.step(np.repeat(rows, len(grid), axis=0), filled, np.full(len(grid), np.nan))[1]
        without = observed[None].copy()
        without[0, hidden] = np.nan
        marginal = family.step(rows, without, np.array([np.nan]))[1][0]
        difference.append(marginal - np.log(np.trapezoid(np.exp(joint), grid)))
    # What is no exact density states an approximation; it must be one.
    assert np.abs(difference).max() < (2e-3 if family.evidence == "exact" else 0.5)


@EVERY_FAMILY
def test_nan_is_a_row_without_any_feature_and_nothing_else(name: str) -> None:
    family = fitted(name)
    x = with_gaps(drawn(name, 400, 9))
    absurd = np.array([1e300, -1e300, 1e160, -1e60, 1e12])
    x[100:105] = absurd[:, None]
    x[200:205, 1] = absurd
    x[300:305] = np.where(np.isnan(x[300:305]), np.nan, absurd[:, None])
    x[350:352] = np.nan
    values = log_likelihood(family, x)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(x).all(axis=1))
    assert not (values == np.inf).any()
    assert np.isfinite(scan(family, x, np.array([len(x)]))[0]).all()


@EVERY_FAMILY
def test_an_absurd_row_is_impossible_or_nearly_and_those_after_it_recover(name: str) -> None:
    family, x = fitted(name), drawn(name, 200, 9)
    usual = log_likelihood(family, x)
    with_absurd = x.copy()
    with_absurd[100] = 1e300
    values = log_likelihood(family, with_absurd)
    assert values[100] < usual.min()
    assert np.isfinite(values[101:]).all()
    np.testing.assert_allclose(values[150:], usual[150:], rtol=1e-6)


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_batch_equals_one_at_a_time_to_the_bit(name: str, n_features: int) -> None:
    family = fitted(name, n_features)
    x, lengths = entities(name, gaps=True, n_features=n_features)
    rows, values = scan(family, x, lengths)
    one_rows, one_values = step_by_step(family, x, lengths)
    np.testing.assert_array_equal(one_values, values)
    np.testing.assert_array_equal(one_rows, rows)
    before = np.repeat(rows, 8, axis=0)
    together = family.step(before, x[:32], np.full(32, 1.0))
    for n in range(32):
        alone = family.step(before[n : n + 1], x[n : n + 1], np.ones(1))
        np.testing.assert_array_equal(alone[0][0], together[0][n])
        np.testing.assert_array_equal(alone[1][0], together[1][n])


@EVERY_FAMILY
def test_an_explanation_is_the_same_to_the_bit_in_any_batch(name: str) -> None:
    family = fitted(name)
    x, lengths = entities(name, gaps=True)
    rows = np.repeat(scan(family, x, lengths)[0], 5, axis=0)
    together = family.explain(rows, x[:20], np.full(20, np.nan))
    for n in range(20):
        alone = family.explain(rows[n : n + 1], x[n : n + 1], np.array([np.nan]))
        for one, all_of_them in (
            (alone.nats, together.nats),
            (alone.expected, together.expected),
            (alone.std, together.std),
        ):
            np.testing.assert_array_equal(one[0], all_of_them[n])


def latent_of(family: Family, x: FloatArray, lengths: IntArray) -> FloatArray:
    """What is behind each of 20 records of entities with some past."""
    return family.latent(np.repeat(scan(family, x, lengths)[0], 5, axis=0), x[:20], np.full(20, 1.0))


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_what_is_behind_a_record_is_finite_and_a_distribution_where_it_says_so(
    name: str, n_features: int
) -> None:
    family = fitted(name, n_features)
    x, lengths = entities(name, gaps=True, n_features=n_features)
    x[1], x[2], x[3] = np.nan, 1e300, -1e160
    latent = latent_of(family, x, lengths)
    assert latent.shape == (20, family.latent_size)
    assert latent.dtype == np.float64
    assert np.isfinite(latent).all()
    if LISTED[name].latent_is_distribution:
        assert (latent >= 0).all()
        np.testing.assert_allclose(latent.sum(axis=1), 1.0, rtol=1e-12)
    assert family.latent(family.initial_state(0), x[:0], np.empty(0)).shape == (0, family.latent_size)


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_what_is_behind_a_record_has_the_same_bits_in_any_batch_and_rebuilt(
    name: str, n_features: int
) -> None:
    family = fitted(name, n_features)
    x, lengths = entities(name, gaps=True, n_features=n_features)
    together = latent_of(family, x, lengths)
    rebuilt = family_from_arrays(LISTED[name].family, family.arrays())
    rows = np.repeat(scan(family, x, lengths)[0], 5, axis=0)
    for n in range(20):
        alone = rebuilt.latent(rows[n : n + 1], x[n : n + 1], np.ones(1))
        np.testing.assert_array_equal(alone[0], together[n])


@EVERY_FAMILY
def test_regime_is_the_likeliest_of_what_may_be_behind_a_record(name: str) -> None:
    family, x = fitted(name), drawn(name, 30, 18)
    rows, gap_s = state_before_last(family, x), np.ones(1)
    for record in (*x[:5], np.full(3, np.nan)):
        regime, latent = family.regime(rows, record[None], gap_s), family.latent(rows, record[None], gap_s)
        if LISTED[name].latent_is_distribution:
            assert regime is not None
            assert regime.index == latent[0].argmax()
            assert regime.probability == latent[0].max()
        else:
            assert regime is None


@EVERY_FAMILY
def test_records_differ_in_what_is_behind_them(name: str) -> None:
    family, x = fitted(name), drawn(name, 200, 18)
    latent = family.latent(np.repeat(state_before_last(family, x), 200, axis=0), x, np.ones(200))
    assert latent.std(axis=0).max() > 0.05


@EVERY_FAMILY
def test_order_of_the_entities_changes_no_bit(name: str) -> None:
    family = fitted(name)
    x, lengths = entities(name, gaps=True)
    rows, values = scan(family, x, lengths)
    parts, parts_values = np.split(x, np.cumsum(lengths)[:-1]), np.split(values, np.cumsum(lengths)[:-1])
    order = [2, 0, 3, 1]
    again_rows, again = scan(family, np.vstack([parts[e] for e in order]), lengths[order])
    np.testing.assert_array_equal(again, np.concatenate([parts_values[e] for e in order]))
    np.testing.assert_array_equal(again_rows, rows[order])


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_replay_in_pieces_with_a_rebuilt_model_is_bit_identical(name: str, n_features: int) -> None:
    family = fitted(name, n_features)
    x = with_gaps(drawn(name, 90, 10, n_features))
    values = log_likelihood(family, x)
    rebuilt = family_from_arrays(
        LISTED[name].family, {key: array.copy() for key, array in family.arrays().items()}
    )
    rows, pieces = rebuilt.initial_state(1), []
    for piece in np.split(x, [1, 2, 40, 73]):
        rows, piece_values = rebuilt.scan(rows, piece, np.full(len(piece), np.nan), np.array([len(piece)]))
        pieces.append(piece_values)
    np.testing.assert_array_equal(np.concatenate(pieces), values)
    assert rebuilt.warmup_records == family.warmup_records


@EVERY_FAMILY
def test_nothing_handed_in_is_written_to(name: str) -> None:
    family = fitted(name)
    x, lengths = entities(name, gaps=True)
    rows, gap_s = family.initial_state(4), np.full(len(x), np.nan)
    handed = [x.copy(), rows.copy(), gap_s.copy()]
    family.scan(rows, x, gap_s, lengths)
    family.step(rows, x[:4], gap_s[:4])
    family.explain(rows, x[:4], gap_s[:4])
    family.latent(rows, x[:4], gap_s[:4])
    for now, before in zip((x, rows, gap_s), handed, strict=True):
        np.testing.assert_array_equal(now, before)


@EVERY_FAMILY
def test_arrays_survive_exactly(name: str) -> None:
    arrays = fitted(name).arrays()
    again = family_from_arrays(LISTED[name].family, arrays).arrays()
    assert set(again) == set(arrays)
    for key, array in arrays.items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(again[key], array, err_msg=key)


@EVERY_FAMILY
@pytest.mark.parametrize("damage", ["absent", "of another shape", "not finite"])
def test_every_array_is_checked(name: str, damage: str) -> None:
    arrays = fitted(name).arrays()
    for key, array in arrays.items():
        broken = dict(arrays)
        if damage == "absent":
            del broken[key]
        elif damage == "of another shape":
            broken[key] = array[None]
        else:
            broken[key] = array.copy()
            broken[key].flat[-1] = np.nan
        with pytest.raises(ValueError, match=r"absent|shape|finite"):
            family_from_arrays(LISTED[name].family, broken)


@EVERY_FAMILY
def test_samples_score_like_held_out_rows(name: str) -> None:
    family, n = fitted(name), 1000 * THINNING
    sampled = log_likelihood(family, family.sample(n, np.random.default_rng(0)))[::THINNING]
    held_out = log_likelihood(family, drawn(name, n, 11))[::THINNING]
    assert ks_2samp(sampled, held_out).statistic < 0.1


@EVERY_FAMILY
def test_sampling_repeats_with_its_seed(name: str) -> None:
    family = fitted(name)
    first, again, other = (family.sample(20, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@EVERY_FAMILY
def test_an_obvious_anomaly_has_a_small_p_value_and_names_its_feature(name: str) -> None:
    _, own = calibrated(name)
    x = drawn(name, 200, 12)
    spread = x.std(axis=0)
    x[150, 1] += 40.0 * spread[1]
    scores, events = outcome_of(own, batch(x))
    assert scores.p_value[150] < 1e-3
    assert scores.p_value[150] == np.nanmin(scores.p_value[:151])
    event = next(event for event in events if event.last_offset == 150)
    assert event.reasons[0].feature == "f1"


@EVERY_FAMILY
@pytest.mark.parametrize("hidden", [[], [0], [1, 2]])
def test_p_values_of_held_out_rows_are_uniform(name: str, hidden: list[int]) -> None:
    model, own = calibrated(name)
    x = drawn(name, 600 * THINNING, 13)
    x[THINNING // 2 :: THINNING, hidden] = np.nan
    scores = scores_of(own, x)
    p_value = scores.p_value[THINNING // 2 :: THINNING]
    assert (scores.status[THINNING:] == Status.SCORED).all()
    assert ((p_value > 0) & (p_value <= 1)).all()
    # Ranks among M rows are uniform only as far as M rows can tell, so compare with M uniform values.
    m = len(model.members[0].examples.values) if hidden else 20_000 // THINNING
    assert ks_2samp(p_value, (np.arange(m) + 0.5) / m).pvalue > 0.001


@EVERY_FAMILY
def test_constant_and_duplicated_features_can_be_trained_on(name: str) -> None:
    if name == "vae":
        pytest.importorskip("torch", reason="torch is not installed: the VAE cannot be fitted")
    x = 5.0 + drawn(name, 900, 14)
    x = np.column_stack([x, np.full(len(x), 3.0), x[:, 0]])
    plan = TrainingPlan("odd", LISTED[name].family, predictor="none", options=LISTED[name].options)
    model = train(batch(x[:800]), plan, 1e9).model
    family = model.density.family
    z = model.density.scaling.standardise(x[800:], np.zeros(100, dtype=np.int64))
    values = log_likelihood(family, z)
    assert np.isfinite(values).all()
    for feature in (3, 4):
        # Not what it always was, and not what its double is.
        moved = z.copy()
        moved[50, feature] += 3.0
        assert log_likelihood(family, moved)[50] < values[50] - 1.0


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3, MANY])
def test_one_row_and_no_row(name: str, n_features: int) -> None:
    family = fitted(name, n_features)
    x = drawn(name, 1, 15, n_features)
    rows, value = scan(family, x, np.array([1]))
    assert rows.shape == (1, family.state_size)
    assert np.isfinite(value).all()
    nothing = np.empty((0, n_features))
    rows, value = family.step(family.initial_state(0), nothing, np.empty(0))
    assert rows.shape == (0, family.state_size)
    assert value.shape == (0,)
    rows, value = family.scan(family.initial_state(0), nothing, np.empty(0), np.empty(0, dtype=np.int64))
    assert rows.shape == (0, family.state_size)
    assert value.shape == (0,)
    assert family.explain(family.initial_state(0), nothing, np.empty(0)).nats.shape == (0, n_features)


@EVERY_FAMILY
def test_records_with_other_features_are_refused(name: str) -> None:
    family = fitted(name)
    with pytest.raises(ValueError, match="3 features"):
        family.step(family.initial_state(2), np.zeros((2, 4)), np.ones(2))


@EVERY_FAMILY
@pytest.mark.parametrize("n_features", [1, 3])
def test_normal_rows_are_mostly_where_they_were_expected(name: str, n_features: int) -> None:
    family, x = fitted(name, n_features), drawn(name, 300, 16, n_features)
    nats, expected, std = explained(family, x)
    assert np.isfinite(nats).all()
    assert np.isfinite(expected).all()
    # A category is expected or it is not: it has no spread.
    assert np.isnan(std[:, of_kind(name, n_features, "categorical", "binary")]).all()
    numbers = of_kind(name, n_features, "continuous", "count")
    x, expected, std = x[:, numbers], expected[:, numbers], std[:, numbers]
    assert np.isfinite(std).all()
    assert (std > 0).all()
    assert np.mean(np.abs(x - expected) <= 4 * std) > 0.97
    assert np.mean(np.abs(x - expected) <= std) > 0.4


@EVERY_FAMILY
def test_a_feature_is_expected_from_what_is_observed_besides_it(name: str) -> None:
    """What is said to have been expected of a feature does not depend on the feature itself."""
    family, x = fitted(name), drawn(name, 40, 17)
    rows = state_before_last(family, x)
    moved, hidden = x[-1:].copy(), x[-1:].copy()
    moved[0, 1] += 3.0
    hidden[0, 1] = np.nan
    first, second, third = (family.explain(rows, one, np.array([np.nan])) for one in (x[-1:], moved, hidden))
    for other in (second, third):
        np.testing.assert_allclose(other.expected[0, 1], first.expected[0, 1], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(other.std[0, 1], first.std[0, 1], rtol=1e-6)
    assert np.isnan(third.nats[0, 1])
    assert np.isfinite(third.nats[0, [0, 2]]).all()
