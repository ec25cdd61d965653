"""Make a committee of calibrated members: how loud any of them gets in held-out traffic."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.alerting.budget import HeldOut
from detector.batch import FloatArray
from detector.scoring.committee import Committee
from detector.training.calibrate import Calibrated, held_out_evidence
from detector.training.train_member import Material


class Convened(NamedTuple):
    """A committee, and the p-values that it gives to held-out traffic."""

    committee: Committee
    held_out: HeldOut
    checked_p_value: FloatArray
    """Of held-out rows that are newer to every member, when older ones calibrate members and committee."""


def convene(members: Sequence[Calibrated], material: Material, shares: tuple[float, ...] = ()) -> Convened:
    """Let the members judge together.

    Args:
        members: Calibrated on the same records.
        material: The records.
        shares: As in ``Committee``.

    Raises:
        ValueError: There is no record that every member can score.
    """
    usable = np.logical_and.reduce([member.usable for member in members])
    if not usable.any():
        raise ValueError("no held-out record can be scored by every member; train with more records")
    rows = material.rows
    p_value = np.column_stack([member.p_value[usable] for member in members])
    learns = any(member.calibration.sketch is not None for member in members)
    committee = Committee.fit(p_value, learns=learns, shares=shares)
    evidence = held_out_evidence(
        committee.judge(p_value).p_value,
        rows.time[usable],
        rows.entity[usable],
        rows.gap_s[usable],
        material.interval_s,
    )
    return Convened(committee, evidence, _checked(members, learns, shares))


def _checked(members: Sequence[Calibrated], learns: bool, shares: tuple[float, ...]) -> FloatArray:
    heard = np.column_stack([member.checked.heard for member in members])
    newer = np.column_stack([member.checked.newer for member in members])
    older = ~np.isnan(heard).any(axis=1) & ~newer.any(axis=1)
    if not older.any():
        return np.empty(0)
    committee = Committee.fit(heard[older], learns=learns, shares=shares)
    return committee.judge(heard[newer.all(axis=1)]).p_value
