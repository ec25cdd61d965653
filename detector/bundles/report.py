"""What a trained model is worth, measured at training: part of the manifest, so every bundle has it."""

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class CalibrationPoint(_Part):
    """One point of the calibration plot; on the diagonal the p-values mean what they say."""

    p_value: float
    observed: float = Field(description="Share of the judged rows with at most this p-value.")


class CalibrationCheck(_Part):
    """p-values of the newer half of the held-out rows, by a calibration on the older half alone."""

    rows: int = Field(description="Rows judged.")
    points: tuple[CalibrationPoint, ...]
    largest_deviation: float = Field(
        description="Kolmogorov-Smirnov distance from uniform; drift between the halves shows here as well."
    )


class Closeness(_Part):
    """How near one set of rows is to held-out rows."""

    frechet_distance: float = Field(
        description="Between Gaussians with their means and covariances; 0 is best."
    )
    precision: float = Field(description="Share of the rows that lie where held-out rows do.")
    coverage: float = Field(
        description="Share of the held-out rows with one of the rows nearby; a lost mode lowers it."
    )


class GeneratedQuality(_Part):
    """Records as ``detector generate`` writes them beside held-out ones, in standard deviations."""

    rows: int = Field(description="Of each kind.")
    generated: Closeness
    fitted: Closeness = Field(description="The same of rows that fitted the model: what is within reach.")


class FeatureRange(_Part):
    """What one feature looked like in training, in its own units."""

    name: str
    missing: float = Field(description="Share of the rows without it.")
    minimum: float
    low: float = Field(description="1st percentile.")
    median: float
    high: float = Field(description="99th percentile.")
    maximum: float


class Curve(_Part):
    """How the fit went."""

    measure: str = Field(description="What was measured.")
    against: str = Field(description="What was varied: epochs, or a number of components.")
    points: tuple[tuple[float, float], ...]


class CommitteeReport(_Part):
    """What the members are worth together: their one p-value decides."""

    calibration: CalibrationCheck | None = Field(description="None where too few rows were held out.")
    cost_us: float = Field(
        description="Microseconds for all that is done to score a record, in batches of 1,000, where it was "
        "trained."
    )


class ModelReport(_Part):
    """What a trained model is worth."""

    calibration: CalibrationCheck | None = Field(description="None where too few rows were held out.")
    generated: GeneratedQuality | None = Field(description="None where too few rows are complete.")
    training: tuple[Curve, ...] = Field(description="What the fit watched, if anything.")
    features: tuple[FeatureRange, ...]
    cost_us: float = Field(
        description="Microseconds to score a record, in batches of 1,000, where it was trained."
    )
    smallest_budget_s: float = Field(
        description="The rarest false alarm that held-out time supports: one per entity in so many seconds; "
        "0 where time does not advance."
    )
