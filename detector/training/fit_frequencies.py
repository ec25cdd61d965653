"""Count how often discrete values come, over all and of every entity."""

import numpy as np
from scipy.special import gammaincinv

from detector.batch import FloatArray, IntArray
from detector.models.discrete_columns import DiscreteColumns
from detector.models.moving_mean import moving_mean
from detector.models.sequences import starts_of
from detector.scoring.frequencies import ANY_OTHER, COUNT, SET, Frequencies, independent_records
from detector.training.fitting_rows import blocks_over_time, lengths_kept

# Commoner texts of a feature have columns of their own; of many features fewer have.
_MOST_TEXTS = 20
_MOST_COLUMNS = 100
# Numbers that are held at once, of every kind.
_MOST_VALUES = 5_000_000
# An entity is taken for like the others as if so many more of its records were.
_PRIOR_RECORDS = 30.0
# Counts beyond are errors, and what surprises more is incidents.
_USUAL_COUNTS, _USUAL_NATS = 0.999, 0.99


def fit_frequencies(
    z: FloatArray,
    lengths: IntArray,
    model: IntArray,
    n_models: int,
    discrete: DiscreteColumns,
    weight: float,
) -> Frequencies:
    """Count how often the values of discrete features come, and how far averages of them go.

    Averages of values that come in bursts, or at some hours, go farther than those of independent ones: such
    a column is heard less, so the others are heard beside it. An entity that the training data does not have
    may have other frequencies, as those have that it has: so the pooled model expects them less exactly.
    Of very many rows, evenly spaced stretches are counted.

    Args:
        z: Standardised training rows in runs, shape (N, D): of texts indices; NaN is missing.
        lengths: Rows of each run, shape (R,), each >= 1.
        model: Of each run, shape (R,), in [0, n_models - 1).
        n_models: Entities plus one for the pooled model, the last one.
        discrete: Which features are so.
        weight: Of the newest record in the averages that these are for.
    """
    columns = [
        (j, category) for j in discrete.columns.tolist() for category in _categories(z[:, j], j, discrete)
    ]
    feature, category = (np.array(each, dtype=np.int64) for each in zip(*columns, strict=True))
    shape = n_models, feature.size
    kept, of_row = blocks_over_time(lengths, _MOST_VALUES // feature.size), np.repeat(model, lengths)
    z, of_row, lengths = z[kept], of_row[kept], lengths_kept(lengths, kept)
    value = Frequencies(feature, category, np.full(shape, 0.5), np.ones(shape)).values(z)
    is_count = category == COUNT
    most = np.nanquantile(value[:, is_count], _USUAL_COUNTS, axis=0)
    value[:, is_count] = np.minimum(value[:, is_count], most)
    present = ~np.isnan(value)
    value[~present] = 0.0
    n, total = np.zeros(shape), np.zeros(shape)
    np.add.at(n, of_row, present.astype(np.float64))
    np.add.at(total, of_row, value)
    n[-1], total[-1] = n.sum(axis=0), total.sum(axis=0)
    # What was never seen is not impossible.
    pooled = (total[-1] + 0.5) / (n[-1] + 1.0)
    usual = (total + _PRIOR_RECORDS * pooled) / (n + _PRIOR_RECORDS)
    usual[-1] = pooled

    averaged = independent_records(weight)
    at_first = usual[of_row[starts_of(lengths)]]
    mean, _ = moving_mean(at_first, value, np.where(present, weight, 0.0), lengths)
    nats = Frequencies(feature, category, usual, np.ones(shape)).nats(mean, of_row, weight)
    # Half a chi-square is what the surprise of one column is, of independent records.
    beyond = np.quantile(nats, _USUAL_NATS, axis=0) / gammaincinv(0.5, _USUAL_NATS)
    dispersion = np.maximum(beyond, 1.0) * (1.0 + averaged / (n + _PRIOR_RECORDS))
    if n_models > 2:
        variance = pooled * np.where(is_count, 1.0, 1.0 - pooled)
        dispersion[-1] += averaged * usual[:-1].var(axis=0) / variance
    return Frequencies(feature, category, usual, dispersion)


def _categories(column: FloatArray, j: int, discrete: DiscreteColumns) -> list[int]:
    """Return what stands for the feature's columns, as ``Frequencies.category``."""
    vocabulary = discrete.vocabularies[j]
    if vocabulary is None:
        return [SET if discrete.kinds[j] == "binary" else COUNT]
    n_texts = sum(known is not None for known in discrete.vocabularies)
    most = max(1, min(_MOST_TEXTS, _MOST_COLUMNS // n_texts))
    counts = np.bincount(column[column < len(vocabulary)].astype(np.int64), minlength=len(vocabulary))
    commonest = np.argsort(-counts, kind="stable")[:most]
    return [*np.sort(commonest).tolist(), ANY_OTHER]
