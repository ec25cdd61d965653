"""One input's part of a turn, on its way to the topics and, once that is committed, to the metrics."""

import logging
from dataclasses import dataclass

import numpy as np

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.alerting.incident_event import IncidentEvent
from detector.batch import Batch, IntArray, Scores, Source
from detector.stream.absence_record import encode_absence
from detector.stream.alert_record import encode_alert
from detector.stream.dead_letter import dead_letters, unreadable_letter
from detector.stream.incident_record import encode_incident
from detector.stream.input import Input
from detector.stream.observer import Observer
from detector.stream.port import Producer, RawRecords
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

    def write(self, producer: Producer, part: Answered) -> None:
        """Send what an input's records led to: scores, incidents and alerts, dead letters."""
        batch, answers = part.batch, part.answers
        if self.scores_topic is not None and answers:
            keys = [entity.encode() for entity in batch.entity]
            for scores, _ in answers:
                producer.send(self.scores_topic, keys, encode_scores(batch, scores))
        alerts = [encode_incident(incident, self.group_id) for incident in part.incidents]
        alerts += [encode_alert(event, self.group_id) for _, events in answers for event in events]
        if alerts:
            producer.send(
                self.alerts_topic,
                [alert.key for alert in alerts],
                [alert.value for alert in alerts],
                [alert.headers for alert in alerts],
            )
        if part.rejected:
            letters = dead_letters(part.records, part.rejected, part.input.name)
            producer.send(self.dead_letter_topic, letters.keys, letters.values, letters.headers)

    def write_unreadable(self, producer: Producer, input: str, source: Source, batch: range) -> None:
        """Send what is to be said of offsets that cannot be read."""
        letter = unreadable_letter(input, source, batch)
        producer.send(self.dead_letter_topic, letter.keys, letter.values, letter.headers)

    def write_absences(self, producer: Producer, absences: list[AbsenceEvent]) -> None:
        """Send them to the alerts topic."""
        if absences:
            records = [encode_absence(event, self.group_id) for event in absences]
            producer.send(
                self.alerts_topic,
                [record.key for record in records],
                [record.value for record in records],
                [record.headers for record in records],
            )
