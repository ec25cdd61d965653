"""The ``fire`` section of a detector's alerting, or of some of its entities: when an alert starts."""

from typing import Self

from pydantic import Field, model_validator

from detector.alerting.rules import FireRules
from detector.config.section import Duration, Section


class FireConfig(Section):
    """m of n, for a while. One suffices by default, since the threshold is found for just these rules."""

    m: int = Field(1, ge=1, description="This many suspicious records ...", examples=[2])
    of: int = Field(1, ge=1, le=64, description="... among the last so many start an alert ...", examples=[3])
    for_s: Duration | None = Field(
        None,
        alias="for",
        description="... once there were some at every record for so long; at once without.",
        examples=["10m"],
    )

    @model_validator(mode="after")
    def _m_is_at_most_n(self) -> Self:
        if self.m > self.of:
            raise ValueError(f"m ({self.m}) is above of ({self.of}), so nothing would ever fire; lower m")
        return self

    def rules(self) -> FireRules:
        """Return the same in the words of the core."""
        return FireRules(self.m, self.of, self.for_s or 0.0)
