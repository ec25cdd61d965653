"""One input's part of a turn, on its way to the topics and, once that is committed, to the metrics."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.alerting.incident_event import IncidentEvent
from detector.batch import Batch, IntArray, Scores, Source
from detector.stream.absence_record import encode_absence
from detector.stream.alert_record import AlertRecord, encode_alert, without_details
from detector.stream.dead_letter import dead_letters, refused_letter, unreadable_letter
from detector.stream.incident_record import encode_incident
from detector.stream.input import Input
from detector.stream.observer import Observer
from detector.stream.port import Column, RawRecords
from detector.stream.reasons import Rejected
from detector.stream.score_record import encode_scores

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """One input's part of a turn, kept until it is committed and can be counted."""

    input: Input
    records: RawRecords
    rejected: list[Rejected]
    batch: Batch
    slots: IntArray
    answers: list[tuple[Scores, list[AlertEvent]]]
    incidents: list[IncidentEvent]

    def report(self, observer: Observer, now_s: float) -> None:
        """Tell what was read, scored and raised; ``now_s`` is the wall clock."""
        name = self.input.name
        observer.polled(name, len(self.records))
        reasons = [bad.reason for bad in self.rejected]
        for reason in dict.fromkeys(reasons):
            observer.rejected(name, reason, reasons.count(reason))
        missing = np.isnan(self.batch.values)
        if missing.any():
            counts = zip(self.batch.feature_names, missing.sum(axis=0).tolist(), strict=True)
            observer.missing(name, {feature: count for feature, count in counts if count})
        for scores, events in self.answers:
            observer.scored(self.batch, self.slots, scores, events, now_s)
        for incident in self.incidents:
            observer.incident(incident.detector, incident.transition)
        for watch in self.input.watches:
            observer.steered(watch.name, watch.steered())
        twice = self.input.table.take_newly_on_two_sources()
        if twice:
            _log.warning(
                "input %s: %d entities came from a second partition; the order of their records is not "
                "defined, so each partition has its own state: key the producer's records by entity",
                name,
                twice,
            )
            observer.entity_on_two_sources(name, twice)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Topics written to, and the group that alerts say they come from."""

    scores_topic: str | None
    alerts_topic: str
    dead_letter_topic: str
    group_id: str

    @property
    def topics(self) -> tuple[str, ...]:
        """All of them."""
        scores = () if self.scores_topic is None else (self.scores_topic,)
        return (*scores, self.alerts_topic, self.dead_letter_topic)

    def of(self, part: Answered) -> Iterator[Column]:
        """Yield what an input's records led to: scores, incidents and alerts, dead letters."""
        batch, answers = part.batch, part.answers
        if self.scores_topic is not None and answers:
            keys = [entity.encode() for entity in batch.entity]
            for scores, _ in answers:
                yield Column(self.scores_topic, keys, encode_scores(batch, scores))
        alerts = [encode_incident(incident, self.group_id) for incident in part.incidents]
        alerts += [encode_alert(event, self.group_id) for _, events in answers for event in events]
        if alerts:
            yield self._alerts(alerts)
        if part.rejected:
            yield Column(self.dead_letter_topic, *dead_letters(part.records, part.rejected, part.input.name))

    def of_unreadable(self, input: str, source: Source, batch: range) -> Column:
        """Return what is to be said of offsets that cannot be read."""
        return Column(self.dead_letter_topic, *unreadable_letter(input, source, batch))

    def of_absences(self, absences: list[AbsenceEvent]) -> Column:
        """Return their events."""
        return self._alerts([encode_absence(event, self.group_id) for event in absences])

    def smaller(self, refused: Column) -> Column | None:
        """Return what is to be sent instead of one record that its topic refuses for its size.

        That is an alert without what it can do without, then a dead letter, then one without its value.
        """
        (key,), (value,) = refused.keys, refused.values
        headers = [] if refused.headers is None else refused.headers[0]
        if refused.topic == self.alerts_topic:
            short = without_details(value or b"")
            if short != value:
                return Column(refused.topic, [key], [short], [headers])
            letter = refused_letter(key, value or b"", headers, refused.topic)
            return Column(self.dead_letter_topic, *letter)
        if refused.topic == self.dead_letter_topic and value:
            return Column(refused.topic, [key], [b""], [headers])
        return None

    def _alerts(self, records: Sequence[AlertRecord]) -> Column:
        return Column(
            self.alerts_topic,
            [record.key for record in records],
            [record.value for record in records],
            [record.headers for record in records],
        )
