"""The ``budget`` of a detector's alerting, or of some of its entities: how many false alarms are bearable."""

from typing import Literal, Self

from pydantic import Field, model_validator

from detector.config.section import Duration, Section

_LEAST_A_YEAR = 0.01
"""Rarer ones follow from no amount of held-out traffic."""
_MOST_A_DAY = {"entity": 100.0, "fleet": 10_000.0}
"""More than these are no alarms any more, but a share of all records."""
_DAY_S = 86_400.0


class OwnBudgetConfig(Section):
    """How many false alarms are bearable of each of some entities."""

    false_alarms: float = Field(1.0, gt=0, description="How many ...", examples=[1])
    every_s: Duration = Field(604800.0, alias="every", description="... in this time.", examples=["7d"])

    @model_validator(mode="after")
    def _alarms_are_plausible(self) -> Self:
        refuse_implausible(self.false_alarms, self.every_s, "entity")
        return self


class BudgetConfig(Section):
    """How many false alarms are bearable."""

    false_alarms: float = Field(1.0, gt=0, description="How many ...", examples=[1])
    per: Literal["entity", "fleet"] = Field(
        "entity", description="... for each entity, or for all together ...", examples=["entity"]
    )
    every_s: Duration = Field(604800.0, alias="every", description="... in this time.", examples=["7d"])

    @model_validator(mode="after")
    def _alarms_are_plausible(self) -> Self:
        refuse_implausible(self.false_alarms, self.every_s, self.per)
        return self


def refuse_implausible(false_alarms: float, every_s: float, per: Literal["entity", "fleet"]) -> None:
    """Refuse a budget that nobody means: it would make a detector deaf, or let it never be silent.

    Raises:
        ValueError: It is such a one; the message says what is plausible.
    """
    a_day = false_alarms / every_s * _DAY_S
    if not _LEAST_A_YEAR / 365 <= a_day <= _MOST_A_DAY[per]:
        raise ValueError(
            f"is {a_day:.10g} false alarms a day per {per}; plausible are one in {1 / _LEAST_A_YEAR:g} years "
            f"to {_MOST_A_DAY[per]:g} a day, mostly something like {{false_alarms: 1, every: 7d}}"
        )
