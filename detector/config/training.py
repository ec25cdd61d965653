"""The ``training`` part of a detector: which rows it learns from, and how."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from detector.config.files import FileName
from detector.config.members import FamilyName, FamilyOptions, Order
from detector.config.section import one_or_several
from detector.models.contract import TypicalityChoice


def _unquoted(value: Any) -> Any:
    """Return on and off as text: YAML takes them, without quotes, for true and false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _in_a_zone(time: datetime) -> datetime:
    """Return a time; without a zone it is UTC, as in records."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class TrainingConfig(FamilyOptions):
    """What ``detector train`` reads when the command line does not say."""

    files: Annotated[
        tuple[FileName, ...],
        BeforeValidator(one_or_several, json_schema_input_type=str | tuple[str, ...]),
        Field(description="CSV or Parquet files.", examples=["[normal.csv]"]),
    ] = ()
    from_time: datetime | None = Field(
        None,
        alias="from",
        description="Start of the range of the input's records, by their times; UTC without a zone.",
    )
    until_time: datetime | None = Field(None, alias="until", description="End of the range; all, without.")
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
    order: Order = None
    typicality: Annotated[
        TypicalityChoice, BeforeValidator(_unquoted, json_schema_input_type=TypicalityChoice | bool)
    ] = Field(
        "auto",
        description="Whether records that are more likely than normal traffic ever is are anomalous too; "
        "auto: for vae, rbm and gan.",
    )
    candidates: tuple[FamilyName, ...] | None = Field(
        None,
        description="Families that auto tries as a further member, and takes if they find clearly more of "
        "what is made for them to find: naive_bayes, hmm and gmm, without; vae, rbm and gan take longer.",
        examples=["[gmm, hmm]"],
    )
    learn: Annotated[
        Literal["auto", "off"],
        BeforeValidator(_unquoted, json_schema_input_type=Literal["auto", "off", False]),
    ] = Field(
        "auto",
        description="Whether averages of surprise are calibrated on while they are scored; auto: where fewer "
        "than 1,000 records are held out, 2,000 of a single feature, or 300 of an entity.",
    )
    max_records: int = Field(
        1_000_000,
        ge=1000,
        description="At most so many are learnt from: the newest, of each entity that has more equally many.",
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
        begins, ends = self.from_time, self.until_time
        if begins and ends and _in_a_zone(begins) >= _in_a_zone(ends):
            raise ValueError(f"from ({self.from_time}) is not before until ({self.until_time}); swap them")
        return self

    def paths(self) -> tuple[Path, ...]:
        """Return the files as paths."""
        return tuple(Path(file) for file in self.files)
