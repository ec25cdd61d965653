"""The ``detectors`` section: what is watched, with which model, and when that is an alert."""

import math
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from detector.alerting.entity_rules import Override
from detector.alerting.rules import AlertRules, Budget, IncidentRules
from detector.config.bootstrap import BootstrapConfig
from detector.config.budget import BudgetConfig
from detector.config.files import PathAsWritten
from detector.config.fire import FireConfig
from detector.config.inputs import FeatureConfig, Name
from detector.config.members import (
    MOST_MEMBERS,
    OPTIONS,
    FamilyName,
    MemberConfig,
    PredictorName,
    refuse_options_of_others,
)
from detector.config.overrides import OverrideConfig, Severity
from detector.config.section import Duration, Section
from detector.config.time_zone import TimeZone
from detector.config.training import TrainingConfig
from detector.models.feature_transforms import FeatureScale, FeatureType
from detector.models.kinds import Kind, modelled_as


class ResolveConfig(Section):
    """Hysteresis: an alert ends later than it would start."""

    below: float = Field(
        0.7, gt=0, le=1, description="Anomaly score to stay below (1.0 is the threshold) ...", examples=[0.7]
    )
    records: int = Field(5, ge=1, description="... for so many records in a row.", examples=[5])


class CriticalConfig(Section):
    """When an alert becomes a critical one."""

    score: float = Field(
        2.0, ge=1, description="Anomaly score to reach (1.0 is the threshold) ...", examples=[2.0]
    )
    for_s: Duration = Field(
        300.0, alias="for", description="... at every record for so long.", examples=["5m"]
    )


class IncidentConfig(Section):
    """Many entities that alarm together are one incident, and receivers are told of that alone."""

    entities: int = Field(
        5,
        ge=2,
        description="So many entities at least, more where false alarms of so many would coincide by chance "
        "once a year, begin to alarm ...",
        examples=[5],
    )
    within_s: Duration = Field(
        300.0,
        alias="within",
        description="... in this time; at least twice the usual time between an entity's records.",
        examples=["5m"],
    )

    def rules(self) -> IncidentRules:
        """Return the same in the words of the core."""
        return IncidentRules(self.entities, self.within_s)


class AlertingConfig(Section):
    """From p-values to alerts. Times are those of records."""

    budget: BudgetConfig = Field(
        default_factory=BudgetConfig,
        description="False alarms that are bearable.",
        examples=["{false_alarms: 1, per: entity, every: 7d}"],
    )
    fire: FireConfig = Field(
        default_factory=FireConfig, description="When an alert starts.", examples=["{m: 2, of: 3}"]
    )
    resolve: ResolveConfig = Field(
        default_factory=ResolveConfig, description="When it ends.", examples=["{below: 0.7, records: 5}"]
    )
    cooldown_s: Duration | None = Field(
        1800.0,
        alias="cooldown",
        description="What fires again so soon after it resolved is the same alert, and goes on until nothing "
        "has come back for as long; null: always another one.",
    )
    release_after_s: Duration | None = Field(
        21_600.0,
        alias="release_after",
        description="An alert that lasts longer ends as the new normal: what stands out of that level fires, "
        "the level itself does not, until the old one returns; null: never.",
    )
    severity: Severity = Field("warning", description="Label of its alerts, at first.")
    critical: CriticalConfig | None = Field(
        default_factory=CriticalConfig,
        description="When a warning becomes critical, which info never does; null: never.",
        examples=["{score: 2, for: 5m}"],
    )
    keep_alive_s: Duration = Field(
        300.0,
        alias="keep_alive",
        description="What fires is told of again this often, and expires three times as long after the last "
        "time: then nothing scores it any more.",
    )
    overrides: tuple[OverrideConfig, ...] = Field(
        (),
        description="What is different for some entities, by patterns of their names; the first that matches "
        "holds.",
        examples=['[{entities: "db-*", severity: critical}]'],
    )

    def entity_overrides(self) -> list[Override]:
        """Return the overrides in the words of the core."""
        return [override.override() for override in self.overrides]

    incident: IncidentConfig | None = Field(
        default_factory=IncidentConfig,
        description="When alerts of many entities are one; null never groups.",
        examples=["{entities: 5, within: 5m}"],
    )

    def rules(self) -> AlertRules:
        """Return the same in the words of the core."""
        critical = self.critical
        return AlertRules(
            budget=Budget(self.budget.false_alarms, self.budget.per, self.budget.every_s),
            fire_m=self.fire.m,
            fire_of=self.fire.of,
            fire_for_s=self.fire.for_s or 0.0,
            resolve_below=self.resolve.below,
            resolve_records=self.resolve.records,
            cooldown_s=self.cooldown_s or 0.0,
            release_after_s=math.inf if self.release_after_s is None else self.release_after_s,
            severity=self.severity,
            critical_score=math.inf if critical is None else critical.score,
            critical_for_s=0.0 if critical is None else critical.for_s,
            keep_alive_s=self.keep_alive_s,
            incident=None if self.incident is None else self.incident.rules(),
        )


def _feature_from_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value, "field": value}
    if isinstance(value, dict) and "field" not in value and isinstance(value.get("name"), str):
        return value | {"field": value["name"]}
    return value


_Feature = Annotated[
    FeatureConfig, BeforeValidator(_feature_from_name, json_schema_input_type=str | FeatureConfig)
]


class DetectorConfig(Section):
    """One watch over an input."""

    name: Name = Field(description="In alerts, metrics and the bundle store.", examples=["hosts"])
    input: str = Field(description="Name of one of the inputs.")
    features: tuple[_Feature, ...] = Field(
        min_length=1,
        description="Names, or {name, field, unit, type, scale, kind}.",
        examples=["[cpu, memory]"],
    )
    family: Literal["auto", FamilyName] = Field(
        "auto", description="Kind of model; auto chooses a committee by what the training records show."
    )
    predictor: PredictorName = Field(
        "auto",
        description="What a record is compared with: the entity's past, its usual day, or nothing; auto "
        "takes what predicts held-out records best.",
    )
    time_zone: TimeZone = Field(
        "UTC",
        description="By whose clocks seasonal and regression tell the time of day and week, daylight saving "
        "heeded.",
        examples=["Europe/Berlin"],
    )
    members: tuple[MemberConfig, ...] = Field(
        (),
        description=f"A committee of one's own, at most {MOST_MEMBERS}, instead of family and predictor.",
        examples=["[{family: gmm, predictor: autoregressive}]"],
    )
    store: PathAsWritten = Field(Path("/var/lib/detector/bundles"), description="Folder of trained versions.")
    min_features: float = Field(
        0.5, gt=0, le=1, description="Share of the features that a record must have to be scored."
    )
    alerting: AlertingConfig = Field(
        default_factory=AlertingConfig,
        description="When it is an alert.",
        examples=["{budget: {false_alarms: 1, per: entity, every: 7d}}"],
    )
    training: TrainingConfig = Field(
        default_factory=TrainingConfig,
        description="What the model learns from.",
        examples=["{files: [normal.csv]}"],
    )
    bootstrap: BootstrapConfig | None = Field(
        None,
        description="Lets the daemon begin without a trained version, and train one as soon as it may; "
        "without, training is up to you.",
        examples=["{records: 500}"],
    )

    @field_validator("features")
    @classmethod
    def _features_differ(cls, features: tuple[FeatureConfig, ...]) -> tuple[FeatureConfig, ...]:
        for what in ("name", "field"):
            seen: set[Any] = set()
            for feature in features:
                value = getattr(feature, what)
                if value in seen:
                    shown = value if isinstance(value, str) else ".".join(value)
                    raise ValueError(f"two features have the {what} {shown!r}; keep one, or rename it")
                seen.add(value)
        return features

    @model_validator(mode="after")
    def _members_are_the_only_choice(self) -> Self:
        if not self.members:
            return self
        if len(self.members) > MOST_MEMBERS:
            raise ValueError(
                f"{len(self.members)} members are more than {MOST_MEMBERS}, the most that a committee takes; "
                "leave some out"
            )
        both = [name for name in ("family", "predictor") if name in self.model_fields_set]
        if both:
            raise ValueError(f"members already say {' and '.join(both)}; keep the one or the others")
        given = [*self.training.given_options, *(["order"] if self.training.order is not None else [])]
        if given:
            raise ValueError(f"training.{given[0]} belongs to a member here; move it into members")
        return self

    @model_validator(mode="after")
    def _options_fit_the_family(self) -> Self:
        given = self.training.given_options
        if self.family != "auto":
            refuse_options_of_others(self.family, given, "training.")
        elif given:
            option = next(iter(given))
            able = " or ".join(name for name, options in OPTIONS.items() if option in options)
            raise ValueError(
                f"training.{option} means nothing to family auto, which chooses; take family {able}"
            )
        return self

    @model_validator(mode="after")
    def _labels_are_no_features(self) -> Self:
        taken = {name for f in self.features for name in (f.name, ".".join(f.field))}
        for key in ("anomaly_field", "regime_field"):
            label = getattr(self.training, key)
            if label in taken:
                raise ValueError(
                    f"training.{key} {label!r} is a feature; a label is never one, so name another field"
                )
        return self

    @model_validator(mode="after")
    def _candidates_are_for_auto(self) -> Self:
        if self.training.candidates is not None and (self.members or self.family != "auto"):
            raise ValueError(
                "training.candidates means nothing where the members are configured; take family auto"
            )
        if self.training.candidates is not None and self.predictor != "auto":
            raise ValueError(
                f"training.candidates means nothing beside predictor {self.predictor}, which alone decides "
                "on the members; take predictor auto"
            )
        return self

    @model_validator(mode="after")
    def _bootstrap_learns_from_topics(self) -> Self:
        given = {"files": self.training.files, "until": self.training.until_time}
        for key, value in given.items():
            if self.bootstrap is not None and value:
                raise ValueError(
                    f"bootstrap trains on what the input's topics hold by then, so training.{key} means "
                    "nothing; leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _order_fits_the_predictor(self) -> Self:
        if self.training.order is not None and self.predictor != "autoregressive":
            raise ValueError(
                f"training.order means nothing to predictor {self.predictor}; only autoregressive takes it"
            )
        return self

    @model_validator(mode="after")
    def _families_take_the_kinds(self) -> Self:
        families: list[str] = [member.family for member in self.members] or [self.family]
        for family, feature in product(families, self.features):
            try:
                # There always is a family for auto to take: naive Bayes knows every kind.
                modelled_as(feature.kind, "naive_bayes" if family == "auto" else family)
            except ValueError as error:
                raise ValueError(f"feature {feature.name!r} {error}") from error
        for member in self.members:
            taken_for = {modelled_as(feature.kind, member.family) for feature in self.features}
            if member.averaged == "frequency" and taken_for <= {"continuous"}:
                raise ValueError(
                    f"averaged: frequency is of texts, flags and counts, and family {member.family} takes no "
                    "feature for one; take naive_bayes and give a feature its kind, or average surprise"
                )
        return self

    @property
    def kinds(self) -> dict[str, Kind]:
        """What each feature's values are, by name."""
        return {feature.name: feature.kind for feature in self.features}

    @property
    def types(self) -> dict[str, FeatureType]:
        """Whether each feature is a gauge or a counter, by name."""
        return {feature.name: feature.type for feature in self.features}

    @property
    def scales(self) -> dict[str, FeatureScale]:
        """Whether each feature is on a linear or a logarithmic scale, by name."""
        return {feature.name: feature.scale for feature in self.features}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in the order of the model's columns."""
        return tuple(feature.name for feature in self.features)
