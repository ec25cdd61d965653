"""A detector: one trained model, and what is made of what it says."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from detector.alerting.budget import Threshold
from detector.alerting.entity_rules import EntityRules
from detector.alerting.feature_rules import FeatureRules
from detector.alerting.rules import AlertRules
from detector.alerting.steering import Steering
from detector.alerting.stuck import StuckRules
from detector.scoring.scoring_model import ScoringModel


@dataclass(frozen=True, slots=True)
class Detector:
    """A named watch with its trained model: nothing here changes while it runs."""

    name: str
    role: str
    version: str
    model: ScoringModel
    rules: AlertRules
    threshold: Threshold
    steering: Steering | None
    """None where p-values follow the traffic themselves."""
    min_features: int
    """A record with fewer present features is not scored."""
    interval_s: float
    """The usual time between two records of an entity."""
    feature_rules: FeatureRules | None = None
    """None where every deviation matters, and every value may be, and stay."""
    entity_rules: EntityRules | None = None
    """None where the same holds for all entities."""
    echoes: bool = False
    """Whether what is clearly weaker than its entity was a moment ago is no news."""
    members_before: tuple[str, ...] = ()
    """Names of members of other versions: those found the peaks of alerts that were open when they went."""

    @property
    def member_names(self) -> tuple[str, ...]:
        """Of the model's members, and of those of before, by the numbers that alerts remember them by."""
        return (*(member.name for member in self.model.members), *self.members_before)

    def with_names(self, members: Iterable[str]) -> Self:
        """Return the detector with these among the names of members."""
        new = dict.fromkeys(name for name in members if name not in self.member_names)
        return replace(self, members_before=(*self.members_before, *new)) if new else self

    @property
    def stuck_rules(self) -> StuckRules | None:
        """Which features may not stay the same; None where all may."""
        return None if self.feature_rules is None else self.feature_rules.stuck
