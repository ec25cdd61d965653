"""Compare committees on anomalies that people labelled, where enough of them are among the newer records."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray
from detector.bundles.choice import LabelledTried
from detector.models.sequences import runs_of
from detector.training.choose_committee import beside, candidates_for
from detector.training.fit_to_try import fit_to_try
from detector.training.member_evidence import evidence
from detector.training.plan import MemberPlan, TrainingPlan
from detector.training.train_member import FittedMember
from detector.training.training_rows import TrainingRows

FEWEST_RECORDS, FEWEST_EVENTS = 10, 2
"""Labelled anomalous among the newer records; fewer say little of the next ones."""
_LEAST_GAIN = 0.05
"""Of average precision: what differs by less is a tie."""


class LabelsChoice(NamedTuple):
    """Which committee labels chose."""

    members: list[MemberPlan]
    undecided: tuple[str, ...]
    """Families whose candidates make no difference to labelled records: canaries may decide on them."""
    tried: tuple[LabelledTried, ...]
    """The chosen one is the first."""
    reason: str


def choose_by_labels(
    records: Batch, anomalous: BoolArray | None, plan: TrainingPlan, beginnings: Sequence[list[MemberPlan]]
) -> LabelsChoice | None:
    """Take the committee that ranks labelled anomalies best; None where they are too few to tell.

    Members are fitted on the older part of the records. In the newer part, which has to hold at least 10
    anomalous records of at least 2 events, average precision compares first what committees may begin with,
    and then what a further member adds. A difference of at most 0.05 is a tie.

    Args:
        records: That shall calibrate nothing.
        anomalous: Which are labelled so, shape (N,).
        plan: All but the members.
        beginnings: Committees without further members; of equals the earlier one is taken.
    """
    trial = _LabelledTrial(records, anomalous, plan)
    found: list[tuple[list[MemberPlan], float]] = []
    for members in beginnings:
        precision = trial.average_precision(members)
        if trial.too_few:
            return None
        if precision is not None:
            found.append((members, precision))
    if not found:
        return None
    best, of_best = found[0]
    for members, precision in found[1:]:
        if precision > max(of_best, found[0][1] + _LEAST_GAIN):
            best, of_best = members, precision
    undecided, further = [], []
    for candidate in candidates_for(plan, best, len(records.feature_names)):
        larger = [*best, candidate]
        precision = trial.average_precision(larger)
        if precision is not None:
            further.append((larger, precision))
            if abs(precision - of_best) <= _LEAST_GAIN:
                undecided.append(candidate.family)
    found += further
    better = [entry for entry in further if entry[1] > of_best + _LEAST_GAIN]
    if better:
        best, of_best = max(better, key=lambda entry: entry[1])
        undecided = []
    ordered = [(best, of_best), *(entry for entry in found if entry[0] is not best)]
    others = beside([f"{precision:.2f}" for _, precision in ordered[1:]])
    reason = (
        f"average precision {of_best:.2f} on {trial.n_records} newer records labelled anomalous, in "
        f"{trial.n_events} events; {others}"
    )
    tried = tuple(
        LabelledTried(members=tuple(member.name for member in members), average_precision=precision)
        for members, precision in ordered
    )
    return LabelsChoice(best, tuple(undecided), tried, reason)


class _LabelledTrial:
    """The newer records, labelled ones among them, and how loud members are there, each fitted once."""

    def __init__(self, records: Batch, anomalous: BoolArray | None, plan: TrainingPlan) -> None:
        self._records = records
        self._anomalous = anomalous
        self._plan = plan
        self._heard: list[tuple[MemberPlan, FloatArray | None]] = []
        self._labels: BoolArray = np.zeros(0, dtype=np.bool_)
        self.n_records = self.n_events = 0
        self.too_few = False
        """Known once a member was fitted."""

    def average_precision(self, members: Sequence[MemberPlan]) -> float | None:
        """Return that of a committee, as loud as its loudest member; None where one cannot be fitted."""
        from sklearn.metrics import average_precision_score

        heard = [self._of(member) for member in members]
        present = [loud for loud in heard if loud is not None]
        if self.too_few or len(present) < len(heard):
            return None
        return float(average_precision_score(self._labels, np.max(present, axis=0)))

    def _of(self, member: MemberPlan) -> FloatArray | None:
        for known, loud in self._heard:
            if known == member:
                return loud
        loud = None
        fitted = None if self.too_few else fit_to_try(self._records, self._anomalous, self._plan, member)
        if fitted is not None:
            loud = self._newer(fitted)
        self._heard.append((member, loud))
        return loud

    def _newer(self, member: FittedMember) -> FloatArray:
        """Return how loud a member is at the newer records, shape (M,)."""
        rows = member.material.every_row
        self._count(rows)
        return evidence(member, rows, rows.values)[rows.held_out]

    def _count(self, rows: TrainingRows) -> None:
        labels = rows.anomalous & rows.held_out
        self._labels = rows.anomalous[rows.held_out]
        self.n_records = int(labels.sum())
        # An event is an unbroken stretch of one run.
        changes = np.cumsum(np.diff(labels, prepend=False)) + len(rows.time) * rows.of_run
        self.n_events = len(runs_of(changes[labels])) if self.n_records else 0
        self.too_few = self.n_records < FEWEST_RECORDS or self.n_events < FEWEST_EVENTS
