"""Which episodes fire, and whom an event is news for: old ones are history, which wakes nobody."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from detector.batch import Source
from detector.delivery.alert import Alert, AlertRecord, event_id
from detector.delivery.mailbox import Letter
from detector.delivery.notification import Notification, Status, generator_url, labels_of
from detector.delivery.wording import (
    description,
    expired_summary,
    explain_command,
    firing_summary,
    resolved_summary,
    subject,
)

IDS_REMEMBERED = 100_000


class Reading(StrEnum):
    """What an event was to us; also a metric label."""

    NOTIFIED = "notified"
    REFRESHED = "refreshed"
    """It fires already; nothing that would wake anybody changed."""
    OLD = "old"
    """Longer ago than ``max_alert_age``, and over or written as history: nobody is told."""
    REPEATED = "repeated"
    """The same event once more, as a crash of the scorer leaves it."""
    EXPIRED = "expired"
    """The end of an episode that was taken to be over before."""
    GROUPED = "grouped"
    """Of a member of an incident, of which people are told instead."""
    SHADOW = "shadow"
    """Of a challenger, whose scores wake nobody."""
    UNREADABLE = "unreadable"


class Read(NamedTuple):
    """What follows from an event."""

    reading: Reading
    letters: list[Letter]


class _Ahead(NamedTuple):
    """The newest of an alert's events that were read back and are still to be read in their turn."""

    source: Source
    labels: Mapping[str, str]
    ends_s: float
    """When it is over unless more is heard of it; minus infinity if that event is its end."""


@dataclass(slots=True)
class _Episode:
    alert: Alert
    """Of the newest event that says it fires."""
    record: AlertRecord
    labels: dict[str, str]
    news_s: float
    """When its newest event was written."""
    told: bool
    """Whether receivers know of it, or are about to."""
    closing: Notification | None = None
    """What they are told at its end; None while it is open."""
    expired: bool = False

    @property
    def open(self) -> bool:
        return self.closing is None


class Episodes:
    """All episodes of the partitions held. Times are wall clock, seconds since 1970."""

    def __init__(
        self,
        max_alert_age_s: float,
        expire_after_s: float,
        deliver_within_s: float,
        generator_url: str = "",
    ) -> None:
        """Args:
        max_alert_age_s: Events whose record is older when they are read, wake nobody.
        expire_after_s: Silence after which an open episode is taken to be over, unless its last event
            says how long.
        deliver_within_s: How long after they were written events may be delivered that were read in time,
            by whoever read them before.
        generator_url: Link with ``{entity}``, ``{detector}`` and ``{alert_id}``; may be empty.
        """
        self._max_alert_age_s = max_alert_age_s
        self._expire_after_s = expire_after_s
        self._deliver_within_s = deliver_within_s
        self._generator_url = generator_url
        self._known: dict[str, _Episode] = {}
        self._first_seen: OrderedDict[str, tuple[Source, int]] = OrderedDict()
        self._ahead: dict[str, _Ahead] = {}

    def restore(self, record: AlertRecord, alert: Alert, written_s: float, *, delivered: bool = True) -> None:
        """Learn from an event that was read before; nobody is told.

        Args:
            record: From a partition that is ours since now; give them in offset order.
            alert: What it says.
            written_s: When Kafka got it.
            delivered: Whether every receiver has it. What is not is decided when it is read in its turn; here
                it says only whether the episode still goes on.
        """
        id = event_id(alert, record.headers)
        if self._is_repeat(record, id) or alert.role != "champion":
            return
        if not delivered:
            over = alert.state == "resolved"
            ends_s = float("-inf") if over else written_s + self._lasts_s(alert)
            self._ahead[alert.alert_id] = _Ahead(record.source, labels_of(alert), ends_s)
            return
        episode = self._known.get(alert.alert_id)
        if alert.state == "resolved":
            if episode is not None:
                self._close(episode, alert, id, written_s)
            return
        on_time = self._on_time(alert, written_s)
        told = (on_time and alert.incident_id is None) or (episode is not None and episode.told)
        self._opened(episode, record, alert, written_s, told=told)

    def restored(self) -> None:
        """Note, once all is restored, which members were told of because they outlasted their incident.

        Incidents may be on other partitions, which are read back before or after.
        """
        for episode in self._known.values():
            on_time = self._on_time(episode.alert, episode.news_s)
            if episode.open and on_time and self._outlasts_incident(episode.alert):
                episode.told = True

    def take(
        self, record: AlertRecord, alert: Alert, written_s: float, now_s: float, *, seen: bool = False
    ) -> Read:
        """Return what an event is, and what receivers are to be told.

        Args:
            record: As it was read, for dead letters.
            alert: What it says.
            written_s: When Kafka got it.
            now_s: The clock.
            seen: Whether it was decided before, maybe by somebody else, but not every receiver has it.
        """
        id = event_id(alert, record.headers)
        if self._is_repeat(record, id):
            return Read(Reading.REPEATED, [])
        if alert.role != "champion":
            return Read(Reading.SHADOW, [])
        fresh = now_s - alert.time.timestamp() <= self._max_alert_age_s
        seen = seen and self._on_time(alert, written_s)
        if self._on_time(alert, written_s):
            ahead = self._ahead.get(alert.alert_id)
            goes_on = ahead is not None and now_s < ahead.ends_s
            fresh = fresh or goes_on or (seen and now_s - written_s <= self._deliver_within_s)
        episode = self._known.get(alert.alert_id)
        if alert.state == "resolved":
            return self._over(episode, record, alert, id, written_s, fresh=fresh)
        return self._fires(episode, record, alert, id, written_s, fresh=fresh, seen=seen)

    def expire(self, sources: Collection[Source], now_s: float) -> list[Letter]:
        """Return the ends of episodes that nothing was heard of, and forget what has been over for long.

        Args:
            sources: Those of which everything was read: what is not read yet may be news.
            now_s: The clock.
        """
        letters = []
        self._ahead = {id: ahead for id, ahead in self._ahead.items() if ahead.source not in sources}
        firing = self._firing_by_labels()
        for alert_id, episode in list(self._known.items()):
            if episode.record.source not in sources:
                continue
            if not episode.open:
                if now_s - episode.news_s > self._expire_after_s:
                    del self._known[alert_id]
                continue
            if now_s < self._expiry_s(episode):
                continue
            summary = expired_summary(episode.alert, now_s - episode.news_s)
            # It may go on and expire again: each time is another end.
            id = f"{event_id(episode.alert, episode.record.headers)}-expired"
            episode.closing = self._notification(
                episode, id, "resolved", summary, ends_at_s=self._expiry_s(episode)
            )
            episode.expired = True
            if not episode.told:
                continue
            labels = frozenset(episode.labels.items())
            firing[labels] -= 1
            if not firing[labels]:
                letters.append(Letter(episode.closing, episode.record))
        return letters

    def standing(self, now_s: float) -> Iterator[tuple[Source, Notification]]:
        """Yield what an Alertmanager should know: what fires, and what is over.

        Of an alert with events still to be read in their turn, these say more.
        """
        ahead = {frozenset(each.labels.items()) for each in self._ahead.values()}
        firing = self._firing_by_labels()
        for alert_id, episode in self._known.items():
            labels = frozenset(episode.labels.items())
            if not episode.told or alert_id in self._ahead or labels in ahead:
                continue
            if episode.closing is not None:
                if not firing[labels]:
                    yield episode.record.source, episode.closing
            elif now_s < self._expiry_s(episode):
                yield episode.record.source, self._firing(episode, alert_id)

    def open_episodes(self) -> int:
        """Return how many fire, whether or not somebody was told."""
        return sum(episode.open for episode in self._known.values())

    def drop(self, sources: Collection[Source]) -> None:
        """Forget the episodes of partitions that went."""
        self._known = {id: e for id, e in self._known.items() if e.record.source not in sources}
        self._ahead = {id: ahead for id, ahead in self._ahead.items() if ahead.source not in sources}

    def _fires(
        self,
        episode: _Episode | None,
        record: AlertRecord,
        alert: Alert,
        id: str,
        written_s: float,
        *,
        fresh: bool,
        seen: bool,
    ) -> Read:
        known = episode is not None and episode.told and episode.open
        if alert.incident_id is not None and not known and not self._outlasts_incident(alert):
            self._opened(episode, record, alert, written_s, told=False)
            return Read(Reading.GROUPED, [])
        if not fresh and not known:
            # Too late to wake anybody, but whoever heard of it is to hear of its end.
            self._opened(episode, record, alert, written_s, told=seen)
            return Read(Reading.OLD, [])
        before = episode.labels if episode is not None and known else None
        opened = self._opened(episode, record, alert, written_s, told=True)
        letters = []
        if before is not None and before != opened.labels and not self._fires_for(alert.entity, before):
            # To Alertmanager, another severity is another alert.
            over = self._notification(
                opened,
                f"{id}-replaced",
                "resolved",
                f"{subject(alert)}: now {alert.severity}",
                ends_at_s=alert.time.timestamp(),
                labels=before,
            )
            letters.append(Letter(over, record))
        quiet = alert.state == "updated" and before == opened.labels
        letters.append(Letter(self._firing(opened, id, quiet=quiet), record))
        return Read(Reading.REFRESHED if quiet else Reading.NOTIFIED, letters)

    def _over(
        self,
        episode: _Episode | None,
        record: AlertRecord,
        alert: Alert,
        id: str,
        written_s: float,
        *,
        fresh: bool,
    ) -> Read:
        if episode is None:
            if not fresh:
                return Read(Reading.OLD, [])
            # Its start was too long ago to be read back: receivers may know it nevertheless.
            episode = self._opened(None, record, alert, written_s, told=alert.incident_id is None)
        if episode.expired:
            return Read(Reading.EXPIRED, [])
        closing = self._close(episode, alert, id, written_s)
        if not episode.told:
            return Read(Reading.OLD if alert.incident_id is None else Reading.GROUPED, [])
        if self._fires_for(alert.entity, episode.labels):
            return Read(Reading.REFRESHED, [])
        return Read(Reading.NOTIFIED, [Letter(closing, record)])

    def _outlasts_incident(self, alert: Alert) -> bool:
        """Say whether a member fires on although its incident is over, so that nobody hears of it otherwise.

        Its other members may be another process's, which does not know of this one. Somebody who begins to
        fire is no such case: the incident opens again with him. Nor is who only waits for its cooldown.
        """
        if alert.state != "updated":
            return False
        incident = self._known.get(alert.incident_id or "")
        ends_s = None if incident is None or incident.closing is None else incident.closing.ends_at_s
        seen = alert.last_suspicious if alert.reopened and alert.last_suspicious else alert.time
        return ends_s is not None and seen.timestamp() > ends_s

    def _firing_by_labels(self) -> Counter[frozenset[tuple[str, str]]]:
        """Count the open episodes that receivers know by the same labels.

        An entity that moves to another partition while its alert fires has a new one there, and the old one
        expires: its end alone would end both for receivers.
        """
        told = (episode for episode in self._known.values() if episode.open and episode.told)
        return Counter(frozenset(episode.labels.items()) for episode in told)

    def _fires_for(self, entity: str, labels: Mapping[str, str]) -> bool:
        """Say whether receivers know an open episode of an entity by these labels."""
        own = (episode for episode in self._known.values() if episode.alert.entity == entity)
        return any(episode.open and episode.told and episode.labels == labels for episode in own)

    def _opened(
        self, episode: _Episode | None, record: AlertRecord, alert: Alert, written_s: float, *, told: bool
    ) -> _Episode:
        labels = labels_of(alert)
        if episode is not None:
            # Carried labels are those of the first event: they are what the alert is told by.
            labels = episode.labels | {"severity": labels["severity"]}
        opened = _Episode(alert, record, labels, written_s, told)
        self._known[alert.alert_id] = opened
        return opened

    def _close(self, episode: _Episode, alert: Alert, id: str, written_s: float) -> Notification:
        closing = self._notification(
            episode, id, "resolved", resolved_summary(alert), ends_at_s=alert.time.timestamp()
        )
        episode.closing, episode.news_s = closing, written_s
        return closing

    def _firing(self, episode: _Episode, id: str, *, quiet: bool = False) -> Notification:
        return self._notification(episode, id, "firing", firing_summary(episode.alert), quiet=quiet)

    def _notification(
        self,
        episode: _Episode,
        id: str,
        status: Status,
        summary: str,
        *,
        ends_at_s: float | None = None,
        labels: dict[str, str] | None = None,
        quiet: bool = False,
    ) -> Notification:
        alert = episode.alert
        return Notification(
            id=id,
            status=status,
            labels=episode.labels if labels is None else labels,
            annotations={
                "summary": summary,
                "description": description(alert),
                "alert_id": alert.alert_id,
                "explain": explain_command(alert),
            },
            starts_at_s=alert.start.timestamp(),
            ends_at_s=ends_at_s,
            generator_url=generator_url(self._generator_url, alert),
            quiet=quiet,
        )

    def _expiry_s(self, episode: _Episode) -> float:
        return episode.news_s + self._lasts_s(episode.alert)

    def _lasts_s(self, alert: Alert) -> float:
        """Return how long after an event the episode is over, unless more is heard of it."""
        if alert.expires_at is None:
            return self._expire_after_s
        # How long, not when: records may lag behind the clock, and their alerts are no less alive.
        return (alert.expires_at - alert.time).total_seconds()

    def _on_time(self, alert: Alert, written_s: float) -> bool:
        """Say whether an event was news when it was written, not history that a scorer caught up with."""
        return written_s - alert.time.timestamp() <= self._max_alert_age_s

    def _is_repeat(self, record: AlertRecord, id: str) -> bool:
        """Say whether the event was seen at another place before; the same place is only read again."""
        here = record.source, record.offset
        first = self._first_seen.setdefault(id, here)
        if len(self._first_seen) > IDS_REMEMBERED:
            self._first_seen.popitem(last=False)
        return first != here
