"""The kinds of feature: what its numbers are, so what may be done with them."""

from typing import Literal

Kind = Literal["continuous", "count", "categorical", "binary"]
"""``continuous``: a real number, which is scaled, and shifted by what a predictor expects. The others are
neither scaled nor shifted. ``count``: a whole number >= 0. ``binary``: 0 or 1. ``categorical``: an index
0 to V-1 into a vocabulary of V values; V stands for a value that is not in it. NaN is missing in each."""
