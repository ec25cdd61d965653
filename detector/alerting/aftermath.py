"""What an incident leaves behind: its echo is no incident of its own, and a level that stays is normal.

From an entity's first suspicious record until it is calm by itself, all that follows is compared with what
the incident has shown so far. Its echo: what is far weaker than the incident ends it, though it would start
one. Its level: what has been suspicious for longer than an alert may last is what is usual now, and only what
stands out of that is suspicious, feature by feature, as ``own_level.py`` measures it. Calm ends the echo at
once, and the level as soon as records leave it, or are calm for long: so the old level is normal whenever it
returns, and a second incident is judged like the first. How restless an entity is in between, ``restless.py``
follows.

Nearly all entities are calm, and cost nothing; the others are followed record by record.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.alerting.own_level import QUICK, OwnLevel
from detector.alerting.restless import Calm, RestlessRows, after_incident, divisor_of, follow_calm
from detector.alerting.rules import AlertRules
from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.blocks import teaching_weight
from detector.models.sequences import starts_of

_WEIGHT = 0.02
"""Of a record, in how strong an incident is: about 50 records tell."""
_ECHO = 0.7
"""Of the strength of an incident: weaker records are its echo."""
_STRENGTH_KEPT = 0.5 ** (1 / 500)
"""By each record."""
_LEVEL_KNOWN_FROM = 5
"""Records: with fewer nothing stands out of a level that became normal before a restart or promotion."""
_CALM_AT_ONCE = 1000
"""Rows that are looked through for the next incident."""


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
    level_records: int = 0
    """From which the level is known, after the first."""
    released: bool = False
    loud_since: float | None = None
    """Above the released level."""
    calm_weight: float = 0.0
    """Of ``calm_records``, as ``teaching_weight`` counts them."""


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
    restless: RestlessRows
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


def inherited_levels(state: AftermathRows) -> AftermathRows:
    """Return what another version may go by, shape (E,): which entities have a level that became normal."""
    inherited = initial_aftermath(len(state))
    for e in np.flatnonzero(state != None).tolist():  # noqa: E711
        if state[e].released:
            inherited[e] = of_released(state[e].opened, state[e].time)
    return inherited


def judge_aftermath(
    state: AftermathRows,
    restless: RestlessRows,
    anomaly_score: FloatArray,
    p_value: FloatArray,
    time: FloatArray,
    lengths: IntArray,
    rules: AlertRules,
    compared: Callable[[IntArray], Compared],
) -> Judged:
    """Say of rows what they are in the light of what was before.

    Args:
        state: Before, shape (E,).
        restless: Before, shape (E,).
        anomaly_score: Shape (N,), of scored rows, entity after entity, each in time order.
        p_value: Of the same rows, shape (N,).
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
        rules: Hysteresis, and how long an alert may last.
        compared: Of which rows, shape (n,), rising: what they are compared by.
    """
    starts = starts_of(lengths)
    is_calm = anomaly_score < rules.resolve_below
    between = restless["followed"] & (state == None)  # noqa: E711
    judged, moved = anomaly_score, restless
    if between.any():
        judged, moved = anomaly_score.copy(), restless.copy()
        rows = np.flatnonzero(np.repeat(between, lengths))
        calm = follow_calm(restless[between], p_value[rows], is_calm[rows], time[rows], lengths[between])
        judged[rows] /= calm.divisor
        moved[between] = calm.state
    followed = np.flatnonzero((state != None) | (np.maximum.reduceat(judged, starts) >= 1.0))  # noqa: E711
    if followed.size == 0:
        return Judged(state, moved, judged, {})
    after, levels = state.copy(), {}
    judged, moved = judged.copy(), moved.copy()
    for e in followed.tolist():
        rows = np.arange(starts[e], starts[e] + lengths[e])
        known: Aftermath | None = after[e]
        own, i = restless[e : e + 1], 0
        values, threshold = compared(rows)
        while i < len(rows):
            if known is None:
                calm_rows = rows[i : i + _CALM_AT_ONCE]
                own, scores = _until_incident(own, anomaly_score, p_value, is_calm, time, calm_rows)
                judged[calm_rows[: len(scores)]] = scores
                i += len(scores)
                if len(scores) == len(calm_rows):
                    continue
            row, before = int(rows[i]), known
            score, at = float(anomaly_score[row] / divisor_of(own)[0]), float(time[row])
            if before is None:
                judged[row], known = score, _opened(score, at, values[i])
            else:
                judged[row], known = _followed(before, score, at, values[i], float(threshold[i]), rules)
                if before.released and judged[row] >= 1.0:
                    levels[row] = before.level
                if known is None:
                    own = after_incident(own, at)
            i += 1
        after[e], moved[e] = known, own[0]
    return Judged(after, moved, judged, levels)


def _until_incident(
    restless: RestlessRows,
    anomaly_score: FloatArray,
    p_value: FloatArray,
    is_calm: BoolArray,
    time: FloatArray,
    rows: IntArray,
) -> tuple[RestlessRows, FloatArray]:
    """Return the state of one entity, shape (1,), after those of its rows that open no incident yet.

    And the scores of these rows that count, shape (k,), k <= n; row k opens one if k < n.
    """

    def calm(n: int) -> Calm:
        first = rows[:n]
        return follow_calm(restless, p_value[first], is_calm[first], time[first], np.array([n]))

    scores = anomaly_score[rows]
    if not restless["followed"][0]:
        return restless, scores[: _first(scores >= 1.0)]
    found = calm(len(rows))
    scores = scores / found.divisor
    k = _first(scores >= 1.0)
    if k == len(rows):
        return found.state, scores
    return restless if k == 0 else calm(k).state, scores[:k]


def _first(marked: BoolArray) -> int:
    """Return the index of the first marked row, of all n of them if none is."""
    return int(np.argmax(marked)) if marked.any() else len(marked)


def _opened(score: float, time: float, values: FloatArray) -> Aftermath:
    strength = _WEIGHT * score
    return Aftermath(time, time, 0, strength, strength, OwnLevel.of_first(values))


def _followed(
    known: Aftermath,
    score: float,
    time: float,
    values: FloatArray,
    threshold: float,
    rules: AlertRules,
) -> tuple[float, Aftermath | None]:
    """Return the score of one record that counts, and what is known after it."""
    weight = float(teaching_weight(np.array([time - known.time]))[0])
    is_calm = score < rules.resolve_below
    calm_records, calm_weight = (known.calm_records + 1, known.calm_weight + weight) if is_calm else (0, 0.0)
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
        is_left = True
    else:
        share = max(standing / threshold, 0.0) if known.level_records >= _LEVEL_KNOWN_FROM else 0.0
        judged = share if score >= 1.0 else min(score, share)
        loud_since = _loud_since(loud_since, judged, time, rules)
        is_left = share >= rules.resolve_below or calm_weight >= QUICK
    if calm_records >= rules.resolve_records and is_left:
        return judged, None
    strength = known.strength + _WEIGHT * (score - known.strength)
    return judged, replace(
        known,
        time=time,
        calm_records=calm_records,
        calm_weight=calm_weight,
        strength=strength,
        strongest=max(_STRENGTH_KEPT * known.strongest, strength),
        level=level,
        level_records=known.level_records + 1,
        released=released,
        loud_since=loud_since,
    )


def _loud_since(before: float | None, judged: float, time: float, rules: AlertRules) -> float | None:
    if judged >= 1.0:
        return time if before is None else before
    return None if judged < rules.resolve_below else before
