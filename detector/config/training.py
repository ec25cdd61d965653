"""The ``training`` part of a detector: which rows it learns from, and how."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from detector.config.section import Names, Section
from detector.scoring.typicality import Choice


def _unquoted(value: Any) -> Any:
    """Return on and off as text: YAML takes them, without quotes, for true and false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


class TrainingConfig(Section):
    """What ``detector train`` reads when the command line does not say."""

    files: Annotated[Names, Field(description="CSV or Parquet files.")] = ()
    from_time: datetime | None = Field(
        None, alias="from", description="Start of the range of the input's topics."
    )
    until_time: datetime | None = Field(None, alias="until", description="End of the range; now, without.")
    anomaly_field: str | None = Field(
        None,
        description="Column or field that says which records were anomalous; they are left out. Blank, 0 and "
        "false mean normal, anything else does not.",
        examples=["incident"],
    )
    regime_field: str | None = Field(
        None,
        description="Column or field that names the normal regime of a record, where it is known; for "
        "naive_bayes.",
        examples=["shift"],
    )
    n_components: int | None = Field(None, ge=1, le=100, description="gmm: components; chosen, without.")
    covariance: Literal["full", "diagonal", "tied"] | None = Field(
        None, description="gmm: of the components; tied is one that all share; chosen, without."
    )
    n_states: int | None = Field(None, ge=1, le=100, description="hmm: hidden states; chosen, without.")
    n_mixtures: int | None = Field(
        None, ge=1, le=32, description="hmm: Gaussians that each state emits; chosen, without."
    )
    n_classes: int | None = Field(
        None, ge=1, le=100, description="naive_bayes: hidden classes; chosen, without."
    )
    density: Literal["gaussian", "student", "histogram", "kernel"] | None = Field(
        None, description="naive_bayes: of continuous features; student has heavy tails; chosen, without."
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
    order: int | None = Field(
        None, ge=1, le=5, description="autoregressive: past records that count; 1, without."
    )
    typicality: Annotated[Choice, BeforeValidator(_unquoted)] = Field(
        "auto",
        description="Whether records that are more likely than normal traffic ever is are anomalous too; "
        "auto: for vae, rbm and gan.",
    )
    seed: int = Field(0, ge=0, description="Of everything random in the job.")
    models: Literal["pooled", "per_entity"] = Field(
        "pooled",
        description="One model for all entities; or also one for each that it predicts better.",
    )
    jobs: int = Field(1, ge=1, le=1024, description="per_entity: processes that fit at the same time.")

    @field_validator("anomaly_field", "regime_field")
    @classmethod
    def _path_is_whole(cls, field: str | None) -> str | None:
        if field is not None and not all(field.split(".")):
            raise ValueError("is not a field path; write it like 'incident' or 'tags.incident'")
        return field

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.files and (self.from_time or self.until_time):
            raise ValueError("names files and a time range; keep one of them")
        if self.from_time and self.until_time and self.from_time >= self.until_time:
            raise ValueError(f"from ({self.from_time}) is not before until ({self.until_time}); swap them")
        return self

    def paths(self) -> tuple[Path, ...]:
        """Return the files as paths."""
        return tuple(Path(file) for file in self.files)
