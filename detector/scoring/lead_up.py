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
_BROKEN_NATS, _MOST_BROKEN = 3.0, 3
"""From so much surprise on a feature is broken rather than unusual; so many are left out of the others'."""


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

        A feature is expected from all others, so a broken one would have healthy ones look improbable. The
        most improbable one is therefore left out of what the others are expected from, and so on with the
        others, for as long as one of them is improbable all the same.
        """
        seen = self.by_member[member]
        residual, told = seen.residual.copy(), self._told(seen, seen.residual, density, model, transforms)
        for _ in range(_MOST_BROKEN):
            left = np.where(np.isnan(residual[0]), -np.inf, np.nan_to_num(told.nats[0], nan=-np.inf))
            worst = int(left.argmax())
            if left[worst] < _BROKEN_NATS:
                break
            residual[0, worst] = np.nan
            rest, broken = self._told(seen, residual, density, model, transforms), np.isnan(residual)
            told = Explanation(
                np.where(broken, told.nats, rest.nats),
                np.where(broken, told.expected, rest.expected),
                np.where(broken, told.std, rest.std),
            )
        return told

    def _told(
        self,
        seen: Seen,
        residual: FloatArray,
        density: Density,
        model: int,
        transforms: FeatureTransforms,
    ) -> Explanation:
        explanation = density.explain(
            seen.family_row, residual, seen.expected, self.gap_s, np.array([model]), seen.spread
        )
        in_units = transforms.explained_in_units(explanation, self.scaled)
        # In units of the data a feature in bytes would surprise more than one in gigabytes.
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
