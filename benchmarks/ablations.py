"""The configurations that the quality benchmark compares: a name, and what differs from the default."""

from benchmarks.product import Changes
from detector.models.families import FAMILIES
from detector.models.predictors import PREDICTORS

DEFAULT: dict[str, Changes] = {"default": {}}
ABLATIONS: dict[str, Changes] = {
    "default without predictor": {"predictor": "none"},
    "default without m of n": {"alerting": {"fire": {"m": 1, "of": 1}}},
}
"""What each technique is worth: the default without it."""
GRID: dict[str, Changes] = {
    f"{family}, {predictor}": {"family": family, "predictor": predictor}
    for family in FAMILIES
    for predictor in PREDICTORS
}
"""Every family behind every predictor."""
