"""What an incident leaves behind: its echo is no incident of its own, and a level that stays is normal.

From an entity's first suspicious record until it is calm by itself, all that follows is compared with what
the incident has shown so far. Its echo: what is far weaker than the incident ends it, though it would start
one. Its level: what has been suspicious for longer than an alert may last is what is usual now, and only what
stands out of that is suspicious. Calm ends both, so the old level is normal whenever it returns, and
a second incident is judged like the first.

Nearly all entities are calm, and cost nothing; the others are followed record by record.
"""

import numpy as np
from numpy.typing import NDArray

from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray
from detector.models.sequences import starts_of

AFTERMATH_STATE = np.dtype(
    [
        ("open", np.bool_),  # since a suspicious record, and not calm since
        ("calm_records", np.int64),
        ("strength", np.float64),  # of the incident, as all that follows an anomaly score: a mean from 0 on
        ("strongest", np.float64),  # that it was, slowly forgotten
        ("level", np.float64),  # a mean
        ("reach", np.float64),  # above the level, slowly forgotten
        ("opened", np.float64),
        ("time", np.float64),
        ("released", np.bool_),
        ("loud_since", np.float64),  # above the released level; not a number where it is not
    ]
)
AftermathRows = NDArray[np.void]
"""Shape (E,), dtype AFTERMATH_STATE."""

_WEIGHT = 0.02
"""Of a record, in what an incident shows: about 50 records tell."""
_ECHO = 0.7
"""Of the strength of an incident: weaker records are its echo."""
_STRENGTH_KEPT = 0.5 ** (1 / 500)
"""By each record."""
_REACH_HALF_LIFE_S = 86400.0
# What stands out of a new level: half as much again as it reaches by itself, and a fifth of the threshold.
_BEYOND_REACH, _LEAST_REACH = 1.5, 0.2


def initial_aftermath(n: int) -> AftermathRows:
    """Return the state of entities never seen, shape (n,)."""
    return np.zeros(n, AFTERMATH_STATE)


def judge_aftermath(
    state: AftermathRows, anomaly_score: FloatArray, time: FloatArray, lengths: IntArray, rules: AlertRules
) -> tuple[AftermathRows | None, FloatArray]:
    """Return the state after, shape (E,), None where it is as before, and the scores that count, shape (N,).

    Args:
        state: Before, shape (E,).
        anomaly_score: Shape (N,), of scored rows, entity after entity, each in time order.
        time: Seconds since 1970 UTC, shape (N,).
        lengths: Rows of each entity, shape (E,), each >= 1.
        rules: Hysteresis, and how long an alert may last.
    """
    starts = starts_of(lengths)
    followed = np.flatnonzero(state["open"] | (np.maximum.reduceat(anomaly_score, starts) >= 1.0))
    if followed.size == 0:
        return None, anomaly_score
    after, judged = state.copy(), anomaly_score.copy()
    for e in followed.tolist():
        part = slice(int(starts[e]), int(starts[e] + lengths[e]))
        incident = _Incident(after[e : e + 1], rules)
        rows = zip(anomaly_score[part].tolist(), time[part].tolist(), strict=True)
        judged[part] = [incident.judge(*row) for row in rows]
        incident.keep(after, e)
    return after, judged


class _Incident:
    """One entity's incident, record by record."""

    def __init__(self, state: AftermathRows, rules: AlertRules) -> None:
        self._rules = rules
        self._now = {name: state[name][0].item() for name in AFTERMATH_STATE.names or ()}

    def judge(self, score: float, time: float) -> float:
        """Return the score that counts, and take the record in."""
        now = self._now
        if not now["open"] and score < 1.0:
            return score
        judged = self._judged(score)
        now["calm_records"] = now["calm_records"] + 1 if score < self._rules.resolve_below else 0
        if now["calm_records"] >= self._rules.resolve_records:
            self._now = dict.fromkeys(now, 0)
        elif not now["open"]:
            now |= {"open": True, "opened": time, "time": time, "level": score, "loud_since": np.nan}
            self._learn(score, time)
        else:
            self._follow(judged, score, time)
        return judged

    def keep(self, rows: AftermathRows, e: int) -> None:
        """Write what is known into row e."""
        for name, value in self._now.items():
            rows[name][e] = value

    def _judged(self, score: float) -> float:
        now = self._now
        if now["released"]:
            reach = max(_BEYOND_REACH * now["reach"], _LEAST_REACH)
            share = (score - now["level"]) / reach
        else:
            share = score / max(_ECHO * now["strongest"], 1.0)
        # What is no echo keeps its score, which says how severe it is.
        return score if share >= 1.0 else min(score, share)

    def _follow(self, judged: float, score: float, time: float) -> None:
        now, longest = self._now, self._rules.release_after_s
        if not now["released"]:
            now["released"] = time - now["opened"] > longest
        elif judged >= 1.0:
            if np.isnan(now["loud_since"]):
                now["loud_since"] = time
            # What stands out for as long is another level.
            if time - now["loud_since"] <= longest:
                return
        elif judged < self._rules.resolve_below:
            now["loud_since"] = np.nan
        self._learn(score, time)

    def _learn(self, score: float, time: float) -> None:
        now = self._now
        now["strength"] += _WEIGHT * (score - now["strength"])
        now["strongest"] = max(_STRENGTH_KEPT * now["strongest"], now["strength"])
        now["level"] += _WEIGHT * (score - now["level"])
        kept = 0.5 ** ((time - now["time"]) / _REACH_HALF_LIFE_S)
        now["reach"], now["time"] = max(kept * now["reach"], score - now["level"]), time
