"""A member of a committee as configured: a family, what it compares records with, over how many."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from detector.config.section import Section
from detector.models.contract import Averaged

MOST_MEMBERS = 3
"""Of a committee."""

FamilyName = Literal["gmm", "hmm", "naive_bayes", "vae", "rbm", "gan"]
PredictorName = Literal[
    "auto",
    "none",
    "last",
    "ewma",
    "level",
    "level_and_range",
    "autoregressive",
    "regression",
    "seasonal",
    "cyclic",
]

OPTIONS: dict[str, tuple[str, ...]] = {
    "gmm": ("n_components", "covariance"),
    "hmm": ("n_states", "n_mixtures"),
    "naive_bayes": ("n_classes", "density", "trimmed_percent"),
    "rbm": ("n_hidden",),
    "gan": ("latent",),
    "vae": ("window", "latent"),
}
"""The settings that each family has."""

Order = Annotated[
    int | None, Field(ge=1, le=24, description="autoregressive: past records that count; 1, without.")
]


class FamilyOptions(Section):
    """Settings of families; each family has some of them."""

    n_components: int | None = Field(
        None,
        ge=1,
        le=100,
        description="gmm: components; chosen, and rare ones not taken for normal, without.",
    )
    covariance: Literal["full", "diagonal", "tied"] | None = Field(
        None, description="gmm: of the components; tied is one that all share; chosen, without."
    )
    n_states: int | None = Field(None, ge=1, le=100, description="hmm: hidden states; chosen, without.")
    n_mixtures: int | None = Field(
        None, ge=1, le=32, description="hmm: Gaussians that each state emits; chosen, without."
    )
    n_classes: int | None = Field(
        None,
        ge=1,
        le=100,
        description="naive_bayes: hidden classes; chosen, and rare ones not taken for normal, without.",
    )
    density: Literal["gaussian", "student", "histogram", "kernel"] | None = Field(
        None, description="naive_bayes: of continuous features; student has heavy tails; kernel, without."
    )
    trimmed_percent: int | None = Field(
        None,
        ge=1,
        le=50,
        description="naive_bayes: so many percent of the records to fit, the least likely, shape nothing; "
        "none, without.",
    )
    n_hidden: int | None = Field(
        None, ge=1, le=256, description="rbm: hidden units; two per feature, at most 8, without."
    )
    latent: int | None = Field(
        None,
        ge=1,
        le=64,
        description="vae, gan: latent dimensions; one per two features, at most 8, without.",
    )
    window: int | None = Field(None, ge=1, le=1000, description="vae: records seen at once; 1, without.")

    @property
    def given_options(self) -> dict[str, int | str]:
        """The settings of families that were given, by name."""
        names = dict.fromkeys(name for names in OPTIONS.values() for name in names)
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


def refuse_options_of_others(family: str, given: dict[str, int | str], where: str) -> None:
    """Refuse settings that a family does not have.

    Raises:
        ValueError: There is one.
    """
    for name in given:
        if name not in OPTIONS[family]:
            raise ValueError(
                f"{where}{name} means nothing to family {family}; it takes {', '.join(OPTIONS[family])}"
            )


class MemberConfig(FamilyOptions):
    """One member: any family with any predictor."""

    family: FamilyName = Field(description="Kind of model.")
    predictor: PredictorName = Field(
        "auto",
        description="What a record is compared with; auto takes what predicts held-out records best.",
    )
    order: Order = None
    records: int = Field(
        1, ge=1, le=10_000, description="Surprise is averaged over about so many; 1: each record by itself."
    )
    averaged: Averaged = Field(
        "surprise",
        description="What is averaged: surprise, or deviation from what was expected, with its sign, which "
        "adds up small departures to one side, or the frequency of texts, flags and counts.",
    )
    confirming_records: int | None = Field(
        None,
        ge=1,
        description="An average over so many records, fewer, has to confirm it: a slow one remembers what is "
        "over.",
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Of the false alarms that it may cause, beside members with 1: for what is seldom heard, "
        "and plain when it is.",
        examples=[0.01],
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        refuse_options_of_others(self.family, self.given_options, "")
        if self.confirming_records is not None and self.confirming_records >= self.records:
            raise ValueError(
                f"confirming_records ({self.confirming_records}) must be fewer than records "
                f"({self.records}); lower it, or leave it out"
            )
        if self.averaged != "surprise" and (self.records == 1 or self.confirming_records is not None):
            raise ValueError(
                f"averaged: {self.averaged} is over several records (records is {self.records}), and nothing "
                "confirms it; set records to 2 or more and leave confirming_records out"
            )
        if self.order is not None and self.predictor != "autoregressive":
            raise ValueError(
                f"order means nothing to predictor {self.predictor}; only autoregressive takes it"
            )
        return self
