"""Why a committee was chosen: what was tried, and what came of it. Part of the manifest."""

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class PredictorTried(_Part):
    """What a predictor is worth on the newer records of those that are fitted."""

    name: str
    nats: float | None = Field(
        description="Mean log-likelihood per record in the units of the data, trimmed by 1 % on each side; "
        "None where the predictor could not be tried."
    )
    note: str = Field("", description="Why it could not.")


class CommitteeTried(_Part):
    """What a committee found of the anomalies that were made for it."""

    members: tuple[str, ...]
    recall: float = Field(description="Share of the made anomalies that it found.")
    older_alarms: float = Field(description="Share of older normal stretches that are as loud.")
    newer_alarms: float = Field(description="The same of newer ones.")
    note: str = Field("", description="Why it was not taken.")


class LabelledTried(_Part):
    """How a committee ranked records that people labelled."""

    members: tuple[str, ...]
    average_precision: float = Field(description="Of labelled anomalies among newer records.")


class Choice(_Part):
    """What was chosen where the configuration says auto."""

    predictors: tuple[PredictorTried, ...] = Field(description="As tried.")
    committees: tuple[CommitteeTried, ...] = Field((), description="The one taken is the first.")
    labelled: tuple[LabelledTried, ...] = Field(
        (), description="Where enough newer records are labelled; the committee that they chose is the first."
    )
    canaries: int = Field(0, description="Anomalies made for the committees to find.")
    reasons: tuple[str, ...] = Field(description="In words: what was taken, and why.")
