"""The ``overrides`` of a detector's alerting: what is different for entities whose names match a pattern."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import Override
from detector.alerting.rules import Budget
from detector.config.budget import OwnBudgetConfig
from detector.config.fire import FireConfig
from detector.config.section import Names, Section

Severity = Literal["critical", "warning", "info"]


class OverrideConfig(Section):
    """What is different for the entities that a pattern matches."""

    entities: Annotated[Names, Field(min_length=1)] = Field(
        description="Patterns of whole names: * is any text, ? any character, [abc] one of some.",
        examples=["db-*"],
    )
    severity: Severity | None = Field(None, description="Label of their alerts.")
    mute: bool = Field(
        False, description="Whether nothing of theirs is an alert; they are scored all the same."
    )
    budget: OwnBudgetConfig | None = Field(
        None,
        description="False alarms that are bearable of each of them: fewer mean a stricter threshold.",
        examples=["{false_alarms: 1, every: 30d}"],
    )
    fire: FireConfig | None = Field(None, description="When their alerts start.", examples=["{m: 2, of: 3}"])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        others = {"severity": self.severity, "budget": self.budget, "fire": self.fire}
        given = [name for name, value in others.items() if value is not None]
        if not given and not self.mute:
            raise ValueError("changes nothing; write severity, mute, budget or fire, or leave it out")
        if self.mute and given:
            raise ValueError(f"mutes, so {' and '.join(given)} would mean nothing; leave that out, or mute")
        return self

    def override(self) -> Override:
        """Return the same in the words of the core."""
        own = self.budget
        budget = None if own is None else Budget(own.false_alarms, "entity", own.every_s)
        fire = None if self.fire is None else self.fire.rules()
        return Override(EntityPatterns(self.entities), self.severity, self.mute, budget, fire)
