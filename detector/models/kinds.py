"""The kinds of feature: what its numbers are, so what may be done with them."""

from typing import Literal

Kind = Literal["continuous", "count", "categorical", "binary"]
"""``continuous``: a real number, which is scaled, and shifted by what a predictor expects. The others are
neither scaled nor shifted. ``count``: a whole number >= 0. ``binary``: 0 or 1. ``categorical``: an index
0 to V-1 into a vocabulary of V values; V stands for a value that is not in it. NaN is missing in each."""

DISCRETE_KINDS: dict[str, tuple[Kind, ...]] = {
    "naive_bayes": ("count", "categorical", "binary"),
    "rbm": ("binary",),
}
"""What families take as it is, by family. To the others a count or a binary feature is a number like any."""


def modelled_as(kind: Kind, family: str) -> Kind:
    """Return what a family takes a feature for.

    Raises:
        ValueError: It is categorical, and the family has no use for texts.
    """
    if kind in DISCRETE_KINDS.get(family, ()):
        return kind
    if kind == "categorical":
        able = " or ".join(name for name, kinds in DISCRETE_KINDS.items() if kind in kinds)
        raise ValueError(
            f"is categorical, which family {family} cannot model; take family {able}, or leave it out"
        )
    return "continuous"
