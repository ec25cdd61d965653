"""The ``maintenance`` and ``control`` sections: when nothing fires and nothing is learnt."""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, tzinfo
from typing import Annotated, Literal, Self, cast, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from detector.config.inputs import Name, Topic
from detector.config.problem import Problem, suggestion
from detector.config.section import Names, Section
from detector.config.time_zone import TimeZone, zone_of

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00")


def _moment(value: object) -> datetime | int:
    """Return a time with its date, or a time of day in minutes."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    if not isinstance(value, str):
        # 12:00 without quotes is the number 720 to YAML.
        raise ValueError("is a number to YAML; write the time in quotes, like '12:00'")
    clock = _CLOCK.fullmatch(value)
    if clock is not None:
        return 1440 if clock[1] is None else 60 * int(clock[1]) + int(clock[2])
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is no time; write it like 2026-12-01T02:00, or with every like '02:00'") from None


def _days(value: object) -> object:
    return DAYS if value == "day" else [value] if isinstance(value, str) else value


Moment = Annotated[datetime | int, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]
"""A time with its date, or minutes of the day."""


class MaintenanceConfig(Section):
    """A window of event time in which nothing fires and nothing is learnt."""

    entities: Annotated[Names, Field(min_length=1)] = Field(
        ("*",),
        description="Patterns of whole names: * is any text, ? any character, [abc] one of some.",
        examples=['["web-*"]'],
    )
    detectors: tuple[Name, ...] = Field(
        (), description="Which detectors heed it; all, without.", examples=["[hosts]"]
    )
    every: Annotated[
        tuple[Day, ...] | None,
        BeforeValidator(_days),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"enum": list(DAYS)}}]}),
    ] = Field(
        None,
        description="Days of every week on which it begins: [sat, sun]; 'day' is all of them.",
        examples=["[sat, sun]"],
    )
    from_time: Moment = Field(
        alias="from", description="2026-12-01T02:00, or with every the time of day, '02:00'."
    )
    until_time: Moment = Field(
        alias="until", description="Likewise; a time of day not after from is the next day's."
    )
    time_zone: TimeZone = Field(
        "UTC", description="Of times without an offset, daylight saving heeded.", examples=["Europe/Berlin"]
    )
    kind: Literal["maintenance", "deploy"] = Field(
        "maintenance", description="As metrics and score records tell it."
    )

    @field_validator("every")
    @classmethod
    def _some_day(cls, every: tuple[Day, ...] | None) -> tuple[Day, ...] | None:
        if every is not None and not every:
            raise ValueError("names no day; write days like [sat, sun], or leave it out")
        return every

    @model_validator(mode="after")
    def _times_are_of_one_kind(self) -> Self:
        times = {"from": self.from_time, "until": self.until_time}
        for name, moment in times.items():
            if self.every is not None and not isinstance(moment, int):
                raise ValueError(f"with every, {name} is a time of day; write it like '02:00'")
            if self.every is None and isinstance(moment, int):
                raise ValueError(
                    f"{name} has no date; write it like 2026-12-01T02:00, or say on which days: every: [sat]"
                )
            if isinstance(moment, datetime) and moment.tzinfo and "time_zone" in self.model_fields_set:
                raise ValueError(f"{name} has an offset of its own; leave the offset or time_zone out")
        if self.every is not None:
            if self.from_time == 1440:
                raise ValueError("from 24:00 is 00:00 of the next day; write that")
            if self.from_time == self.until_time:
                raise ValueError("from and until are the same; for a whole day write '00:00' and '24:00'")
        elif self.instants[0] >= self.instants[1]:
            raise ValueError(f"from ({self.from_time}) is not before until ({self.until_time}); swap them")
        return self

    @property
    def zone(self) -> tzinfo:
        """Of times without an offset."""
        return zone_of(self.time_zone)

    @property
    def instants(self) -> tuple[float, float]:
        """Of a window that occurs once begin and end, seconds since 1970 UTC.

        Where a local time means two instants it is the one that makes the window longer.
        """
        begins, ends = cast(datetime, self.from_time), cast(datetime, self.until_time)
        return min(self._meanings(begins)), max(self._meanings(ends))

    @property
    def minutes(self) -> tuple[int, int]:
        """Of a window that recurs begin and end, minutes of the day."""
        return cast(int, self.from_time), cast(int, self.until_time)

    def _meanings(self, moment: datetime) -> list[float]:
        if moment.tzinfo is not None:
            return [moment.timestamp()]
        return [moment.replace(tzinfo=self.zone, fold=fold).timestamp() for fold in (0, 1)]


class ControlConfig(Section):
    """A topic on which anybody who may write to it announces windows: a deploy job, say."""

    topic: Topic = Field(
        description="Read whole by every process, from its beginning.", examples=["detector.control"]
    )


def maintenance_problems(
    entries: Iterable[tuple[int, MaintenanceConfig]], detectors: Sequence[str]
) -> list[Problem]:
    """Return which windows name a detector that there is not; ``entries`` with their positions."""
    return [
        Problem(
            ("maintenance", i, "detectors"), f"no detector is called {name!r}; {suggestion(name, detectors)}"
        )
        for i, entry in entries
        for name in entry.detectors
        if name not in detectors
    ]
