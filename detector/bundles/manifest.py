"""What a bundle says of itself: the manifest beside the arrays."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.bundles.report import ModelReport
from detector.models.discrete_columns import DiscreteColumns
from detector.models.kinds import Kind
from detector.models.vocabulary import Vocabulary

FORMAT_VERSION = 1


class ManifestFeature(BaseModel):
    """One feature, in the order of the arrays' columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str | None = None
    kind: Kind = Field("continuous", description="What its values are, as configured.")
    modelled_as: Kind = Field(
        "continuous", description="What the family takes them for: a family without counts scales them."
    )
    vocabulary: tuple[str, ...] | None = Field(
        None, description="Of a categorical feature, most frequent first; any other text counts as unseen."
    )


class TrainingFacts(BaseModel):
    """What the bundle was learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    records: int = Field(description="Rows read.")
    fitting_records: int = Field(description="Rows that shaped the density.")
    calibration_records: int = Field(description="Rows held out in time, after them.")
    anomalous_records: int = Field(0, description="Rows labelled anomalous: they took part in nothing.")
    regime_records: int = Field(0, description="Rows labelled with a regime.")
    regimes: tuple[str, ...] = Field((), description="Their names; the first classes of naive_bayes.")
    from_time_s: float = Field(description="Event time of the first row, seconds since 1970 UTC.")
    until_time_s: float = Field(description="Event time of the last row.")
    interval_s: float = Field(description="Median time between two records of an entity.")
    data_sha256: str = Field(description="Hash of entities, times and values.")
    seed: int
    choices: dict[str, float | int | str] = Field(
        default_factory=dict, description="What the fit settled on."
    )


class Manifest(BaseModel):
    """A trained version: names, facts and the hash of every file. The arrays are in safetensors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1]
    detector: str
    version: str
    created_time_s: float
    family: str
    predictor: str
    evidence: str
    features: tuple[ManifestFeature, ...]
    entities: tuple[str, ...] = Field(
        description="With coefficients of their own; others are scored by the pooled ones."
    )
    models: Literal["pooled", "per_entity"] = Field(
        "pooled", description="One family for all entities, or also families of entities' own."
    )
    entities_with_own_family: tuple[str, ...] = Field(
        (), description="All other entities, also those never seen, are scored by the pooled family."
    )
    training: TrainingFacts
    held_out_mean_log_likelihood: float | None = Field(
        description="Nats per record, trimmed by 1 % on each side."
    )
    report: ModelReport | None = Field(
        None, description="What the model is worth; None from before there were reports."
    )
    libraries: dict[str, str]
    files: dict[str, str] = Field(description="File name to sha256.")

    def discrete_columns(self) -> DiscreteColumns | None:
        """Return the columns that are not continuous to the family, None where there are none.

        Raises:
            ValueError: Kinds and vocabularies contradict one another.
        """
        if all(feature.modelled_as == "continuous" for feature in self.features):
            return None
        vocabularies = [
            None if feature.vocabulary is None else Vocabulary(feature.vocabulary)
            for feature in self.features
        ]
        return DiscreteColumns([feature.modelled_as for feature in self.features], vocabularies)
