"""Records that come again although what they lead to was told: scored and learnt from, but not decided again.

A crash repeats what was read since the last commit. The alerts of the first time are on the alerts topic, and
the state they led to is taken from there; it must not be moved by records from before it.
"""

from collections.abc import Callable

import numpy as np

from detector.batch import Batch, BoolArray, IntArray
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState, put, take
from detector.pipeline.maintenance import merged
from detector.pipeline.run import Outcome, no_scores, run

Step = Callable[[EntityState, Batch, IntArray, IntArray], Outcome]


def run_repeated(
    detector: Detector,
    state: EntityState,
    batch: Batch,
    order: IntArray,
    lengths: IntArray,
    decided: BoolArray,
    run_others: Step,
) -> Outcome:
    """Do what ``pipeline.run`` does, with some of the records decided before.

    Args:
        detector: Model, rules and threshold.
        state: As for ``run``; it is not used afterwards.
        batch: N records.
        order: Rows of the batch, entity after entity, shape (N,).
        lengths: Records of each entity, shape (E,), each >= 1.
        decided: Of each record whether it is, shape (N,); such records of an entity come before its others.
        run_others: Takes state, batch, order and lengths of the others, as ``run`` does.
    """
    entity = np.repeat(np.arange(len(lengths)), lengths)
    scores, events = no_scores(detector, len(batch)), []
    for rows in (np.flatnonzero(decided[order]), np.flatnonzero(~decided[order])):
        if rows.size == 0:
            continue
        own = runs_of(entity[rows])
        of = entity[rows[starts_of(own)]]
        before = take(state, of)
        if decided[order[rows[0]]]:
            outcome = run(detector, before, batch, order[rows], own, decides=False)
        else:
            outcome = run_others(before, batch, order[rows], own)
        put(state, of, outcome.state)
        scores = merged(scores, outcome.scores, order[rows])
        events += outcome.events
    return Outcome(state, scores, events)
