"""The echo of an incident: what is weaker than what its entity did a moment ago is not news.

While an incident lasts nothing is learnt from it, so each of its records looks as rare as its first one did,
and so does all that still settles when it is over. So after a peak of surprise scores compare with the peak,
which comes down to the threshold of its entity again with a half-life of 100 records. What is as loud as the
peak stays suspicious, and anything louder is so all the more. Alerts do not go by it: m of n records have to
be suspicious for one, and the first of an incident is often the loudest.
"""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.sequences import lagged, running_maximum, runs_of, starts_of

HALF_LIFE_RECORDS = 100.0
_DECAY = np.log(2.0) / HALF_LIFE_RECORDS


def no_echo(n: int) -> FloatArray:
    """Return the state of entities never seen, shape (n,)."""
    return np.full(n, -np.inf)


def with_echo(
    state: FloatArray, nats: FloatArray, threshold: FloatArray | float, records: IntArray, lengths: IntArray
) -> tuple[FloatArray, FloatArray | float]:
    """Return the state after, shape (E,), and the threshold of each row, nats, shape (N,) or as it was.

    Args:
        state: Before: logarithm of the loudest peak, each set back to an entity's first record by the decay
            since, shape (E,).
        nats: Minus the logarithm of p-values of scored rows, shape (N,), entity after entity, each in time
            order.
        threshold: Without an echo, nats, shape (N,) or one for all.
        records: Of its entity before each row, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
    """
    starts = starts_of(lengths)
    loud = nats > threshold
    set_back = _DECAY * records
    # Nearly all entities are quiet, and have no echo.
    least = np.minimum.reduceat(np.broadcast_to(threshold, nats.shape), starts)
    echoes = (np.exp(state - set_back[starts]) > least) | np.logical_or.reduceat(loud, starts)
    if not echoes.any():
        return state, threshold
    run = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.flatnonzero(echoes[run])
    run, own = run[rows], runs_of(run[rows])
    value = np.where(loud[rows], np.log(np.maximum(nats[rows], 1.0)) + set_back[rows], -np.inf)
    peak = running_maximum(lagged(value, state[echoes], starts_of(own)), run)
    raised = np.array(np.broadcast_to(threshold, nats.shape))
    raised[rows] = np.maximum(raised[rows], np.exp(peak - set_back[rows]))
    last = starts_of(own) + own - 1
    after = state.copy()
    after[echoes] = np.maximum(peak[last], value[last])
    return after, raised
