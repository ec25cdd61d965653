"""What the operator asks for: a budget of false alarms, and when an episode starts and ends."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

CRITICAL = "critical"
"""The severity that an alert rises to, ..."""
INFO = "info"
"""... but for one that has this severity."""
SEVERITIES = (INFO, "warning", CRITICAL)
RECORDS_OF_A_LEVEL = 36
"""So many of an entity say what is usual now, at least."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many episodes of normal traffic are bearable."""

    false_alarms: float = 1.0
    per: Literal["entity", "fleet"] = "entity"
    every_s: float = 7 * 86400.0

    def episodes_per_entity_s(self, entities: float) -> float:
        """Return the bearable rate of one entity among ``entities``, at least 1, episodes per second."""
        shared_by = entities if self.per == "fleet" else 1
        return self.false_alarms / self.every_s / shared_by


class FireRules(NamedTuple):
    """When an episode starts; see ``AlertRules``."""

    m: int
    of: int
    for_s: float


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """When episodes of several entities are one incident."""

    entities: int = 5
    """At least so many begin ..."""
    within_s: float = 300.0
    """... within this event time."""


@dataclass(frozen=True, slots=True)
class AlertRules:
    """When suspicious records become an episode, and when it is over. Times are event times."""

    budget: Budget = Budget()
    fire_m: int = 1
    """Fires when this many ..."""
    fire_of: int = 1
    """... of the entity's last so many scored records are suspicious, the newest one among them, ..."""
    fire_for_s: float = 0.0
    """... and some of them were at every record for so long."""
    resolve_below: float = 0.7
    """Resolves when the anomaly score stayed below this ..."""
    resolve_records: int = 5
    """... for so many records in a row."""
    cooldown_s: float = 1800.0
    """What fires again less than this after it resolved is the same alert, and counted as another episode; it
    resolves when nothing has come back for that long."""
    release_after_s: float = 21_600.0
    """An episode that lasts longer is closed as the new normal: what stands out of that level fires."""
    severity: str = "warning"
    """Of an alert at first."""
    critical_score: float = 2.0
    """An alert is critical once the anomaly score was at least this, 1 or more, ..."""
    critical_for_s: float = 300.0
    """... at every record for so long."""
    keep_alive_s: float = 300.0
    """What fires is told of again this often."""
    incident: IncidentRules | None = IncidentRules()
    """When episodes of several entities are one incident; None: never."""
