"""What one run of a quality benchmark found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A family behind a predictor, or a peer, which has none."""

    name: str
    predictor: str

    @property
    def title(self) -> str:
        return f"{self.name}, {self.predictor}" if self.predictor else self.name


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one series with one seed; 0 throughout where it failed."""

    data_set: str
    entity: str
    model: Model
    seed: int
    auc_pr: float = 0.0
    """NaN, as is ``roc_auc``, where the test rows are all of one kind, so that nothing can be told apart."""
    roc_auc: float = 0.0
    prevalence: float = 0.0
    """Share of test rows that are anomalous: the AUC-PR of a random ranking."""
    fit_s: float = 0.0
    """CPU time, as is ``score_s``."""
    score_s: float = 0.0
    records: int = 0
    """That were scored."""
    failure: str = ""
