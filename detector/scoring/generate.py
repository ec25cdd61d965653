"""Synthetic records of entities, drawn from a trained model: the way of a record, walked backwards."""

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.cyclic import CyclicPredictor
from detector.models.ewma import EwmaPredictor
from detector.models.predictors import NoPredictor
from detector.models.regression import RegressionPredictor
from detector.models.seasonal import SeasonalPredictor
from detector.scoring.density import Density
from detector.scoring.examples import Example

BURN_IN = 200
"""Records drawn before the first one kept, so that a sequence does not begin where models begin."""
FOLLOWING = ("last", "ewma", "level", "level_and_range")
"""Predictors that follow an entity wherever it goes; following themselves they would end anywhere."""

# Records that say how far values go and how often each text occurs; with fewer of an entity, all say it.
_FEWEST_OF_ENTITY = 100
# So many held-out records may be exceeded by as much as their range is wide; more of them, by less.
_ROWS_OF_A_RANGE = 100
_LARGEST = float(np.finfo(np.float64).max)


def generate(
    density: Density,
    examples: Example,
    model: IntArray,
    n: int,
    rng: np.random.Generator,
    start_s: FloatArray | float = 0.0,
    interval_s: float = 1.0,
) -> FloatArray:
    """Draw one sequence of n records for each of E entities, in the units of the data.

    The family draws residuals, a whole sequence per entity; the predictor, which starts at the training
    mean, is run forward over what has been generated; location and scale of the entity are put back. The
    first ``BURN_IN`` records are dropped. A regression stays as the entity had learnt it when training ended,
    its usual values by the hour among it. The predictors of ``FOLLOWING`` are not run: ``last`` and ``ewma``
    become the walk that is pulled back to the training mean so much that values vary as they did in training,
    and records of ``level`` and ``level_and_range`` lie around that mean. No value leaves the range of the
    held-out ones by far, nor gets below 0 where they never were. What a family without memory says of
    texts and flags is drawn as often as they occurred.

    Args:
        density: Scaling, predictor and family.
        examples: Held-out records, at least one.
        model: Each entity's model, shape (E,), an index into the stacked arrays; the last one is pooled.
        n: Records per entity.
        rng: The only source of chance.
        start_s: Event time of the first record kept, seconds since 1970 UTC, of all or shape (E,): seasons
            depend on it.
        interval_s: Between two records.

    Returns:
        Shape (E, n, D); a categorical feature as an index into its vocabulary.
    """
    location, scale = density.scaling.location[model], density.scaling.scale[model]
    z = generate_standardised(density, examples, model, n, rng, start_s, interval_s)
    with np.errstate(over="ignore"):
        values = np.clip(location[:, None] + scale[:, None] * z, -_LARGEST, _LARGEST)
    # Rounding would make a little less of it.
    return np.where(z == -(location / scale)[:, None], 0.0, values)


def generate_standardised(
    density: Density,
    examples: Example,
    model: IntArray,
    n: int,
    rng: np.random.Generator,
    start_s: FloatArray | float,
    interval_s: float,
) -> FloatArray:
    """Draw as ``generate``, but return standardised records."""
    n_entities, d = len(model), density.family.n_features
    drawn = [_residuals(density, examples, int(m), BURN_IN + n, rng) for m in model]
    residual = np.stack(drawn) if drawn else np.empty((0, BURN_IN + n, d))
    residual *= density.residual_scale[model][:, None]
    ranges = [_range(density, examples, int(m)) for m in model]
    lowest, highest = np.array(ranges).reshape(n_entities, 2, d).swapaxes(0, 1)
    if density.predictor.name in FOLLOWING:
        z = _pulled_back(density, residual, model, lowest, highest, rng)
    else:
        time = np.broadcast_to(start_s, n_entities)[:, None] + interval_s * np.arange(-BURN_IN, n)
        z = _run_forward(density, examples, residual, model, lowest, highest, time)
    return z[:, BURN_IN:]


def _residuals(
    density: Density, examples: Example, model: int, n: int, rng: np.random.Generator
) -> FloatArray:
    """Return what the family draws, shape (n, D), with the shares of texts and flags that are usual."""
    drawn = density.family_of(model).sample(n, rng)
    discrete = density.scaling.discrete
    if discrete is None or density.family.state_size > 0:
        return drawn
    real = examples.values[_those_of(examples, model)]
    for j in discrete.columns.tolist():
        if discrete.kinds[j] != "count":
            known = real[:, j]
            vocabulary = discrete.vocabularies[j]
            if vocabulary is not None:
                known = known[known < len(vocabulary)]
            drawn[:, j] = _with_shares(drawn[:, j], known[~np.isnan(known)], rng)
    return drawn


def _with_shares(drawn: FloatArray, real: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw as few values anew, shape (n,), as it takes for each to be as frequent as among the real ones."""
    if real.size == 0:
        return drawn
    values, code = np.unique(np.concatenate([drawn, real]), return_inverse=True)
    share, wanted = (np.bincount(of, minlength=values.size) / of.size for of in np.split(code, [drawn.size]))
    lacking = np.maximum(wanted - share, 0.0)
    if not lacking.any():
        return drawn
    of_drawn = code[: drawn.size]
    anew = rng.random(drawn.size) * share[of_drawn] < (share - wanted)[of_drawn]
    return np.where(anew, rng.choice(values, drawn.size, p=lacking / lacking.sum()), drawn)


def _those_of(examples: Example, model: int) -> BoolArray:
    """Return which examples are of a model, shape (R,): all of them, where these are few."""
    own = examples.model == model
    return own if np.count_nonzero(own) >= _FEWEST_OF_ENTITY else np.ones_like(own)


def _range(density: Density, examples: Example, model: int) -> tuple[FloatArray, FloatArray]:
    """Return how low and high standardised values of a model's entities go, shape (D,) each."""
    rows = _those_of(examples, model)
    values, of_row = examples.values[rows], examples.model[rows]
    lowest, highest = np.fmin.reduce(values), np.fmax.reduce(values)
    beyond = (highest - lowest) * _ROWS_OF_A_RANGE / len(values)
    above_zero = density.scaling.location / density.scaling.scale
    never_negative = np.fmin.reduce(above_zero[of_row] + values) >= 0
    zero = np.where(never_negative, -above_zero[model], -np.inf)
    lowest, highest = np.maximum(lowest - beyond, zero), highest + beyond
    unknown = np.isnan(lowest)
    if density.scaling.discrete is not None:
        unknown[density.scaling.discrete.columns] = True
    return np.where(unknown, -np.inf, lowest), np.where(unknown, np.inf, highest)


def _pulled_back(
    density: Density,
    residual: FloatArray,
    model: IntArray,
    lowest: FloatArray,
    highest: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Return residuals, shape (E, n, D), around a mean that follows them and is pulled back to 0."""
    predictor, columns = density.predictor, density.scaling.continuous
    columns = np.arange(residual.shape[2]) if columns is None else columns
    scale = density.residual_scale[model][:, columns]
    weight = np.zeros(scale.shape)
    if predictor.name == "last":
        weight[:] = 1.0
    elif isinstance(predictor, EwmaPredictor):
        weight[:] = predictor.weight[model][:, None]
    # Values vary by 1. What residuals leave of that is the mean's: kept^2 (of_mean + steps) = of_mean.
    of_residual = np.where(weight > 0, np.minimum(scale, 1.0), 1.0)
    of_mean = 1.0 - of_residual**2
    steps = (weight * of_residual) ** 2
    kept = np.sqrt(of_mean / np.where(of_mean + steps > 0, of_mean + steps, 1.0))
    z = residual.copy()
    own = residual[:, :, columns] * (of_residual / scale)[:, None]
    # Of a mean that is not 0 every step would go the same way.
    own -= own.mean(axis=1, keepdims=True)
    mean = np.sqrt(of_mean) * rng.standard_normal(of_mean.shape)
    for t in range(z.shape[1]):
        value = np.clip(mean + own[:, t], lowest[:, columns], highest[:, columns])
        z[:, t, columns] = value
        mean = kept * (mean + weight * (value - mean))
    return z


def _run_forward(
    density: Density,
    examples: Example,
    residual: FloatArray,
    model: IntArray,
    lowest: FloatArray,
    highest: FloatArray,
    time: FloatArray,
) -> FloatArray:
    """Return residuals, shape (E, n, D), around what the predictor expects after those before."""
    n_entities, n, d = residual.shape
    z = residual.copy()
    if isinstance(density.predictor, NoPredictor | SeasonalPredictor | CyclicPredictor):
        rows, lengths = density.predictor.initial_state(n_entities), np.full(n_entities, n)
        unknown = np.full((n_entities * n, d), np.nan)
        prediction = density.predict(rows, unknown, time.ravel(), lengths, model)
        if prediction.spread is not None:
            z *= prediction.spread.reshape(z.shape)
        return np.clip(z + prediction.expected.reshape(z.shape), lowest[:, None], highest[:, None])
    rows = density.predictor.initial_state(n_entities)
    learns = isinstance(density.predictor, RegressionPredictor)
    if learns:
        rows = np.vstack([_newest_state(examples, int(m)) for m in model])
    one_each, unknown = np.ones(n_entities, dtype=np.int64), np.full((n_entities, d), np.nan)
    for t in range(n):
        if learns:
            # The records of the open block: it never becomes full, so nothing is learnt from what is drawn.
            rows[:, -2] = 0.0
        # What is expected does not depend on the record itself, which is not known yet.
        z[:, t] += density.predict(rows, unknown, time[:, t], one_each, model).expected
        z[:, t] = np.clip(z[:, t], lowest, highest)
        rows = density.predict(rows, z[:, t], time[:, t], one_each, model).rows
    return z


def _newest_state(examples: Example, model: int) -> FloatArray:
    """Return what the predictor remembered before the newest record of a model, or of any entity."""
    own = np.flatnonzero(examples.model == model)
    rows = own if own.size else np.arange(len(examples.model))
    return np.asarray(examples.predictor_rows[rows[examples.time[rows].argmax()]])
