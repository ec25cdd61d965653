"""The configurations that the quality benchmark compares: a name, and what differs from the default."""

from benchmarks.product import Changes
from detector.models.families import FAMILIES
from detector.models.predictors import PREDICTORS

DEFAULT: dict[str, Changes] = {"default": {}}
_QUICK = {
    "family": "gmm",
    "predictor": "autoregressive",
    "records": 3,
    "n_components": 1,
    "covariance": "diagonal",
}
_SLOW = {
    "family": "naive_bayes",
    "predictor": "autoregressive",
    "records": 20,
    "n_classes": 1,
    "density": "student",
}
STREAM_COMMITTEE = [_QUICK, _SLOW | {"confirming_records": 3}]
"""What training takes by default for records of several features that follow one another."""
ABLATIONS: dict[str, Changes] = {
    "default without predictor": {"predictor": "none"},
    "default without learning": {"training": {"learn": "off"}},
    "default without choice": {"members": STREAM_COMMITTEE},
    "default without choice, confirmation": {"members": [_QUICK, _SLOW]},
    "default without choice, averages": {"members": [_QUICK | {"records": 1}, _SLOW | {"records": 1}]},
    "default without choice, heavy tails": {"members": [_QUICK]},
    "default without choice, quick average": {"members": [_SLOW | {"confirming_records": 3}]},
    "default without choice, plain density": {"members": [{"family": "gmm"}, {"family": "naive_bayes"}]},
    "default without episodes of one record": {"alerting": {"fire": {"m": 2, "of": 3}}},
}
"""What each technique is worth: the default without it."""
GRID: dict[str, Changes] = {
    f"{family}, {predictor}": {"family": family, "predictor": predictor}
    for family in FAMILIES
    for predictor in PREDICTORS
}
"""Every family behind every predictor."""
