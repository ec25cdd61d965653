"""What led up to an alert: an average speaks late, when the record that made it high may be over."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.batch import BoolArray, FloatArray
from detector.models.contract import Explanation
from detector.models.feature_transforms import FeatureTransforms
from detector.scoring.density import Density

LED_UP = 2
"""So many records before the one that fires are looked at, if they were loud as well."""


class Seen(NamedTuple):
    """One record as a member saw it: what ``Density.explain`` asks for, one row each."""

    family_row: FloatArray
    residual: FloatArray
    expected: FloatArray
    spread: FloatArray | None


class Loud(NamedTuple):
    """One record that an alert may have to be explained by, copied out of its batch."""

    values: FloatArray
    """As alerts show them, shape (D,)."""
    scaled: FloatArray
    """As densities take them, shape (1, D)."""
    gap_s: FloatArray
    """Shape (1,)."""
    by_member: dict[int, Seen]

    def explained(
        self, member: int, density: Density, model: int, transforms: FeatureTransforms
    ) -> Explanation:
        """Return what was expected, in the units of the data; nats are those beyond the usual.

        In units of the data a feature in bytes would surprise more than one in gigabytes.
        """
        seen = self.by_member[member]
        explanation = density.explain(
            seen.family_row, seen.residual, seen.expected, self.gap_s, np.array([model]), seen.spread
        )
        in_units = transforms.explained_in_units(explanation, self.scaled)
        return Explanation(explanation.excess(), in_units.expected, in_units.std)


def most_surprising(
    explanations: Sequence[Explanation], values: Sequence[FloatArray], newest: BoolArray
) -> tuple[Explanation, FloatArray]:
    """Return of every feature what is said of it where it surprised most, and its value there.

    Args:
        explanations: Of records of one entity, in time order, one row each.
        values: Of the same, shape (D,) each.
        newest: Shape (D,), features of which the newest record speaks, whatever was before.
    """
    nats = np.vstack([explanation.nats for explanation in explanations])
    at = np.where(np.isnan(nats), -np.inf, nats).argmax(axis=0)
    at[newest] = len(nats) - 1
    column = np.arange(nats.shape[1])
    return (
        Explanation(
            nats[at, column][None],
            np.vstack([explanation.expected for explanation in explanations])[at, column][None],
            np.vstack([explanation.std for explanation in explanations])[at, column][None],
        ),
        np.stack(values)[at, column],
    )
