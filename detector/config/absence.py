"""The ``absence`` section of an input: who is missed when nothing comes any more."""

from typing import Literal

from pydantic import Field, field_validator

from detector.alerting.absence import AbsenceRules
from detector.config.section import Duration, Names, Section, parse_duration

AUTO: Literal["auto"] = "auto"


class AbsenceConfig(Section):
    """Alerts about entities that stop sending; without the section there are none."""

    entities: Names = Field(
        ("*",),
        min_length=1,
        description="Patterns of those that are missed: * and ? as in a shell.",
        examples=['["web-*"]'],
    )
    after: str = Field(
        AUTO,
        description="How long one may be silent, or auto: four of its usual intervals, and longer where its "
        "gaps vary.",
        examples=["5m"],
    )
    severity: Literal["critical", "warning", "info"] = Field("warning", description="Label of these alerts.")
    silence_after_s: Duration = Field(
        60.0,
        alias="silence_after",
        description="The shortest time without any record after which the input as a whole counts as silent.",
    )

    features: bool = Field(
        True,
        description="Whether a feature is missed that vanishes from an entity's records.",
    )

    @field_validator("after")
    @classmethod
    def _after_is_a_duration(cls, after: str) -> str:
        if after != AUTO:
            parse_duration(after)
        return after

    def rules(self) -> AbsenceRules:
        """Return the same in the words of the core."""
        after_s = None if self.after == AUTO else parse_duration(self.after)
        return AbsenceRules(after_s, self.severity, self.silence_after_s, self.features)
