"""Synthetic records of entities, drawn from a trained model: the way of a record, walked backwards."""

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.scoring.density import Density

BURN_IN = 200
"""Records drawn before the first one kept, so that a sequence does not begin where models begin."""

# Standardised values are clipped here when they are scored; farther out a sequence has left the model.
_FARTHEST = 1e8


def generate(
    density: Density,
    model: IntArray,
    n: int,
    rng: np.random.Generator,
    start_s: float = 0.0,
    interval_s: float = 1.0,
) -> FloatArray:
    """Draw one sequence of n records for each of E entities, in the units of the data.

    The family draws residuals, a whole sequence per entity; the predictor, which starts at the training
    mean, is run forward over what has been generated; location and scale of the entity are put back. The
    first ``BURN_IN`` records are dropped. With the predictor ``last`` a sequence is a random walk, whose
    variance grows with every record: there only the family has a burn-in, and the walk starts at the mean.

    Args:
        density: Scaling, predictor and family.
        model: Each entity's model, shape (E,), an index into the stacked arrays; the last one is pooled.
        n: Records per entity.
        rng: The only source of chance.
        start_s: Event time of the first record kept, seconds since 1970 UTC: seasons depend on it.
        interval_s: Between two records.

    Returns:
        Shape (E, n, D); a categorical feature as an index into its vocabulary.

    Raises:
        ValueError: The predictor amplifies its own output until it leaves the range of the model.
    """
    n_entities, d = len(model), density.family.n_features
    drawn = [density.family_of(int(m)).sample(BURN_IN + n, rng) for m in model]
    residual = np.stack(drawn) if drawn else np.empty((0, BURN_IN + n, d))
    if density.predictor.name == "last":
        residual = residual[:, BURN_IN:]
    z = residual * density.residual_scale[model][:, None]
    one_each = np.ones(n_entities, dtype=np.int64)
    rows, unknown = density.predictor.initial_state(n_entities), np.full((n_entities, d), np.nan)
    columns = slice(None) if density.scaling.continuous is None else density.scaling.continuous
    first_s = start_s - (z.shape[1] - n) * interval_s
    for t in range(z.shape[1]):
        time = np.full(n_entities, first_s + t * interval_s)
        # What is expected does not depend on the record itself, which is not known yet.
        prediction = density.predict(rows, unknown, time, one_each, model)
        if prediction.spread is not None:
            z[:, t] *= prediction.spread
        z[:, t] += prediction.expected
        rows = density.predict(rows, z[:, t], time, one_each, model).rows
        if not (np.abs(z[:, t, columns]) <= _FARTHEST).all():
            raise ValueError(
                f"after {t} records the predictor {density.predictor.name!r} has amplified a sequence beyond "
                f"{_FARTHEST:g} standard deviations; train with predictor 'none' to generate records"
            )
    z = z[:, z.shape[1] - n :]
    return density.scaling.location[model][:, None] + density.scaling.scale[model][:, None] * z
