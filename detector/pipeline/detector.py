"""A detector: one trained model, and what is made of what it says."""

from dataclasses import dataclass

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

    @property
    def stuck_rules(self) -> StuckRules | None:
        """Which features may not stay the same; None where all may."""
        return None if self.feature_rules is None else self.feature_rules.stuck
