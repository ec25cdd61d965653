"""What the daemon's own pipeline says of an entity's records, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.alerting.event import FeatureReason
from detector.batch import Batch, OperatorRule, Scores, Status
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, initial_state, take
from detector.pipeline.maintenance import run_around
from detector.pipeline.reasons import account
from detector.pipeline.run import Outcome, run
from detector.stream.maintenance import Maintenance


@dataclass(frozen=True, slots=True)
class Moment:
    """One record of the entity. NaN where it was not scored."""

    time_s: float
    offset: int
    status: str
    p_value: float
    anomaly_score: float
    rule: str
    """Which of the operator's rules decided over it; empty: none."""
    features: tuple[FeatureReason, ...]
    """Every feature, in the model's order: actual, expected and spread, nats; none if out of order."""

    @property
    def suspicious(self) -> bool:
        return self.anomaly_score >= 1.0


def replay(
    detector: Detector,
    pieces: Sequence[Batch],
    entity: str,
    first: int,
    last: int,
    member: str,
    maintenance: Maintenance | None,
) -> list[Moment]:
    """Score an entity's records again, from a state that knows nothing; keep those from first to last.

    Args:
        detector: As it is served.
        pieces: The entity's records in order, with the model's features as columns.
        entity: Its name.
        first: Number of the first record to keep, counted over all pieces.
        last: Of the last one; later records are not looked at.
        member: Name of the member of the committee that explains; the first one where there is none such.
        maintenance: Windows in which nothing fires and nothing is learnt.
    """
    names = [each.name for each in detector.model.members]
    index = names.index(member) if member in names else 0
    state = initial_state(detector, [entity])
    moments: list[Moment] = []
    number = 0
    for piece in pieces:
        n = min(len(piece), last + 1 - number)
        early = min(max(first - number, 0), n)
        if early:
            state = _run(detector, state, piece.take(np.arange(early)), maintenance).state
        for i in range(early, n):
            record = piece.take(np.array([i]))
            outcome = _run(detector, state, record, maintenance)
            scores = outcome.scores
            skipped = Status(int(scores.status[0])) in (Status.LATE, Status.DUPLICATE)
            told = () if skipped else account(detector, state, record, index)
            state = outcome.state
            moments.append(
                Moment(
                    float(record.time[0]),
                    int(record.offset[0]),
                    Status(int(scores.status[0])).text,
                    float(scores.p_value[0]),
                    float(scores.anomaly_score[0]),
                    _rule(scores),
                    told,
                )
            )
        number += n
        if number > last:
            break
    return moments


def _rule(scores: Scores) -> str:
    if scores.rule is None or not scores.rule[0]:
        return ""
    return OperatorRule(int(scores.rule[0])).text.replace("_", " ")


def _run(detector: Detector, state: EntityState, batch: Batch, maintenance: Maintenance | None) -> Outcome:
    """Do what the daemon does with a batch of one entity; the state given is left as it was."""
    order, lengths = np.arange(len(batch)), np.array([len(batch)])
    kind = None if maintenance is None else maintenance.inside(detector.name, batch, order, lengths)
    if kind is None:
        return run(detector, state, batch, order, lengths)
    return run_around(detector, take(state, np.zeros(1, dtype=np.int64)), batch, order, lengths, kind)
