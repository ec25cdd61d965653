"""What the loop tells the outside about its work: counted once per batch, from columns."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from detector.alerting.absence_event import AbsenceEvent
from detector.alerting.event import AlertEvent
from detector.batch import Batch, IntArray, Scores, Source
from detector.stream.reasons import Reason


class Observer(Protocol):
    """Metrics and health, seen from the loop. Every call comes from the loop's one thread.

    No method may raise or block: an observer that fails must not stop the scoring. Counts are
    of what was acknowledged and committed, so a batch that is repeated after a failure is
    counted once.
    """

    def polled(self, input: str, records: int) -> None:
        """Count records read, good and bad."""
        ...

    def lost(self, input: str, records: int) -> None:
        """Count records that the broker removed before they were read, or that cannot be read."""
        ...

    def rejected(self, input: str, reason: Reason, records: int) -> None:
        """Count dead letters."""
        ...

    def refused(self, topic: str) -> None:
        """Count a record that an output topic refused for its size, and that is not written there."""
        ...

    def missing(self, input: str, missing_per_feature: Mapping[str, int]) -> None:
        """Count missing values among the decoded records; features without any are left out."""
        ...

    def scored(
        self, batch: Batch, slots: IntArray, scores: Scores, events: Sequence[AlertEvent], now_s: float
    ) -> None:
        """Take one detector's answer to a batch: statuses, scores, delays, alerts.

        Args:
            batch: N records of the input.
            slots: Shape (N,), which slot of its input each record's entity has; small integers,
                the same for the same (source, entity) until ``forgotten``, then used again.
            scores: N rows in the batch's order.
            events: Of episodes: firing, updated or resolved within the batch, in order.
            now_s: Wall clock, seconds since 1970; minus ``batch.time`` it is the delay.
        """
        ...

    def still_firing(
        self, detector: str, sources: Collection[Source], alerts: Sequence[tuple[AlertEvent, float]]
    ) -> None:
        """Set what another process told of entities that sent nothing yet here, and that goes on.

        Args:
            detector: One detector.
            sources: The partitions of those entities; what was said of them before no longer counts.
            alerts: Newest event of each, and for how many seconds it fires if no other follows.
        """
        ...

    def not_recalled(self, partitions: int, problem: str = "") -> None:
        """Set of how many partitions it is not known what was told of their entities.

        Args:
            partitions: How many of those that this process owns.
            problem: Why the alerts topic could not be read, for people.
        """
        ...

    def interrupted(self) -> None:
        """Keep what fires as if another process had told of it, although all entities are forgotten next:
        Kafka failed, and what is open is not over for that. ``still_firing`` says what becomes of it."""
        ...

    def incident(self, detector: str, transition: str) -> None:
        """Count an event of an incident: firing, updated or resolved."""
        ...

    def steered(self, detector: str, entities: int) -> None:
        """Set how many entities have a threshold of their own, above or below the detector's."""
        ...

    def absence(self, event: AbsenceEvent) -> None:
        """Count an event of an absence."""
        ...

    def absent(self, input: str, entities: int, firing: Sequence[AbsenceEvent]) -> None:
        """Set what is absent from an input now.

        Args:
            input: One that entities are missed from; others are never told of.
            entities: How many are absent.
            firing: What was told of that and goes on, the newest event of each absence.
        """
        ...

    def forgotten(self, detector: str, slots: IntArray, entities: Sequence[str]) -> None:
        """Drop the series of entities whose state is gone, firing ones too: revoked partitions.

        Args:
            detector: One detector of the input; called once for each.
            slots: Shape (E,), free from now on.
            entities: Length E, their names.
        """
        ...

    def batch_done(self, input: str, records: int, seconds: float) -> None:
        """Observe how long a batch took from poll to commit; one call per input in the batch."""
        ...

    def lag(self, lag: Mapping[Source, int]) -> None:
        """Replace the records behind the high watermark, of exactly the assigned partitions."""
        ...

    def entity_on_two_sources(self, input: str, entities: int) -> None:
        """Count entities newly seen on a second partition: their order is not defined."""
        ...

    def assigned(self, partitions: int) -> None:
        """Set how many partitions this process owns; ready needs at least one."""
        ...

    def broker(self, reachable: bool, problem: str = "") -> None:
        """Set whether Kafka works: brokers answer and take what is written; not ready while they do not.

        Args:
            reachable: Whether it does.
            problem: Why not, for people.
        """
        ...

    def heartbeat(self, monotonic_s: float) -> None:
        """Note that the loop is alive, by ``time.monotonic``; healthy while this is recent."""
        ...
