"""What is known of alerts while they last: start, peak, surprise, severity, and what is told when."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from detector.alerting.alert_state import ALERT_STATE, Scored, StateRows
from detector.batch import BoolArray, IntArray
from detector.models.sequences import lagged, running_last, starts_of

_SPAN_FIELDS = (
    "records",
    "start",
    "first_offset",
    "stretches",
    "critical",
    "told_severity",
    "surprise_nats",
    "peak",
    "peak_score",
    "peak_p_value",
    "peak_log_likelihood",
    "peak_member",
    "peak_too_likely",
    "last_suspicious",
)

Told = Literal[
    "firing", "escalated", "rose", "moved", "kept_alive", "resolved", "released", "interrupted", "muted"
]
"""What happened: it fires; while firing it got critical, its peak rose, another feature became the cause, or
it is time to say that it goes on; it is over, it lasted so long that it is taken for normal, or nothing may
fire from here on, in a window or because its entity is muted."""


class Transition(NamedTuple):
    """Something of an alert is told at ``row``."""

    row: int
    entity: int
    """Index into the E entities."""
    told: Told
    explained: bool
    """Whether this record is the one to explain the alert by, rather than the one before."""
    span: np.void
    """What is known of it so far, the fields of ALERT_STATE from ``records`` on."""


class Marks(NamedTuple):
    """What the state machine decided about each of N rows."""

    is_open: BoolArray
    """Belongs to a span, and ..."""
    is_kept: BoolArray
    """... may have a row after it, ..."""
    severed: BoolArray
    """... which this one is not: the alert of the row before is over for good."""
    begins: BoolArray
    resolves: BoolArray
    released: BoolArray
    escalates: BoolArray
    """The alert has to be critical from here on."""
    rises: BoolArray
    keeps_alive: BoolArray


def follow_spans(after: StateRows, state: StateRows, scored: Scored, marks: Marks) -> list[Transition]:
    """Write the open spans into ``after`` and return what is told, in row order."""
    for name in _SPAN_FIELDS:
        after[name] = 0
    rows = np.flatnonzero(marks.is_open)
    if rows.size == 0:
        return []
    starts = starts_of(scored.lengths)
    entity = np.repeat(np.arange(len(starts)), scored.lengths)
    continues = lagged(marks.is_kept, state["records"] > 0, starts) & ~marks.severed
    # A group is the part of one span that lies in this batch; the first of an entity may go on from before.
    is_first = ~continues[rows]
    is_first[np.flatnonzero(entity[rows[1:]] != entity[rows[:-1]]) + 1] = True
    is_first[0] = True
    first = np.flatnonzero(is_first)
    sizes = np.diff(np.append(first, rows.size))
    before = state[entity[rows[first]]]
    before[~continues[rows[first]]] = np.zeros(1, dtype=ALERT_STATE)

    begun: IntArray = np.cumsum(marks.begins[rows], dtype=np.int64)
    stretch = begun + np.repeat(before["stretches"] - np.append(0, begun)[first], sizes)
    escalated = running_last(marks.escalates[rows], first, sizes) >= 0
    critical = escalated | np.repeat(before["critical"], sizes)
    gets_critical = critical & ~lagged(critical, before["critical"], first)
    course = _Course(scored, rows, stretch, critical)

    last = rows[first + sizes - 1]
    open_still = marks.is_kept[last] & (last == (starts + scored.lengths - 1)[entity[last]])
    if open_still.any():
        extended = _extend(before, course, np.arange(rows.size), first)[open_still]
        for name in _SPAN_FIELDS:
            after[name][entity[last[open_still]]] = extended[name]

    changes = (marks.begins | marks.resolves | marks.rises | marks.keeps_alive)[rows] | gets_critical
    told = np.flatnonzero(changes)
    transitions = []
    for at, span in _spans_at(told, before, course, first):
        row = int(rows[at])
        what: Told
        if marks.begins[row]:
            what = "firing"
        elif marks.resolves[row]:
            what = "released" if marks.released[row] else "resolved"
        elif gets_critical[at]:
            what = "escalated"
        else:
            what = "rose" if marks.rises[row] else "kept_alive"
        explained = bool(marks.begins[row] or marks.rises[row])
        transitions.append(Transition(row, int(entity[row]), what, explained, span))
    return sorted(transitions, key=lambda transition: transition.row)


class _Course(NamedTuple):
    """The R rows of open spans, span after span."""

    scored: Scored
    rows: IntArray
    """Shape (R,), indices into ``scored``."""
    stretch: IntArray
    """Of which stretch of its span each row is, counted from 1; 0 before the first."""
    critical: BoolArray


def _spans_at(
    told: IntArray, before: StateRows, course: _Course, first: IntArray
) -> Iterator[tuple[int, np.void]]:
    """Yield what is known of its span at each of the R rows that ``told`` lists, in rising order.

    The first of every group at once, then the second, and so on: nearly always there is but one.
    """
    group = np.searchsorted(first, told, side="right") - 1
    turn = np.arange(told.size) - np.searchsorted(group, group)
    span, reached = before.copy(), first.copy()
    for k in range(int(turn.max(initial=-1)) + 1):
        ends, own = told[turn == k], group[turn == k]
        sizes = ends + 1 - reached[own]
        begin = starts_of(sizes)
        piece = np.arange(int(sizes.sum())) + np.repeat(reached[own] - begin, sizes)
        span[own] = _extend(span[own], course, piece, begin)
        reached[own] = ends + 1
        yield from zip(ends.tolist(), span[own], strict=True)


def _extend(before: StateRows, course: _Course, piece: IntArray, first: IntArray) -> StateRows:
    """Add records to spans: of the R rows those in ``piece``, one group per span, which begin at ``first``.

    Sums run from left to right, so that they are the same to the bit however records are batched.
    """
    scored, rows = course.scored, course.rows[piece]
    spans = before.copy()
    new = spans["records"] == 0
    sizes = np.diff(np.append(first, rows.size))
    group = np.repeat(np.arange(len(first)), sizes)
    head, last = rows[first], piece[first + sizes - 1]
    spans["records"] += sizes
    spans["start"] = np.where(new, scored.time[head], spans["start"])
    spans["first_offset"] = np.where(new, scored.offset[head], spans["first_offset"])
    spans["stretches"], spans["critical"] = course.stretch[last], course.critical[last]

    score = scored.anomaly_score[rows]
    guilty = np.flatnonzero(score >= 1.0)
    nats = spans["surprise_nats"].copy()
    np.add.at(nats, group[guilty], -np.log(scored.p_value[rows[guilty]]))
    spans["surprise_nats"] = nats
    # Of several assignments to one span the last one holds.
    spans["last_suspicious"][group[guilty]] = scored.time[rows[guilty]]

    highest = np.maximum.reduceat(score, first)
    at_peak = np.where(score == np.repeat(highest, sizes), np.arange(rows.size), rows.size)
    peak = rows[np.minimum.reduceat(at_peak, first)]
    higher = new | (highest > spans["peak_score"])
    for name, column in (
        ("peak", scored.time),
        ("peak_score", scored.anomaly_score),
        ("peak_p_value", scored.p_value),
        ("peak_log_likelihood", scored.log_likelihood),
        ("peak_member", scored.member),
        ("peak_too_likely", scored.too_likely),
    ):
        spans[name] = np.where(higher, column[peak], spans[name])
    return spans
