"""Whether a version that was trained just now may take the place of the one that scores."""

import logging

import numpy as np

from detector.bundles.store import CHAMPION, Bundle, BundleError, BundleStore
from detector.bundles.youth import held_out_of_an_entity, records_missing

_FEWEST_OF_BEFORE = 0.25
"""Held-out records of an entity, and of all: of those that the champion has."""
_FARTHEST = 5.0
"""Standard deviations, of both together, that a feature's mean may lie from where it was, ..."""
_LEAST_CHANGE = 0.5
"""... if that is also more than this share of the larger: what hardly varies may move a little."""

_log = logging.getLogger(__name__)


def objections_in(store: BundleStore, candidate: Bundle) -> list[str]:
    """Return what speaks against a version as the champion of its store; nothing without one before."""
    name = candidate.manifest.detector
    try:
        if store.alias(name) is None:
            return []
        champion = store.load(name, f"@{CHAMPION}")
    except BundleError as error:
        _log.warning("the champion of %s cannot be compared with: %s", name, error)
        return []
    return objections(candidate, champion)


def objections(candidate: Bundle, champion: Bundle) -> list[str]:
    """Return why a candidate had better not take over, as sentences for people; empty where it may.

    A training job that found little, or other traffic, would else blind a daemon that scores well: after an
    outage, of a wrong file, or after a change of unit.
    """
    found = []
    held_out, before = held_out_of_an_entity(candidate), held_out_of_an_entity(champion)
    share = candidate.manifest.training.calibration_records / champion.manifest.training.calibration_records
    # A fleet may shrink, or have many short-lived entities by now: it is few records if both are few.
    if held_out < _FEWEST_OF_BEFORE * before and share < _FEWEST_OF_BEFORE:
        found.append(f"{held_out} records of an entity are held out, the champion has {before}")
    elif records_missing(candidate) > 0 and records_missing(champion) == 0:
        found.append(
            f"{records_missing(candidate)} held-out records of an entity are missing to know how rare large "
            "surprises are, and the champion has enough"
        )
    if candidate.manifest.features == champion.manifest.features:
        found += _far(candidate, champion)
    return found


def _far(candidate: Bundle, champion: Bundle) -> list[str]:
    """Return which features have another mean by far, over all entities."""
    now, before = candidate.model.density.scaling, champion.model.density.scaling
    apart = np.abs(now.location[-1] - before.location[-1])
    far = apart > _FARTHEST * (now.scale[-1] + before.scale[-1])
    far &= apart > _LEAST_CHANGE * np.maximum(np.abs(now.location[-1]), np.abs(before.location[-1]))
    return [
        f"the mean of {candidate.model.feature_names[j]} is {now.location[-1][j]:.4g}, for the champion it "
        f"was {before.location[-1][j]:.4g}, more than {_FARTHEST:g} standard deviations away"
        for j in np.flatnonzero(far).tolist()
    ]
