"""The rows a family is fitted on: checked, without gaps, split in time, each feature on a scale of one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.scaling import NEGLIGIBLE
from detector.models.sequences import starts_of

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total."""
Record = Callable[[str, str, float, float], None]
"""Called with each point of a curve: what is measured, against what, where, and the measured value."""

_VALUES_PER_PARAMETER = 5
_HELD_OUT_SHARE = 0.2
_MOST_GAIN_NATS = 10.0
_LEAST_GAIN_NATS = 0.01
_ABSURD_STD = 1e4
_RARE_SHARE = 0.1
_RARE_ROWS = 30
_BLOCK_ROWS = 200


@dataclass(frozen=True, slots=True)
class FittingRows:
    """N complete records of D features, in runs that are consecutive in time."""

    x: FloatArray
    """Shape (N, D), each feature divided by its ``scale``."""
    lengths: IntArray
    """Shape (E,), records per run, summing to N."""
    held_out: BoolArray
    """Shape (N,), the last fifth of each run as it was before rows were left out."""
    scale: FloatArray
    """Shape (D,), the standard deviation of each feature's body; 1 for a constant one."""
    kept: BoolArray
    """Which of the rows given these are; the number of True is N."""


def check_rows(x: FloatArray, lengths: IntArray) -> None:
    """Refuse rows that no family can be fitted on.

    Args:
        x: Shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,).

    Raises:
        ValueError: There is no row, a feature is missing in every row or is infinite, or the lengths
            do not sum to N.
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"rows have shape {x.shape}; give one row per record and one column per feature")
    if len(x) == 0:
        raise ValueError("there is no row to fit on; give a file or a topic range with normal traffic")
    if (lengths < 1).any() or lengths.sum() != len(x):
        raise ValueError(f"lengths sum to {lengths.sum()}, but there are {len(x)} rows; each must be >= 1")
    infinite = np.flatnonzero(np.isinf(x).any(axis=0))
    if len(infinite):
        raise ValueError(
            f"features {infinite.tolist()} (counted from 0) are infinite in some rows; remove those rows"
        )
    absent = np.flatnonzero(np.isnan(x).all(axis=0))
    if len(absent):
        raise ValueError(
            f"features {absent.tolist()} (counted from 0) are missing in every row; "
            "leave them out of the detector's features, or check the field they are read from"
        )


def complete_rows(x: FloatArray, lengths: IntArray) -> FittingRows:
    """Return rows without gaps, each feature on a scale of one.

    Rows with a missing feature are left out, and a run is cut there. When that would cost more than half
    of the rows, gaps are filled with values that the feature has in other rows, which understates its
    correlations. Rows with a value 10,000 standard deviations of its feature's body from the median are left
    out as well: such a value is an error of measurement, and one of them would be given a component of its
    own.

    Args:
        x: Shape (N, D); NaN is missing.
        lengths: Shape (E,).

    Raises:
        ValueError: As ``check_rows``.
    """
    check_rows(x, lengths)
    scale = body_std(x)
    kept: BoolArray = np.asarray(~absurd(x, scale).any(axis=1))
    complete: BoolArray = np.asarray(kept & ~np.isnan(x).any(axis=1))
    if 2 * np.count_nonzero(complete) >= len(x):
        kept = complete
    else:
        x = _with_values_of_others(x, kept)
    return FittingRows(
        x=x[kept] / scale,
        lengths=lengths_kept(lengths, kept),
        held_out=held_out_in_time(lengths)[kept],
        scale=scale,
        kept=kept,
    )


def _with_values_of_others(x: FloatArray, kept: BoolArray) -> FloatArray:
    """Return rows with each gap filled by the feature's value in one of the rows that are kept, at random."""
    rng, filled = np.random.default_rng(0), x.copy()
    for column, known in zip(filled.T, x.T, strict=True):
        gaps = np.isnan(column)
        column[gaps] = rng.choice(known[kept & ~gaps], np.count_nonzero(gaps))
    return filled


def absurd(x: FloatArray, scale: FloatArray) -> BoolArray:
    """Mark values 10,000 standard deviations of their feature's body from its median, shape (N, D).

    Where the body is narrower than a standardised feature is wide, 10,000 of the latter: what rests at one
    value, and once in a while jumps to another, measures no errors.

    Args:
        x: Standardised, shape (N, D); NaN is missing, and not absurd.
        scale: Shape (D,), from ``body_std``.
    """
    return np.asarray(np.abs(x - np.nanmedian(x, axis=0)) / np.maximum(scale, 1.0) > _ABSURD_STD)


def lengths_kept(lengths: IntArray, kept: BoolArray) -> IntArray:
    """Return the lengths of the runs that are left, each run being cut where rows are left out.

    Args:
        lengths: Records per run, shape (E,).
        kept: Shape (N,).

    Returns:
        Shape (R,), summing to the number of rows kept.
    """
    run = np.repeat(np.arange(len(lengths)), lengths) + np.cumsum(~kept)
    return np.unique(run[kept], return_counts=True)[1].astype(np.int64)


def blocks_over_time(lengths: IntArray, most: int) -> BoolArray:
    """Mark about ``most`` rows, shape (N,), in blocks of consecutive ones spread evenly over all runs."""
    n = int(lengths.sum())
    share = min(1.0, most / n)
    within = np.arange(n) - np.repeat(starts_of(lengths), lengths)
    block = np.cumsum(within % _BLOCK_ROWS == 0)
    return np.asarray(np.floor(block * share) > np.floor((block - 1) * share))


def body_std(x: FloatArray) -> FloatArray:
    """Return the standard deviation of each feature with its outermost 1 % pulled in, shape (D,).

    A covariance floor is relative to it, so a few enormous values must not widen it. A feature whose body
    is constant gets the plain standard deviation, a feature that is constant but for rounding 1.

    Args:
        x: Standardised, shape (N, D); NaN is missing, but in no feature everywhere.
    """
    with np.errstate(over="ignore"):
        body, plain = np.nanstd(within_body(x), axis=0), np.nanstd(x, axis=0)
    negligible = np.maximum(1e-9 * np.nanmax(np.abs(x), axis=0), NEGLIGIBLE)
    scale = np.where(body > negligible, body, plain)
    return np.where((scale > negligible) & np.isfinite(scale), scale, 1.0)


def within_body(x: FloatArray) -> FloatArray:
    """Return values with the outermost 1 % of each feature pulled in, shape (N, D); NaN stays."""
    return np.clip(x, *np.nanquantile(x, [0.005, 0.995], axis=0))


def held_out_in_time(lengths: IntArray) -> BoolArray:
    """Mark the last fifth of every run, shape (N,): what a choice between models is judged on."""
    marks = []
    for length in lengths:
        mark = np.zeros(length, dtype=np.bool_)
        mark[int(length) - round(int(length) * _HELD_OUT_SHARE) :] = True
        marks.append(mark)
    return np.concatenate(marks)


def gain(log_likelihood: FloatArray, reference: FloatArray) -> tuple[float, float]:
    """Return by how much records are likelier than under a reference, in the mean, and its standard error.

    A record counts for at most 10 nats, so that none decides alone.

    Args:
        log_likelihood: Of held-out records, shape (M,), nats.
        reference: Of the same records, shape (M,).
    """
    with np.errstate(invalid="ignore"):
        difference = np.nan_to_num(log_likelihood - reference, nan=0.0)
    difference = difference.clip(-_MOST_GAIN_NATS, _MOST_GAIN_NATS)
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


def is_worth_having(log_likelihood: FloatArray, reference: FloatArray) -> bool:
    """Whether a larger model gains more than 0.01 nats a record, and more than twice its standard error."""
    mean, standard_error = gain(log_likelihood, reference)
    return mean > max(_LEAST_GAIN_NATS, 2.0 * standard_error)


def is_rare(weights: FloatArray, n_rows: int) -> BoolArray:
    """Mark the components or classes of a mixture that are not taken for normal by themselves, shape (K,).

    Training records are seldom clean. A mixture that is free to gives recurring faults a component of their
    own, under which more of them would be as likely as anything else. So what fewer than a tenth of the
    records do, or fewer than 30 of them, is not taken for normal; the commonest component always is.

    Args:
        weights: Shape (K,), summing to one.
        n_rows: How many rows the mixture was fitted on.
    """
    least = max(_RARE_SHARE, _RARE_ROWS / n_rows)
    return np.asarray(weights < min(least, float(weights.max())))


def has_enough_values(x: FloatArray, n_parameters: int) -> bool:
    """Whether there are at least five values per parameter."""
    return x.size >= _VALUES_PER_PARAMETER * n_parameters


def require_enough_values(x: FloatArray, n_parameters: int, what: str) -> None:
    """Refuse a model that has too many parameters for the rows.

    Raises:
        ValueError: There are fewer than five values per parameter.
    """
    if not has_enough_values(x, n_parameters):
        rows = -(-_VALUES_PER_PARAMETER * n_parameters // x.shape[1])
        raise ValueError(
            f"{what} over {x.shape[1]} features has {n_parameters} parameters, and {len(x)} usable rows are "
            f"too few for it; give at least {rows} rows, or fewer features"
        )
