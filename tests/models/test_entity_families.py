"""Tests for detector.models.entity_families: two entities with their own, three without."""

from collections.abc import Callable

import numpy as np
import pytest

from detector.batch import FloatArray, IntArray
from detector.models.contract import Family
from detector.models.entity_families import EntityFamilies
from detector.models.families import FAMILIES
from detector.models.naive_bayes import NaiveBayes
from tests.models.families_by_hand import (
    random_gan,
    random_gmm,
    random_hmm,
    random_naive_bayes,
    random_rbm,
    random_vae,
    with_gaps,
)

D = 3
BY_HAND: dict[str, Callable[[int], Family]] = {
    "gmm": lambda seed: random_gmm(2, D, seed),
    "hmm": lambda seed: random_hmm(2, D, diagonal=True, seed=seed),
    "naive_bayes": lambda seed: random_naive_bayes(2, D, seed=seed),
    "vae": lambda seed: random_vae(D, window=2, seed=seed),
    "rbm": lambda seed: random_rbm(D, 3, seed),
    "gan": lambda seed: random_gan(D, seed=seed),
}
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILIES)
# The models of five entities: the first and the last but one have families of their own.
PLACE = np.array([0, 2, 2, 1, 2])
LENGTHS = np.array([9, 1, 20, 5, 12])
MODEL = np.array([3, 0, 1, 0, 4])


def coarse_naive_bayes() -> NaiveBayes:
    """Its histogram has fewer bins than those of the others."""
    fine = random_naive_bayes(2, D, seed=2).arrays()
    coarse = {"feature_1_edges": np.array([-1.0, 0.0, 2.0]), "feature_1_probabilities": np.full((2, 4), 0.25)}
    return NaiveBayes.from_arrays(fine | coarse)


def made(name: str) -> tuple[list[Family], EntityFamilies]:
    own, pooled = [BY_HAND[name](1), BY_HAND[name](2)], BY_HAND[name](3)
    return [*own, pooled], EntityFamilies(own, pooled, PLACE)


def records() -> tuple[FloatArray, FloatArray]:
    n = int(LENGTHS.sum())
    x = with_gaps(2.0 * np.random.default_rng(7).normal(size=(n, D)), share=0.1)
    return x, np.full(n, 1.0)


def scanned(families: EntityFamilies, rows: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray]:
    """Score the runs of some entities, in that order."""
    x, gap_s = records()
    parts = np.split(np.arange(len(x)), np.cumsum(LENGTHS)[:-1])
    at = np.concatenate([parts[e] for e in which])
    return families.scan(rows[which], x[at], gap_s[at], LENGTHS[which], MODEL[which])


def initial(name: str) -> FloatArray:
    return BY_HAND[name](3).initial_state(len(LENGTHS))


@EVERY_FAMILY
def test_every_record_is_scored_by_the_family_of_its_entity(name: str) -> None:
    families, together = made(name)
    rows, values = scanned(together, initial(name), np.arange(5))
    x, gap_s = records()
    start = 0
    for e, length in enumerate(LENGTHS):
        part = slice(start, start + length)
        alone = families[PLACE[MODEL[e]]]
        assert together.of(MODEL[e]) is alone
        own_rows, own = alone.scan(alone.initial_state(1), x[part], gap_s[part], np.array([length]))
        np.testing.assert_allclose(values[part], own, rtol=1e-9)
        np.testing.assert_allclose(rows[e], own_rows[0], rtol=1e-9)
        start += length


@EVERY_FAMILY
def test_entities_in_any_order_and_company_have_the_same_bits(name: str) -> None:
    _, families = made(name)
    rows, values = scanned(families, initial(name), np.arange(5))
    of_entity = np.split(values, np.cumsum(LENGTHS)[:-1])
    for which in (np.array([4, 2, 0, 1, 3]), *np.arange(5)[:, None]):
        again_rows, again = scanned(families, initial(name), which)
        np.testing.assert_array_equal(again, np.concatenate([of_entity[e] for e in which]))
        np.testing.assert_array_equal(again_rows, rows[which])


@EVERY_FAMILY
def test_replay_record_by_record_with_rebuilt_families_is_bit_identical(name: str) -> None:
    _, families = made(name)
    rows, values = scanned(families, initial(name), np.arange(5))
    rebuilt = EntityFamilies.from_arrays(families.arrays(), BY_HAND[name](3))
    x, gap_s = records()
    start = 0
    for e, length in enumerate(LENGTHS):
        row = initial(name)[:1]
        for t in range(start, start + length):
            row, value = rebuilt.scan(
                row, x[t : t + 1], gap_s[t : t + 1], np.ones(1, dtype=np.int64), MODEL[e : e + 1]
            )
            np.testing.assert_array_equal(value, values[t : t + 1])
        np.testing.assert_array_equal(row[0], rows[e])
        start += length


@EVERY_FAMILY
def test_explanations_and_latents_come_from_the_family_of_each_entity(name: str) -> None:
    families, together = made(name)
    x, gap_s = records()
    rows = scanned(together, initial(name), np.arange(5))[0]
    explanation = together.explain(rows, x[:5], gap_s[:5], MODEL)
    latent = together.latent(rows, x[:5], gap_s[:5], MODEL)
    for e in range(5):
        family, record = families[PLACE[MODEL[e]]], (rows[e : e + 1], x[e : e + 1], gap_s[e : e + 1])
        alone = family.explain(*record)
        np.testing.assert_array_equal(latent[e], family.latent(*record)[0])
        np.testing.assert_array_equal(explanation.nats[e], alone.nats[0])
        np.testing.assert_array_equal(explanation.expected[e], alone.expected[0])
        np.testing.assert_array_equal(explanation.std[e], alone.std[0])


@EVERY_FAMILY
def test_arrays_have_the_entity_first_and_survive_exactly(name: str) -> None:
    families, together = made(name)
    arrays = together.arrays()
    for key, array in families[0].arrays().items():
        assert arrays[key].shape == (2, *array.shape)
    again = EntityFamilies.from_arrays(arrays, families[2])
    np.testing.assert_array_equal(again.own(), [0, 3])
    for key, array in again.arrays().items():
        np.testing.assert_array_equal(array, arrays[key], err_msg=key)


def test_families_whose_arrays_differ_in_size_survive_exactly() -> None:
    own = [BY_HAND["naive_bayes"](1), coarse_naive_bayes()]
    together = EntityFamilies(own, BY_HAND["naive_bayes"](3), PLACE)
    again = EntityFamilies.from_arrays(together.arrays(), BY_HAND["naive_bayes"](3))
    for model in (0, 3):
        expected = together.of(model).arrays()
        assert set(again.of(model).arrays()) == set(expected)
        for key, array in again.of(model).arrays().items():
            np.testing.assert_array_equal(array, expected[key], err_msg=key)


def test_the_longest_warm_up_counts() -> None:
    _, families = made("hmm")
    slow = families.of(4).arrays() | {"warmup_records": np.array([9.0])}
    assert families.warmup_records == 3
    assert (
        EntityFamilies([FAMILIES["hmm"].from_arrays(slow)], families.of(4), np.array([0, 1])).warmup_records
        == 9
    )


def test_no_record_has_no_score() -> None:
    for name in FAMILIES:
        _, families = made(name)
        none = np.empty(0, dtype=np.int64)
        rows, values = families.scan(initial(name)[:0], np.empty((0, D)), np.empty(0), none, none)
        assert rows.shape == (0, initial(name).shape[1])
        assert values.shape == (0,)


def test_families_that_cannot_stand_beside_each_other_are_refused() -> None:
    pooled, place = random_gmm(2, D), np.array([0, 1])
    for other in (random_gmm(2, D + 1), random_naive_bayes(2, D)):
        with pytest.raises(ValueError, match=r"cannot stand beside a pooled gmm over 3 features \(0 values"):
            EntityFamilies([other], pooled, place)
    with pytest.raises(ValueError, match="5 latent ones"):
        EntityFamilies([random_gmm(5, D)], pooled, place)
    for wrong in (np.array([0, 2]), np.array([1, 0]), np.array([-1, 1])):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\], the last one 1"):
            EntityFamilies([random_gmm(2, D)], pooled, wrong)


@pytest.mark.parametrize("damage", ["absent", "of another shape", "not finite"])
def test_every_array_is_checked(damage: str) -> None:
    own = [random_naive_bayes(2, D, seed=1), coarse_naive_bayes()]
    pooled = random_naive_bayes(2, D, seed=3)
    arrays = EntityFamilies(own, pooled, PLACE).arrays()
    for key, array in arrays.items():
        broken = dict(arrays)
        if damage == "absent":
            del broken[key]
        elif damage == "of another shape":
            broken[key] = array[None]
        else:
            broken[key] = array.copy()
            broken[key].flat[-1] = np.nan
        with pytest.raises(ValueError, match=r"absent|shape|finite|families"):
            EntityFamilies.from_arrays(broken, pooled)
