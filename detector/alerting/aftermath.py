"""What an incident leaves behind: its echo is no incident of its own, and a level that stays is normal.

From an entity's first suspicious record until it is calm by itself, all that follows is compared with what
the incident has shown so far. Its echo: what is far weaker than the incident ends it, though it would start
one. Its level: what has been suspicious for longer than an alert may last is what is usual now, and only what
stands out of that is suspicious, feature by feature, as ``own_level.py`` measures it. Calm ends both, so
the old level is normal whenever it returns, and a second incident is judged like the first.

Nearly all entities are calm, and cost nothing; the others are followed record by record.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.own_level import OwnLevel
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray
from detector.models.blocks import teaching_weight
from detector.models.sequences import starts_of

_WEIGHT = 0.02
"""Of a record, in how strong an incident is: about 50 records tell."""
_ECHO = 0.7
"""Of the strength of an incident: weaker records are its echo."""
_STRENGTH_KEPT = 0.5 ** (1 / 500)
"""By each record."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What is known of one entity since a suspicious record, while it has not been calm since."""

    opened: float
    time: float
    """Of the newest record."""
    calm_records: int
    strength: float
    """Of the incident, a mean of anomaly scores from 0 on, and ..."""
    strongest: float
    """... what that was, slowly forgotten."""
    level: OwnLevel
    released: bool = False
    loud_since: float | None = None
    """Above the released level."""


AftermathRows = NDArray[np.object_]
"""Shape (E,), ``Aftermath`` or None of a calm entity."""


class Compared(NamedTuple):
    """What rows are compared by with the level of their entity."""

    values: FloatArray
    """Shape (n, C), in usual deviations; NaN is missing."""
    threshold: FloatArray
    """From where on rows are suspicious, nats, shape (n,)."""


class Judged(NamedTuple):
    """What N rows are in the light of what was before."""

    state: AftermathRows
    """After, shape (E,)."""
    anomaly_score: FloatArray
    """That counts, shape (N,)."""
    levels: dict[int, OwnLevel]
    """Before the row, of each row that stands out of a released level."""


def initial_aftermath(n: int) -> AftermathRows:
    """Return the state of entities never seen, shape (n,)."""
    return np.full(n, None)


def levels_kept(state: AftermathRows) -> AftermathRows:
    """Return the state, shape (E,), with levels that are normal by now, and without what is going on."""
    kept = initial_aftermath(len(state))
    for e in np.flatnonzero(state != None).tolist():  # noqa: E711
        if state[e].released:
            kept[e] = replace(state[e], loud_since=None)
    return kept


def of_released(opened: float, time: float) -> Aftermath:
    """Return what is known of an entity whose level was taken for normal at a time, and no more than that.

    Its next record says what the level is.

    Args:
        opened: Time of the first suspicious record of the alert.
        time: When it was released.
    """
    nowhere = OwnLevel.of_first(np.array([np.nan]))
    return Aftermath(opened, time, 0, 0.0, 0.0, nowhere, released=True)


def judge_aftermath(
    state: AftermathRows,
    anomaly_score: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    rules: AlertRules,
    compared: Callable[[IntArray], Compared],
) -> Judged:
    """Say of rows what they are in the light of what was before.

    Args:
        state: Before, shape (E,).
        anomaly_score: Shape (N,), of scored rows, entity after entity, each in time order.
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
        rules: Hysteresis, and how long an alert may last.
        compared: Of which rows, shape (n,), rising: what they are compared by.
    """
    starts = starts_of(lengths)
    followed = np.flatnonzero((state != None) | (np.maximum.reduceat(anomaly_score, starts) >= 1.0))  # noqa: E711
    if followed.size == 0:
        return Judged(state, anomaly_score, {})
    after, judged, levels = state.copy(), anomaly_score.copy(), {}
    for e in followed.tolist():
        start, end = int(starts[e]), int(starts[e] + lengths[e])
        if after[e] is None:
            start += int(np.argmax(anomaly_score[start:end] >= 1.0))
        rows = np.arange(start, end)
        values, threshold = compared(rows)
        known: Aftermath | None = after[e]
        for i, row in enumerate(rows.tolist()):
            before = known
            judged[row], known = _followed(
                known, float(anomaly_score[row]), float(time[row]), values[i], float(threshold[i]), rules
            )
            if before is not None and before.released and judged[row] >= 1.0:
                levels[row] = before.level
        after[e] = known
    return Judged(after, judged, levels)


def _followed(
    known: Aftermath | None,
    score: float,
    time: float,
    values: FloatArray,
    threshold: float,
    rules: AlertRules,
) -> tuple[float, Aftermath | None]:
    """Return the score of one record that counts, and what is known after it."""
    if known is None:
        if score < 1.0:
            return score, None
        strength = _WEIGHT * score
        return score, Aftermath(time, time, 0, strength, strength, OwnLevel.of_first(values))
    calm_records = known.calm_records + 1 if score < rules.resolve_below else 0
    weight = float(teaching_weight(np.array([time - known.time]))[0])
    released, loud_since = known.released, known.loud_since
    # What stands out for as long as an alert may last is another level.
    lasts = not released or (loud_since is not None and time - loud_since > rules.release_after_s)
    standing, level = known.level.followed_by(
        values, weight, settled=released, suspicious_from=np.inf if lasts else threshold
    )
    if not released:
        share = score / max(_ECHO * known.strongest, 1.0)
        # What is no echo keeps its score, which says how severe it is.
        judged = score if share >= 1.0 else min(score, share)
        released = time - known.opened > rules.release_after_s
    else:
        share = max(standing / threshold, 0.0)
        judged = share if score >= 1.0 else min(score, share)
        loud_since = _loud_since(loud_since, judged, time, rules)
    if calm_records >= rules.resolve_records:
        return judged, None
    strength = known.strength + _WEIGHT * (score - known.strength)
    return judged, replace(
        known,
        time=time,
        calm_records=calm_records,
        strength=strength,
        strongest=max(_STRENGTH_KEPT * known.strongest, strength),
        level=level,
        released=released,
        loud_since=loud_since,
    )


def _loud_since(before: float | None, judged: float, time: float, rules: AlertRules) -> float | None:
    if judged >= 1.0:
        return time if before is None else before
    return None if judged < rules.resolve_below else before
