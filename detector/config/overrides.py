"""The ``overrides`` of a detector's alerting: what is different for entities whose names match a pattern."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.entity_rules import Override
from detector.alerting.rules import Budget
from detector.config.section import Duration, Names, Section

Severity = Literal["critical", "warning", "info"]


class OwnBudgetConfig(Section):
    """How many false alarms are bearable of each of some entities."""

    false_alarms: float = Field(1.0, gt=0, description="How many of each ...")
    every_s: Duration = Field(604800.0, alias="every", description="... in this time.")


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
        None, description="False alarms that are bearable of each of them: fewer mean a stricter threshold."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.severity is None and not self.mute and self.budget is None:
            raise ValueError("changes nothing; write severity, mute or budget, or leave it out")
        if self.mute and (self.severity is not None or self.budget is not None):
            raise ValueError("mutes, so severity and budget say nothing; leave them out, or mute")
        return self

    def override(self) -> Override:
        """Return the same in the words of the core."""
        own = self.budget
        budget = None if own is None else Budget(own.false_alarms, "entity", own.every_s)
        return Override(EntityPatterns(self.entities), self.severity, self.mute, budget)
