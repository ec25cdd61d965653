"""Fit a member to see what it is worth, where no failure matters."""

import logging
from dataclasses import replace

from detector.batch import Batch, BoolArray
from detector.training.fit_family import no_report
from detector.training.plan import MemberPlan, TrainingPlan
from detector.training.report import Curves
from detector.training.train_member import FittedMember, fit_member
from detector.training.training_rows import TrainingError

_log = logging.getLogger(__name__)


def fit_to_try(
    records: Batch, anomalous: BoolArray | None, plan: TrainingPlan, member: MemberPlan
) -> FittedMember | None:
    """Return a member fitted and calibrated on the records; None, and a line in the log, where that fails."""
    alone = replace(plan.with_members([member]), models="pooled")
    try:
        return fit_member(records, alone, no_report, anomalous, None, Curves())
    except (TrainingError, ValueError) as error:
        _log.info("%s cannot be tried: %s", member.name, error)
        return None
