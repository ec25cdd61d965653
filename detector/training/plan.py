"""What a training job is to learn, as configuration and command line say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from detector.config.detectors import DetectorConfig
from detector.models.feature_transforms import FeatureScale, FeatureType
from detector.models.kinds import Kind
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.scoring.typicality import Choice

AUTO = "auto"
"""A family or predictor that is to be chosen by what the training records show."""
CANDIDATES = ("naive_bayes", "hmm", "gmm")
"""Families that are tried as a further member, unless the configuration says which."""


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """A member of a committee."""

    family: str
    predictor: str
    order: int = 1
    options: Mapping[str, int | str] = field(default_factory=dict)
    time_scale: TimeScale = BY_ITSELF
    share: float = 1.0
    """Of the false alarms that it may cause, beside members with 1."""

    @property
    def name(self) -> str:
        """What people call it: ``gmm on autoregressive, over 3 records``."""
        said = [f"without {v} %" if k == "trimmed_percent" else str(v) for k, v in self.options.items()]
        settings = f" ({', '.join(said)})" if said else ""
        return f"{self.family}{settings} on {self.predictor}{self.time_scale.text}"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What to learn."""

    detector: str
    family: str
    """Of the first member, or ``auto`` for a committee chosen by what the records show."""
    predictor: str = "autoregressive"
    """Of the first member, or ``auto`` for the one that predicts held-out records best."""
    order: int = 1
    """Past records that the predictor ``autoregressive`` leans on."""
    time_zone: str = "UTC"
    """By whose clocks the predictors ``seasonal`` and ``regression`` tell the time of day and week."""
    seed: int = 0
    min_features_share: float = 0.5
    """A record with a smaller share of its features is not scored."""
    typicality: Choice = "auto"
    """Whether rows that are too likely get small p-values as well; ``auto``: unless the density is exact."""
    units: Mapping[str, str | None] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """What the values of features are, by name; continuous, where nothing is said."""
    types: Mapping[str, FeatureType] = field(default_factory=dict)
    """By name; gauges, where nothing is said."""
    scales: Mapping[str, FeatureScale] = field(default_factory=dict)
    """By name; linear, where nothing is said."""
    options: Mapping[str, int | str] = field(default_factory=dict)
    """Settings of the family: ``n_components`` and ``covariance`` (gmm), ``n_states`` and ``n_mixtures``
    (hmm), ``n_classes``, ``density`` and ``trimmed_percent`` (naive_bayes), ``n_hidden`` (rbm), ``window``
    and ``latent`` (vae), ``latent`` (gan)."""
    candidates: tuple[str, ...] = CANDIDATES
    """Families that are tried as a further member where the family is ``auto``."""
    learn: Literal["auto", "off"] = "auto"
    """Whether averages of surprise are calibrated on while they are scored, where few rows are held out."""
    models: Literal["pooled", "per_entity"] = "pooled"
    """One family for all entities, or also one for each that it predicts better."""
    jobs: int = 1
    """Processes that fit the families of entities."""
    others: tuple[MemberPlan, ...] = ()
    """Further members of the committee, after the one of the family above."""
    time_scale: TimeScale = BY_ITSELF
    """Over how many records surprise is averaged."""
    share: float = 1.0
    """Of the first member, as in ``MemberPlan``."""

    @property
    def members(self) -> tuple[MemberPlan, ...]:
        """The members of the committee."""
        first = MemberPlan(self.family, self.predictor, self.order, self.options, self.time_scale, self.share)
        return (first, *self.others)

    def with_members(self, members: Sequence[MemberPlan]) -> "TrainingPlan":
        """Return the plan for another committee, of at least one member."""
        first = members[0]
        return replace(
            self,
            family=first.family,
            predictor=first.predictor,
            order=first.order,
            options=first.options,
            time_scale=first.time_scale,
            share=first.share,
            others=tuple(members[1:]),
        )

    def of_members(self) -> tuple["TrainingPlan", ...]:
        """Return the plan of every member, as if it were alone."""
        return tuple(self.with_members([member]) for member in self.members)


def plan_of(detector: DetectorConfig) -> TrainingPlan:
    """Return the plan that a detector's configuration asks for."""
    training = detector.training
    members = [
        MemberPlan(
            member.family,
            member.predictor,
            member.order or 1,
            member.given_options,
            TimeScale(
                1.0 / member.records,
                None if member.confirming_records is None else 1.0 / member.confirming_records,
                member.averaged,
            ),
            member.share,
        )
        for member in detector.members
    ] or [MemberPlan(detector.family, detector.predictor, training.order or 1, training.given_options)]
    return TrainingPlan(
        detector=detector.name,
        family=members[0].family,
        time_zone=detector.time_zone,
        seed=training.seed,
        min_features_share=detector.min_features,
        typicality=training.typicality,
        candidates=CANDIDATES if training.candidates is None else training.candidates,
        learn=training.learn,
        units={feature.name: feature.unit for feature in detector.features},
        kinds=detector.kinds,
        types=detector.types,
        scales=detector.scales,
        models=training.models,
        jobs=training.jobs,
    ).with_members(members)
