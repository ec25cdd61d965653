"""Tests for detector.stream.recalled_absences."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.alerting.absence_event import KEEP_ALIVE_S, LASTS_S, MANY_ENTITIES, AbsenceEvent
from detector.batch import Source
from detector.stream.recalled_absences import RecalledAbsences
from tests.web.made_up import SOURCE, absence_of, batch_of

WEEK_S = 7 * 86_400.0
TOLD_S = 1.8e9


def away(*events: AbsenceEvent) -> RecalledAbsences:
    absences = RecalledAbsences(WEEK_S)
    absences.take(events)
    return absences


def saw(
    absences: RecalledAbsences,
    entities: list[str],
    time_s: float,
    *,
    came_s: float | None = None,
    rows: Sequence[int] | None = None,
) -> list[AbsenceEvent]:
    n = len(entities)
    came = np.full(n, time_s if came_s is None else came_s)
    records = np.arange(n) if rows is None else np.array(rows)
    return absences.saw(batch_of(entities, time_s), records, came)


MANY = replace(
    absence_of("a"), alert_id="many", entity=MANY_ENTITIES, entities=("a", "b", "c"), absent=60, alive=80
)


def test_an_entity_is_back_with_a_record_from_after_it_was_heard_last() -> None:
    absences = away(absence_of("a"), absence_of("b"))
    assert (absences.absent(), absences.concerns("a"), absences.concerns("c")) == (2, True, False)
    heard_s = absence_of("a").start
    assert saw(absences, ["a", "b"], heard_s) == []
    [over] = saw(absences, ["a"], heard_s + 0.5)
    assert (over.transition, over.entity, over.resolved_because) == ("resolved", "a", "returned")
    # It cannot have ended before it was noticed.
    assert (over.time, over.end) == (TOLD_S, TOLD_S)
    assert [event.entity for event in absences.told()] == ["b"]
    [over] = saw(absences, ["b"], heard_s + 0.5, came_s=TOLD_S + 60.0)
    assert (over.time, over.end) == (TOLD_S + 60.0, TOLD_S + 60.0)


def test_of_many_half_of_those_it_names_have_to_be_back() -> None:
    absences = away(MANY)
    assert saw(absences, ["a", "a", "x"], TOLD_S, rows=[0, 1]) == []
    assert absences.absent() == 59
    [over] = saw(absences, ["b"], TOLD_S + 1.0, came_s=TOLD_S + 60.0)
    assert (over.alert_id, over.transition, over.absent) == ("many", "resolved", 60)
    assert (over.time, over.end) == (TOLD_S + 60.0, TOLD_S + 60.0)
    assert not absences.any()


def test_it_is_told_again_while_it_lasts_and_ends_with_the_entity() -> None:
    absences = away(replace(absence_of("a"), told=2), MANY)
    assert absences.keep_alive({SOURCE: TOLD_S + KEEP_ALIVE_S - 1.0}) == []
    assert absences.keep_alive({Source("telemetry", 1): TOLD_S + KEEP_ALIVE_S}) == []
    [told] = absences.keep_alive({SOURCE: TOLD_S + KEEP_ALIVE_S})
    assert (told.entity, told.transition, told.told) == ("a", "updated", 3)
    absences.keep_alive({SOURCE: TOLD_S + LASTS_S})
    # That of many is over for those who were told of it.
    assert [event.entity for event in absences.told()] == ["a"]
    [over] = absences.keep_alive({SOURCE: absence_of("a").start + WEEK_S + 1.0})
    assert over.resolved_because == "expired"
    assert not absences.any()


def test_what_began_on_partitions_that_went_is_somebody_elses() -> None:
    absences = away(absence_of("a"), MANY)
    absences.forget([Source("telemetry", 1)])
    assert absences.absent() == 61
    absences.forget([SOURCE])
    assert (absences.any(), absences.absent()) == (False, 0)


def test_whoever_is_missed_again_goes_on_with_what_was_told() -> None:
    absences = away(absence_of("a"))
    assert absences.pop("b") is None
    assert absences.pop("a") == absence_of("a")
    assert not absences.any()
