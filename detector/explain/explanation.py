"""An alert explained: its events, the entity's records replayed, who else alarmed, what changed."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from detector.alerting.event import FeatureReason
from detector.batch import Batch, Source
from detector.bundles.store import BundleError, BundleStore
from detector.config.detectors import DetectorConfig
from detector.config.root import Config
from detector.delivery.alert import ABSENCES
from detector.explain.alerts import AlertsRead, Episode, Event, overlapping, read_alerts
from detector.explain.changes import BEFORE_S, Change, file_changes, version_changes, windows
from detector.explain.records import EntityRecords, entity_records
from detector.explain.replay import Moment, replay
from detector.explain.times import time_text
from detector.from_config import client_settings, detector_of, input_schema, maintenance
from detector.stream.codec_json import JsonCodec
from detector.stream.control_topic import AnnouncedWindows
from detector.stream.maintenance import Maintenance
from detector.stream.port import (
    ClientSettings,
    PartitionReader,
    RawRecords,
    TopicMissingError,
    open_partition,
    read_range,
)

RECORDS = 60
"""Shown."""
WARMUP = 500
"""Records before those, or more: they bring the state to where the daemon's was, or near it."""
_AFTER_START = 40
"""Of a long episode, so many records are shown from its beginning on."""
AROUND_S = 600.0
"""Who alarmed so long before or after the episode counts as alarming then, what changed as long after it."""
_OTHERS_LISTED = 20
_FEATURES = 3
_SAME = 0.005
_NOT_SCORED = {
    "absence": "records that did not come cannot be scored",
    "vanished_feature": "a feature that did not come cannot be scored; its records were, by what they had",
}


class ExplainError(RuntimeError):
    """The alert cannot be explained; the message says why and what to do."""


@dataclass(slots=True)
class Explanation:
    """Everything that is known of an alert. Times are event times, seconds since 1970 UTC."""

    alert: Event
    """Its newest event."""
    firing: Event
    """Its first one."""
    unit: dict[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    """The features of ``moments`` worth showing, most surprising first."""
    moments: list[Moment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What to know of the replay, or why there is none."""
    others: list[Episode] = field(default_factory=list)
    others_left_out: int = 0
    changes: list[Change] = field(default_factory=list)
    """From the day before it began until ``changes_until_s``, in order."""

    @property
    def peak_s(self) -> float | None:
        return None if self.alert.peak is None else self.alert.peak.timestamp()

    @property
    def end_s(self) -> float:
        """Of its newest event, where none says that it is over."""
        return (self.alert.end or self.alert.time).timestamp()

    @property
    def changes_until_s(self) -> float:
        return self.end_s + AROUND_S

    @property
    def taken_over_by(self) -> str | None:
        """The version that told the newest event, if it is not the one that raised the alert."""
        return None if self.alert.version == self.firing.version else self.alert.version

    @property
    def changes_before(self) -> list[Change]:
        """What changed before it fired: any of it may be the reason."""
        return [change for change in self.changes if change.time_s <= self.firing.time.timestamp()]

    @property
    def changes_since(self) -> list[Change]:
        return self.changes[len(self.changes_before) :]


@dataclass(frozen=True, slots=True)
class Access:
    """How topics are read; a test has its own."""

    alerts: Callable[[], Iterable[RawRecords]]
    partition: Callable[[Source], PartitionReader]
    control: Callable[[], Iterable[RawRecords]] | None = None
    """None where there is no control topic."""
    clock: Callable[[], float] = time.time


def access_to(config: Config) -> Access:
    """Return how the topics of a configuration are read."""
    settings: ClientSettings = client_settings(config)

    def whole(topic: str) -> Iterable[RawRecords]:
        return read_range(settings, [topic], 0.0)

    return Access(
        partial(whole, config.outputs.alerts_topic),
        partial(open_partition, settings),
        None if config.control is None else partial(whole, config.control.topic),
    )


def explain(config: Config, path: Path, alert_id: str, offsets: int, access: Access) -> Explanation:
    """Explain an alert.

    Args:
        config: Of the daemon that raised it.
        path: Its file.
        alert_id: Of the alert.
        offsets: How many offsets of the input topic to look at, at most.
        access: Reads topics.

    Raises:
        ExplainError: No event of the alert is on the alerts topic, or its detector is not configured.
        KafkaClientError: Kafka cannot be read.
    """
    read = read_alerts(access.alerts(), alert_id)
    if not read.told:
        raise ExplainError(_unknown(read, alert_id, config.outputs.alerts_topic))
    found = Explanation(read.told[-1], read.told[0])
    start_s = found.firing.start.timestamp()
    others = overlapping(read, alert_id, start_s - AROUND_S, found.end_s + AROUND_S)
    from_s, until_s = start_s - BEFORE_S, found.changes_until_s
    found.others, found.others_left_out = others[:_OTHERS_LISTED], max(len(others) - _OTHERS_LISTED, 0)
    watching = _watching(config, found.alert)
    work = _maintenance(config, access, found.end_s, found.notes)
    for detector in watching:
        store = BundleStore(detector.store)
        found.changes += version_changes(store, detector.name, from_s, until_s)
        if work is not None:
            found.changes += windows(work, detector.name, from_s, until_s)
    found.changes += file_changes(path, from_s, until_s)
    found.changes = sorted(dict.fromkeys(found.changes), key=lambda change: change.time_s)
    if found.alert.kind == "incident":
        found.notes.append("an incident: its members' alerts explain themselves by their own ids")
    elif found.alert.kind in ABSENCES:
        found.notes.append(_NOT_SCORED[found.alert.kind])
    else:
        _add_replay(found, config, watching[0], offsets, access, work)
    return found


def _watching(config: Config, alert: Event) -> tuple[DetectorConfig, ...]:
    """Return the detector that raised an alert; those of the input from which something is absent."""
    if alert.kind in ABSENCES:
        return config.detectors_of(alert.input)
    try:
        return (config.detector(alert.detector),)
    except KeyError as error:
        said = f"alert {alert.alert_id}: {error.args[0]}; take the configuration of the daemon that raised it"
        raise ExplainError(said) from error


def _unknown(read: AlertsRead, alert_id: str, topic: str) -> str:
    if not read.events:
        return (
            f"no alert {alert_id!r}: topic {topic} holds no event; is it the daemon's outputs.alerts_topic?"
        )
    return (
        f"no alert {alert_id!r} among the {read.events} events of topic {topic}, from "
        f"{time_text(read.first_s)} to {time_text(read.last_s)}; take the alert_id of one of them, or of a "
        "notification"
    )


def _maintenance(config: Config, access: Access, end_s: float, notes: list[str]) -> Maintenance | None:
    """Return the windows of calendar and control topic, as they are known now."""
    if access.control is None:
        return maintenance(config)
    announced = AnnouncedWindows()
    try:
        for raw in access.control():
            announced.take(raw, end_s, lambda _: None)
    except TopicMissingError as error:
        notes.append(f"announced maintenance and deploys are not known: {error}")
    return maintenance(config, lambda: announced.all)


def _add_replay(
    found: Explanation,
    config: Config,
    detector: DetectorConfig,
    offsets: int,
    access: Access,
    work: Maintenance | None,
) -> None:
    """Read the entity's records and score them again; say why, where that cannot be done."""
    alert, origin, version = found.alert, found.firing.origin, found.firing.version
    if origin is None or origin.first_offset is None:
        found.notes.append("the event does not say where its records are")
        return
    try:
        served = detector_of(detector, version)
    except BundleError as error:
        found.notes.append(f"no replay without the version that raised the alert: {error}")
        return
    source = Source(origin.topic, origin.partition)
    last = alert.origin.last_offset if alert.origin is not None else None
    until = origin.first_offset + 1 if last is None else max(last, origin.first_offset) + 1
    codec = JsonCodec(input_schema(config, config.input(detector.input), detector))
    try:
        reader = access.partition(source)
    except TopicMissingError as error:
        found.notes.append(f"no records to replay: {error}")
        return
    try:
        records = entity_records(
            reader, codec, alert.entity, origin.first_offset, until, RECORDS + WARMUP, offsets, access.clock()
        )
    finally:
        reader.close()
    found.notes += _about(records, source, origin.first_offset)
    if not len(records):
        return
    first, end = _window(records.pieces, origin.first_offset)
    found.moments = replay(served, records.pieces, alert.entity, first, end - 1, alert.member, work)
    found.features = _worth_showing(_causes(found), found.moments)
    found.unit = {
        name: unit for name, unit in zip(served.model.feature_names, served.model.units, strict=True) if unit
    }
    found.notes.append(f"scored again by version {version}, from {first} earlier records of the entity")
    if end < len(records):
        found.notes.append(f"{len(records) - end} later records of the episode are not shown")
    found.notes += _differences(found)


def _about(records: EntityRecords, source: Source, first_offset: int) -> list[str]:
    where = f"{source.topic}[{source.partition}]"
    if records.held_from > first_offset:
        deleted = "the records that began it" if len(records) else "the records"
        return [
            f"{deleted} are deleted: {where} holds offsets from {records.held_from} on, the alert began at "
            f"{first_offset}"
        ]
    if not len(records):
        return [f"no record of the entity was found among {records.scanned} offsets of {where}"]
    if records.bounded:
        return [
            f"only {len(records)} records of the entity were found among {records.scanned} offsets of "
            f"{where}; --offsets looks at more"
        ]
    return []


def _window(pieces: Sequence[Batch], first_offset: int) -> tuple[int, int]:
    """Return the numbers of the first record to show and of the one after the last."""
    offsets = [offset for piece in pieces for offset in piece.offset.tolist()]
    began = next((i for i, offset in enumerate(offsets) if offset >= first_offset), len(offsets) - 1)
    end = min(len(offsets), began + _AFTER_START)
    return max(end - RECORDS, 0), end


def _causes(found: Explanation) -> list[str]:
    """Return the features that the alert first told of, after the causes of its first and newest event."""
    first, newest = found.firing.reasons, found.alert.reasons
    return list(dict.fromkeys(reason.feature for reason in (*first[:1], *newest[:1], *first)))


def _worth_showing(causes: Sequence[str], moments: Sequence[Moment]) -> tuple[str, ...]:
    """Return the alert's own features, else those that surprised most over the suspicious records."""
    known = [reason.feature for moment in moments[:1] for reason in moment.features]
    named = [feature for feature in causes if feature in known]
    nats = dict.fromkeys(known, 0.0)
    for moment in moments:
        for reason in moment.features if moment.suspicious else ():
            nats[reason.feature] += reason.nats if math.isfinite(reason.nats) else 0.0
    rest = sorted((name for name in known if name not in named), key=lambda name: -nats[name])
    return tuple([*named, *rest][:_FEATURES])


def _differences(found: Explanation) -> list[str]:
    """Say where the replay does not say what the event said."""
    told, peak_s = found.alert, found.peak_s
    at_peak = [m for m in found.moments if peak_s is not None and abs(m.time_s - peak_s) < 1e-3]
    if told.anomaly_score is None or not at_peak:
        return []
    score = max(moment.anomaly_score for moment in at_peak)
    if _alike(score, told.anomaly_score):
        return [f"at the peak the replay says what the alert said: anomaly score {told.anomaly_score:.3g}"]
    said = "nothing" if math.isnan(score) else f"anomaly score {score:.3g}"
    least = min(moment.p_value for moment in at_peak)
    if told.p_value and _alike(-math.log(least), -math.log(told.p_value)):
        why = ", of the same p-value: the threshold was another, or a louder record came before"
    elif found.taken_over_by is not None:
        why = f": version {found.taken_over_by}, which took over, may have scored it"
    else:
        why = ": it began with fewer records than the daemon knew, or the configuration changed"
    return [
        f"at the peak the alert said anomaly score {told.anomaly_score:.3g} and the replay says {said}{why}"
    ]


def _alike(replayed: float, told: float) -> bool:
    return abs(replayed - told) <= _SAME * told


def part_of(moment: Moment, feature: str) -> FeatureReason | None:
    """Return a feature's part in a record."""
    return next((reason for reason in moment.features if reason.feature == feature), None)
