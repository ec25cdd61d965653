"""How loud a fitted member is at records in order, as it would be at work."""

from dataclasses import replace

import numpy as np

from detector.batch import FloatArray
from detector.scoring.member import Member
from detector.training.train_member import FittedMember
from detector.training.training_rows import TrainingRows


def evidence(member: FittedMember, rows: TrainingRows, values: FloatArray) -> FloatArray:
    """Return minus the logarithm of the p-value of each record, shape (N,), 0 where it has none.

    Args:
        member: Fitted and calibrated.
        rows: N records of the entities that it was fitted on.
        values: What to take for their values, transformed as theirs, shape (N, D).
    """
    density, calibrated, model = member.density, member.calibrated, member.material.model
    of_row, of_run, runs = model[rows.entity], model[rows.run_entity], len(rows.lengths)
    z = density.scaling.standardise(values, of_row)
    before = density.predictor.initial_state(runs), density.family.initial_state(runs)
    seen = density.conditionals(*before, z, rows.time, rows.gap_s, rows.lengths, of_run)
    scored = (rows.position >= density.warmup_records) & ~np.isnan(seen.surprise)
    judge = Member(
        density,
        calibrated.examples,
        calibrated.calibration,
        member.plan.time_scale,
        calibrated.confirmation,
        member.frequencies,
    )
    _, _, found = judge.judge(
        judge.initial_average(of_run),
        judge.initial_sketch(runs),
        replace(seen, surprise=np.where(scored, seen.surprise, 0.0)),
        of_row,
        np.isnan(z),
        scored,
        rows.time,
        rows.lengths,
    )
    return np.where(scored, -np.log(found.p_value), 0.0)
