"""The ``inputs`` section: topics, and where in their records entity, time and features are."""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AllowInfNan,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from detector.alerting.feature_rules import Direction, FeatureRule
from detector.config.absence import AbsenceConfig
from detector.config.section import Duration, FieldPath, Names, Section
from detector.models.feature_transforms import FeatureScale, FeatureType
from detector.models.kinds import Kind

KAFKA_KEY: Literal["@key"] = "@key"
KAFKA_TIMESTAMP: Literal["@timestamp"] = "@timestamp"

_LEGAL_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"


def _legal_topic(topic: str) -> str:
    """Refuse what no broker takes; ``stream.port.check_topics`` does the same, as a test makes sure."""
    if not re.fullmatch(_LEGAL_TOPIC, topic) or topic in (".", ".."):
        raise ValueError(
            f"{topic!r} is not a topic name; use letters, digits, dot, underscore and hyphen, at most 249"
        )
    return topic


Topic = Annotated[
    str, AfterValidator(_legal_topic), WithJsonSchema({"type": "string", "pattern": _LEGAL_TOPIC})
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
"""Of an input or a detector: also a folder, a metric label and part of an id."""


class InputConfig(Section):
    """A kind of record, from one topic or several, and how to read it."""

    name: Name = Field(description="What detectors call it.", examples=["telegraf"])
    topics: Annotated[Names, Field(min_length=1)] = Field(
        description="Where its records are.", examples=["[telegraf]"]
    )
    format: Literal["json"] = Field("json", description="How records are written.")
    entity: Names = Field(
        ("entity",),
        min_length=1,
        description="The field that names the monitored thing, a list of fields to join, or '@key'.",
        examples=["[host, disk]"],
    )
    entity_separator: str = Field("/", min_length=1, max_length=8, description="Between joined fields.")
    time: str = Field(
        "time",
        min_length=1,
        description="The field with the event time, or '@timestamp': when Kafka got the record.",
    )
    labels: Names = Field((), description="Fields carried along to alerts.", examples=["[team]"])
    features_field: str = Field(
        "features", description="The object of features; '' when the record itself is it."
    )
    values_field: str = Field(
        "values", description="The list of values in the detector's order of features; '' reads none."
    )
    max_record_bytes: int = Field(1 << 20, ge=64, description="Longer records go to the dead letters.")
    max_future_s: Duration = Field(
        600.0, alias="max_future", description="Records further ahead of the clock go to the dead letters."
    )
    forget_after_s: Duration = Field(
        604800.0,
        alias="forget_after",
        description="An entity that sends nothing for so long is gone: its memory and its series are freed. "
        "Longer than any usual gap.",
    )
    absence: AbsenceConfig | None = Field(
        None,
        description="Alerts about entities that stop sending; none without it, {} takes the defaults.",
        examples=["{after: auto}"],
    )

    @field_validator("topics")
    @classmethod
    def _topics_are_legal(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            _legal_topic(topic)
        if len(set(topics)) < len(topics):
            raise ValueError("names a topic twice; keep one")
        return topics

    @field_validator("entity")
    @classmethod
    def _key_stands_alone(cls, entity: tuple[str, ...]) -> tuple[str, ...]:
        for name in entity:
            if name.startswith("@") and entity != (KAFKA_KEY,):
                raise ValueError(f"{name!r} cannot be joined; write '@key' alone, or fields only")
        return entity

    @field_validator("time")
    @classmethod
    def _time_is_a_field_or_the_timestamp(cls, time: str) -> str:
        if time.startswith("@") and time != KAFKA_TIMESTAMP:
            raise ValueError(
                "is not known; write a field's name, or '@timestamp' for the time Kafka got the record"
            )
        return time

    @field_validator("time", "features_field", "values_field", "entity", "labels")
    @classmethod
    def _paths_are_whole(cls, value: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
        may_be_empty = info.field_name in ("features_field", "values_field")
        for path in (value,) if isinstance(value, str) else value:
            if not all(path.split(".")) and not (path == "" and may_be_empty):
                raise ValueError(f"{path!r} is not a field path; write it like 'host' or 'tags.host'")
        return value

    @field_validator("time")
    @classmethod
    def _time_is_not_the_entity(cls, time: str, info: ValidationInfo) -> str:
        if time in info.data.get("entity", ()):
            raise ValueError("names the entity already; write the field that holds the time, or '@timestamp'")
        return time

    @property
    def entity_paths(self) -> tuple[tuple[str, ...], ...] | Literal["@key"]:
        """Where the parts of the entity's name are, or "@key"."""
        return KAFKA_KEY if self.entity == (KAFKA_KEY,) else tuple(_path(name) for name in self.entity)

    @property
    def time_path(self) -> tuple[str, ...] | Literal["@timestamp"]:
        """Where the event time is, or "@timestamp"."""
        return KAFKA_TIMESTAMP if self.time == KAFKA_TIMESTAMP else _path(self.time)

    @property
    def label_paths(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each label as it is written, and where it is."""
        return tuple((label, _path(label)) for label in self.labels)

    @property
    def features_path(self) -> tuple[str, ...]:
        """Where the object of features is; empty when the record itself is it."""
        return _path(self.features_field)

    @property
    def values_path(self) -> tuple[str, ...] | None:
        """Where the list of values is; None when no list is read."""
        return _path(self.values_field) or None


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


class SmallestDeviationConfig(Section):
    """How far from what was expected a value must be to matter; of both, both must be reached."""

    absolute: float = Field(0.0, ge=0, description="In the units of alerts, of a counter per second.")
    relative: float = Field(0.0, ge=0, description="Part of what was expected: 0.1 is ten percent.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.absolute == 0 and self.relative == 0:
            raise ValueError("leaves every deviation large enough; write absolute or relative, above 0")
        return self


_End = Annotated[float, AllowInfNan(True)]
"""Of a range; what is no number has a message of its own."""


def _field_is_optional(schema: dict[str, Any]) -> None:
    """What reads a feature fills it in."""
    schema["required"].remove("field")


class FeatureConfig(Section):
    """One number, or one of a few texts, of every record."""

    model_config = ConfigDict(json_schema_extra=_field_is_optional)

    name: str = Field(
        min_length=1, max_length=200, description="What alerts and metrics call it.", examples=["cpu"]
    )
    field: FieldPath = Field(description="Where it is among the features; its name by default.")
    unit: str | None = Field(
        None, description="Shown in alerts; of a counter they show it per second.", examples=["1/s"]
    )
    type: FeatureType = Field(
        "gauge",
        description="'gauge': the value itself counts. 'counter': a total that only grows; its increase per "
        "second since the entity's last value counts. A lower value than the last one is a reset: the total "
        "began again at 0.",
    )
    scale: FeatureScale = Field(
        "linear",
        description="'log': ratios count, not differences, as for latencies, sizes and rates that vary by "
        "factors; 0 is allowed, negative values are highly improbable.",
    )
    kind: Kind = Field(
        "continuous",
        description="What its values are: 'continuous' numbers, a 'count' (0, 1, 2, ...), 'categorical' "
        "(text; numbers and booleans count as text), or 'binary' (0, 1, true, false).",
    )

    direction: Direction = Field(
        "both",
        description="To which side of what was expected a deviation matters: 'above' (errors, latencies), "
        "'below' (throughput), or 'both'. A record that is improbable for the other side alone is no alert.",
    )
    smallest_deviation: SmallestDeviationConfig | None = Field(
        None,
        description="A smaller deviation is no alert, however improbable: {absolute: 5, relative: 0.1}.",
        examples=["{absolute: 5, relative: 0.1}"],
    )
    valid_range: tuple[_End | None, _End | None] | None = Field(
        None,
        description="Least and largest valid value, null where there is none; one outside is an alert "
        "whatever the model says. Of a counter, of its rate.",
        examples=["[0, null]"],
    )

    stuck_after_s: Duration | None = Field(
        None,
        alias="stuck_after",
        description="A value that stays exactly the same for so long, at three records or more, is an alert "
        "whatever the model says; null: it may stay. Of a counter, its total.",
        examples=["30m"],
    )

    @field_validator("valid_range")
    @classmethod
    def _range_is_a_range(
        cls, valid_range: tuple[float | None, float | None] | None
    ) -> tuple[float | None, float | None] | None:
        if valid_range is None:
            return None
        low, high = valid_range
        if not all(math.isfinite(end) for end in valid_range if end is not None):
            raise ValueError(
                "has an end that is no number; write null where there is no limit, like [0, null]"
            )
        if low is None and high is None:
            raise ValueError("leaves every value valid; write a limit, like [0, null], or leave it out")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"from {low:g} to {high:g} holds no value; write the lower limit first")
        return valid_range

    @model_validator(mode="after")
    def _rules_fit_the_kind(self) -> Self:
        rules = {
            "direction": None if self.direction == "both" else self.direction,
            "smallest_deviation": self.smallest_deviation,
            "valid_range": self.valid_range,
            "stuck_after": self.stuck_after_s,
        }
        given = [name for name, rule in rules.items() if rule is not None]
        if self.kind in ("categorical", "binary") and given:
            raise ValueError(
                f"{given[0]} needs numbers, and this feature is {self.kind}; leave it out, or change its kind"
            )
        return self

    def rule(self) -> FeatureRule:
        """Return what matters of it, in the words of the core."""
        low, high = self.valid_range or (None, None)
        smallest = self.smallest_deviation
        return FeatureRule(
            self.direction,
            0.0 if smallest is None else smallest.absolute,
            0.0 if smallest is None else smallest.relative,
            -math.inf if low is None else low,
            math.inf if high is None else high,
            math.inf if self.stuck_after_s is None else self.stuck_after_s,
        )

    @model_validator(mode="after")
    def _only_numbers_are_transformed(self) -> Self:
        if self.kind != "continuous" and (self.type == "counter" or self.scale == "log"):
            what = "type counter" if self.type == "counter" else "scale log"
            raise ValueError(
                f"{what} makes a continuous number of it, so it cannot be {self.kind}; leave out one of both"
            )
        return self
