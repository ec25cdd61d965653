"""What a bundle says of itself: the manifest beside the arrays.

Fields that this program does not know are passed over: within a format, new fields only inform. Whatever
changes what the arrays or the fields mean raises ``FORMAT_VERSION``.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.bundles.choice import Choice
from detector.bundles.report import CommitteeReport, ModelReport
from detector.models.contract import Averaged
from detector.models.discrete_columns import DiscreteColumns
from detector.models.feature_transforms import FeatureScale, FeatureType
from detector.models.kinds import Kind
from detector.models.vocabulary import Vocabulary

FORMAT_VERSION = 3


class ManifestFeature(BaseModel):
    """One feature, in the order of the arrays' columns."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str | None = Field(None, description="Of a counter that of its rate.")
    type: FeatureType = Field("gauge", description="Whether the rate of a total is modelled.")
    scale: FeatureScale = Field("linear", description="Whether its logarithm is modelled.")
    kind: Kind = Field("continuous", description="What its values are, as configured.")
    vocabulary: tuple[str, ...] | None = Field(
        None, description="Of a categorical feature, most frequent first; any other text counts as unseen."
    )


class TrainingFacts(BaseModel):
    """What the bundle was learnt from."""

    model_config = ConfigDict(frozen=True)

    records: int = Field(description="Rows learnt from, the anomalous ones among them.")
    left_out_records: int = Field(0, description="Rows read besides: older than training.max_records allows.")
    fitting_records: int = Field(description="Rows that shaped the density.")
    calibration_records: int = Field(description="Rows held out in time, after them.")
    anomalous_records: int = Field(
        0, description="Rows labelled anomalous, or in maintenance: they took part in nothing."
    )
    regime_records: int = Field(0, description="Rows labelled with a regime.")
    regimes: tuple[str, ...] = Field((), description="Their names; the first classes of naive_bayes.")
    from_time_s: float = Field(description="Event time of the first row, seconds since 1970 UTC.")
    until_time_s: float = Field(description="Event time of the last row.")
    entities_at_once: float = Field(description="Mean number of them; they share a budget per fleet.")
    weekend_share: float = Field(description="Of the rows that shaped the density: Saturdays, Sundays, UTC.")
    interval_s: float = Field(description="Median time between two records of an entity.")
    data_sha256: str = Field(description="Hash of entities, times and values.")
    seed: int


class ManifestMember(BaseModel):
    """One member of the committee, in the order of the arrays."""

    model_config = ConfigDict(frozen=True)

    family: str
    predictor: str
    evidence: str
    weight: float = Field(1.0, description="Of the newest record in an average; 1: every record by itself.")
    averaged: Averaged = Field(
        "surprise",
        description="Surprise, or deviations with their sign, or how often discrete values come.",
    )
    confirming_weight: float | None = Field(
        None, description="Of the newest record in the faster average that confirms a slow one."
    )
    share: float = Field(
        1.0, gt=0, le=1, description="Of the false alarms that it may cause, beside members with 1."
    )
    modelled_as: tuple[Kind, ...] = Field(
        description="What the family takes each feature for: a family without counts scales them."
    )
    choices: dict[str, float | int | str] = Field(
        default_factory=dict, description="What the fit settled on."
    )
    held_out_mean_log_likelihood: float | None = Field(
        description="Nats per record, trimmed by 1 % on each side."
    )
    report: ModelReport = Field(description="What the member is worth.")


class Manifest(BaseModel):
    """A trained version: names, facts and the hash of every file. The arrays are in safetensors."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[3]
    written_by: str = Field(description="Version of the detector that trained it.")
    detector: str
    version: str
    created_time_s: float
    members: tuple[ManifestMember, ...] = Field(min_length=1)
    features: tuple[ManifestFeature, ...]
    entities: tuple[str, ...] = Field(
        description="With coefficients of their own; others are scored by the pooled ones."
    )
    time_zone: str = Field(
        "UTC", description="By whose clocks predictors tell the time of day; the arrays hold its offsets."
    )
    models: Literal["pooled", "per_entity"] = Field(
        "pooled", description="One family for all entities, or also families of entities' own."
    )
    entities_with_own_family: tuple[str, ...] = Field(
        (), description="All other entities, also those never seen, are scored by the pooled family."
    )
    training: TrainingFacts
    configured: dict[str, str] | None = Field(
        None, description="What the configuration said that training heeds, but for defaults; None: unknown."
    )
    choice: Choice | None = Field(None, description="Why this committee, where the configuration says auto.")
    report: CommitteeReport | None = Field(
        None, description="What the members are worth together; bundles from before it was told have none."
    )
    libraries: dict[str, str]
    files: dict[str, str] = Field(description="File name to sha256.")

    @property
    def family(self) -> str:
        """Families of the members, each once."""
        return "+".join(dict.fromkeys(member.family for member in self.members))

    @property
    def predictor(self) -> str:
        """Predictors of the members, each once."""
        return "+".join(dict.fromkeys(member.predictor for member in self.members))

    def discrete_columns(self, member: ManifestMember) -> DiscreteColumns | None:
        """Return the columns that are not continuous to a member's family, None where there are none.

        Raises:
            ValueError: Kinds and vocabularies contradict one another.
        """
        if all(kind == "continuous" for kind in member.modelled_as):
            return None
        vocabularies = [
            None if feature.vocabulary is None else Vocabulary(feature.vocabulary)
            for feature in self.features
        ]
        return DiscreteColumns(list(member.modelled_as), vocabularies)
