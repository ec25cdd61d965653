"""Tests for detector.scoring.scoring_model: what members share."""

from dataclasses import replace

import numpy as np

from detector.models.discrete_columns import DiscreteColumns
from detector.models.vocabulary import Vocabulary
from detector.scoring.time_scale import TimeScale
from tests.made import fitted, gmm, predictor_called, scoring_model


def test_members_of_different_time_scales_share_a_density_that_was_fitted_to_the_same() -> None:
    model, _ = scoring_model(gmm(), predictor=predictor_called("regression", 3))
    (member,) = model.members
    # Made once more, as when a bundle is read.
    again = replace(member.density, residual_scale=member.density.residual_scale.copy())
    other = replace(model, members=(member, replace(member, density=again, time_scale=TimeScale(0.3))))
    assert other.densities == (member.density,)
    assert other.density_of == (0, 0)


def test_a_density_that_differs_in_anything_is_not_shared() -> None:
    model, _ = scoring_model(gmm(), predictor=predictor_called("regression", 3))
    (member,) = model.members
    own = member.density
    others = [
        replace(own, residual_scale=np.nextafter(own.residual_scale, 2.0)),
        replace(own, scaling=replace(own.scaling, location=own.scaling.location + 1e-12)),
        replace(own, predictor=predictor_called("ewma", 3)),
        replace(own, family=fitted("hmm")),
        replace(own, scaling=replace(own.scaling, discrete=_columns("a"))),
        replace(own, scaling=replace(own.scaling, discrete=_columns("b"))),
    ]
    members = (member, *(replace(member, density=density) for density in others))
    assert replace(model, members=members).density_of == tuple(range(7))


def _columns(text: str) -> DiscreteColumns:
    vocabularies = [None, None, Vocabulary([text])]
    return DiscreteColumns(["continuous", "continuous", "categorical"], vocabularies)
