"""Explanations of many rows of a batch at once, each in the light of what its entity did before it."""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Explanation
from detector.models.sequences import runs_of, starts_of
from detector.scoring.density import Conditionals, Density


def explain_rows(
    density: Density,
    family_rows: FloatArray,
    conditionals: Conditionals,
    gap_s: FloatArray,
    lengths: IntArray,
    model: IntArray,
    rows: IntArray,
) -> Explanation:
    """Explain n of the N rows of a batch, in the units of the density.

    Args:
        density: What found them improbable.
        family_rows: Its family's state before the batch, shape (E, family.state_size).
        conditionals: What it said of the batch.
        gap_s: Seconds since each entity's record before, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
        model: Each entity's, shape (E,).
        rows: Which to explain, shape (n,), rising.
    """
    entity = np.repeat(np.arange(len(lengths)), lengths)[rows]
    return density.explain(
        _states_before(density, family_rows, conditionals, gap_s, starts_of(lengths), model, rows, entity),
        conditionals.residual[rows],
        conditionals.expected[rows],
        gap_s[rows],
        model[entity],
        None if conditionals.spread is None else conditionals.spread[rows],
    )


def _states_before(
    density: Density,
    family_rows: FloatArray,
    conditionals: Conditionals,
    gap_s: FloatArray,
    starts: IntArray,
    model: IntArray,
    rows: IntArray,
    entity: IntArray,
) -> FloatArray:
    """Return the family's state before each of the rows, shape (n, family.state_size).

    Entities' pasts within the batch are run again, from one row that is asked for to the next, those of all
    entities side by side.
    """
    found = np.empty((len(rows), family_rows.shape[1]))
    if found.size == 0:
        return found
    state, reached = family_rows.copy(), starts.copy()
    runs = runs_of(entity)
    nth = np.arange(len(rows)) - np.repeat(starts_of(runs), runs)
    for n in range(int(nth.max()) + 1):
        asked = np.flatnonzero(nth == n)
        behind = asked[rows[asked] > reached[entity[asked]]]
        if behind.size:
            own = entity[behind]
            length = rows[behind] - reached[own]
            part = np.arange(length.sum()) + np.repeat(reached[own] - starts_of(length), length)
            state[own], _ = density.scan_family(
                state[own], conditionals.residual[part], gap_s[part], length, model[own]
            )
            reached[own] = rows[behind]
        found[asked] = state[entity[asked]]
    return found
