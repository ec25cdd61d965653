"""Tests for detector.scoring.calibration: p-values are uniform on rows drawn from the fitted model."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from detector.batch import BoolArray, FloatArray
from detector.models.families import FAMILIES
from detector.scoring.moments import Moments
from detector.scoring.scoring_model import ScoringModel
from detector.scoring.typicality import Choice
from tests.made import detector, fitted, gmm, predictor_called, records_like, scoring_model
from tests.pipelines import scores_of


def two_sample_p_value(p_value: FloatArray, calibration_rows: int) -> float:
    """Ranks among M rows are uniform only as far as M rows can tell, so compare with M uniform values."""
    grid = (np.arange(calibration_rows) + 0.5) / calibration_rows
    return float(ks_2samp(p_value, grid).pvalue)


# Neighbours of a Markov chain are not independent; so far apart they are, nearly.
THINNING = 25

# Each family with p-values of one side and of two, without a test for each.
SIDES: dict[bool, Choice] = {False: "on", True: "off"}


def fresh_rows(model: ScoringModel, n: int, seed: int) -> FloatArray:
    return records_like(model.density, n, np.random.default_rng(seed))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("predict", [False, True])
def test_p_values_of_complete_rows_are_uniform(family: str, predict: bool) -> None:
    model, _ = scoring_model(fitted(family), records=20_000, predict=predict, typicality=SIDES[predict])
    p_value = scores_of(detector(model), fresh_rows(model, 50_000, 99)).p_value[50::THINNING]
    assert two_sample_p_value(p_value, 20_000 // THINNING) > 0.001


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hidden", [[0], [1, 2]])
@pytest.mark.parametrize("predict", [False, True])
def test_p_values_of_rows_without_some_features_are_uniform(
    family: str, hidden: list[int], predict: bool
) -> None:
    model, _ = scoring_model(fitted(family), records=20_000, predict=predict, typicality=SIDES[predict])
    rows = fresh_rows(model, 50_000, 98)
    rows[50::THINNING, hidden] = np.nan
    p_value = scores_of(detector(model, min_features=1), rows).p_value[50::THINNING]
    assert two_sample_p_value(p_value, 1000) > 0.001


@pytest.mark.parametrize(("predictor", "order"), [("ewma", 1), ("autoregressive", 3)])
@pytest.mark.parametrize("hidden", [[], [1, 2]])
def test_p_values_are_uniform_with_other_predictors(predictor: str, order: int, hidden: list[int]) -> None:
    own = predictor_called(predictor, 3, order=order)
    model, _ = scoring_model(gmm(), records=6000, predictor=own)
    rows = fresh_rows(model, 30_000, 94)
    rows[50::THINNING, hidden] = np.nan
    p_value = scores_of(detector(model, min_features=1), rows).p_value[50::THINNING]
    assert two_sample_p_value(p_value, 1000) > 0.001


def test_p_values_are_uniform_where_the_moving_mean_never_knew_a_feature() -> None:
    model, _ = scoring_model(gmm(), records=6000, predictor=predictor_called("ewma", 3))
    rows = fresh_rows(model, 3000, 93)
    rows[:, 2] = np.nan
    assert two_sample_p_value(scores_of(detector(model), rows).p_value[1:], 1000) > 0.001


@pytest.mark.parametrize("predict", [False, True])
def test_p_values_are_uniform_where_a_feature_has_vanished_for_good(predict: bool) -> None:
    model, _ = scoring_model(gmm(6, 3), records=6000, predict=predict)
    rows = fresh_rows(model, 3000, 95)
    rows[:, [1, 3]] = np.nan
    assert two_sample_p_value(scores_of(detector(model), rows).p_value[1:], 1000) > 0.001


def test_p_values_are_uniform_where_each_row_lacks_something_else() -> None:
    model, _ = scoring_model(gmm(4, 3), records=6000, predict=True)
    rng = np.random.default_rng(97)
    rows = records_like(model.density, 4000, rng)
    rows[rng.uniform(size=rows.shape) < 0.2] = np.nan
    p_value = scores_of(detector(model), rows).p_value
    assert two_sample_p_value(p_value[~np.isnan(p_value)][5:], 1000) > 0.001


def test_a_row_that_lost_a_feature_is_not_compared_with_complete_rows() -> None:
    model, _ = scoring_model(gmm(6, 1), records=4000)
    rows = records_like(model.density, 3000, np.random.default_rng(96))
    rows[:, :3] = np.nan
    _, log_likelihood = model.density.family.step(np.empty((3000, 0)), rows, np.ones(3000))
    surprise = model.members[0].calibration.moments.normalise(-log_likelihood, np.zeros(3000, dtype=np.int64))
    naive = model.members[0].calibration.complete.p_value(surprise)
    assert two_sample_p_value(naive, 4000) < 1e-6


def test_moments_of_an_entity_with_few_rows_stay_near_the_fleet() -> None:
    rng = np.random.default_rng(0)
    surprise = np.concatenate([rng.normal(0, 1, 5000), rng.normal(50, 1, 5)])
    model = np.concatenate([np.zeros(5000, int), np.ones(5, int)])
    moments = Moments.fit(surprise, model, 3)
    assert abs(moments.location[0] - np.median(surprise)) < 0.1
    assert moments.location[1] < 5
    assert moments.location[2] == pytest.approx(np.median(surprise))


def test_moments_of_an_entity_with_many_rows_are_its_own() -> None:
    rng = np.random.default_rng(0)
    surprise = np.concatenate([rng.normal(0, 1, 50_000), rng.normal(50, 1, 50_000)])
    model = np.repeat([0, 1], 50_000)
    moments = Moments.fit(surprise, model, 3)
    np.testing.assert_allclose(moments.location[:2], [0, 50], atol=0.3)


@pytest.mark.parametrize(("n_features", "share", "several"), [(8, 0.2, 3), (60, 0.05, 6), (60, 0.4, 28)])
def test_surprise_of_rows_that_each_lack_something_else_is_brought_to_that_of_complete_rows(
    n_features: int, share: float, several: int
) -> None:
    model, _ = scoring_model(gmm(n_features, 2), records=6000)
    member, n = model.members[0], 4000 if n_features < 25 else 1000
    rows, nobody = fresh_rows(model, n, 92), np.zeros(n, dtype=np.int64)
    missing = np.random.default_rng(91).uniform(size=rows.shape) < share
    missing[missing.all(axis=1)] = False

    def as_if_complete(hidden: BoolArray) -> FloatArray:
        x = np.where(hidden, np.nan, rows)
        _, log_likelihood = member.density.family.step(np.empty((n, 0)), x, np.ones(n))
        none_past = np.zeros((n, 0), dtype=bool)
        return member.calibration.as_if_complete(-log_likelihood, nobody, hidden, none_past)

    complete, incomplete = as_if_complete(np.zeros_like(missing)), as_if_complete(missing)
    scale = float(member.calibration.moments.scale[0])
    for level in (0.5, 0.95):
        difference = np.quantile(incomplete, level) - np.quantile(complete, level)
        assert abs(difference) < 0.1 * scale
    hidden_alone = np.median(incomplete[missing.sum(axis=1) >= several]) - np.median(complete)
    assert abs(hidden_alone) < 0.2 * scale
