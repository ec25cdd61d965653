"""Fit a hidden Markov model with hmmlearn; the number of states is what predicts held-out time best."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.hmm import Hmm
from detector.models.sequences import runs_of, starts_of
from detector.models.transitions import steps_of
from detector.training.fitting_rows import (
    FittingRows,
    Progress,
    Record,
    blocks_over_time,
    complete_rows,
    has_enough_values,
    is_worth_having,
    lengths_kept,
    require_enough_values,
)
from detector.training.initial_clusters import initial_clusters

Covariance = Literal["diag", "full"]

CANDIDATES = (1, 2, 4, 8)
COVARIANCE_FLOOR = 1e-3
"""Least variance, relative to the variance of the feature's body."""
MOST_WARMUP_RECORDS = 60

_RESTARTS = 2
_MAX_ITERATIONS = 60
_MAX_ROWS = 20_000
_TOLERANCE_NATS = 1e-3
_PSEUDO_TRANSITIONS = 1.0
_MOST_SILENCES = 1000
_WARMUP_RESTARTS = 500
_WARMUP_AGREEMENT = 0.01
_WARMUP_SHARE = 0.99


def fit_hmm(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    gap_s: FloatArray | None = None,
    interval_s: float | None = None,
    n_states: int | None = None,
    covariance: Covariance = "diag",
    progress: Progress | None = None,
    record: Record | None = None,
) -> Hmm:
    """Fit Gaussian emissions by expectation maximisation, several restarts, the likeliest wins.

    An entity is met in the middle of its life more often than at its birth, so the start distribution is
    the chain's stationary one, not that of the few first records in ``x``. Each state has one transition
    more than was seen, spread over all states: a transition never seen is improbable, not impossible.

    Transitions are learnt from records one step of ``interval_s`` apart: a silence of more steps ends a run.
    Of more than 1,000 silences only the longest do, and the others count as one step. The choice between
    numbers of states, and the warm-up, see every gap as scoring does.

    Incomplete rows are treated as ``complete_rows`` says. Of more than 20,000 rows, blocks spread evenly
    over time are used.

    Args:
        x: Standardised residuals, shape (N, D); NaN is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of the restarts.
        gap_s: Seconds since each entity's previous record, shape (N,); NaN for its first. None where
            records are equally spaced.
        interval_s: Seconds of one transition; None where every gap counts as one.
        n_states: K; None tries 1, 2, 4, 8 and takes the fewest that predict the last fifth of each run best.
        covariance: Of the emissions.
        progress: Called as fitting goes on.
        record: Told how well each candidate does.

    Raises:
        ValueError: The rows cannot be fitted; the message says what to do.
    """
    rows = complete_rows(x, lengths)
    what = f"a hidden Markov model of {n_states or 1} states"
    require_enough_values(rows.x, _parameters(n_states or 1, rows.x.shape[1], covariance), what)
    candidates = [n_states] if n_states else _affordable(rows, covariance)
    total = (len(candidates) if len(candidates) > 1 else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting hmm", done, total)

    report(0)
    # A variance floor for the whole fit: states would otherwise collapse onto repeated values, and
    # hmmlearn's own floor holds only at the start.
    jitter = np.random.default_rng(seed).standard_normal(rows.x.shape) * np.sqrt(COVARIANCE_FLOOR)
    noisy = rows.x + jitter
    used = blocks_over_time(rows.lengths, _MAX_ROWS)
    gaps = np.full(len(rows.x), np.nan) if gap_s is None else gap_s[rows.kept]
    unbroken = _between_silences(rows.lengths, gaps, interval_s)
    chosen = candidates[0]
    if len(candidates) > 1:
        fitted = used & ~rows.held_out
        fitted_lengths = lengths_kept(unbroken, fitted)
        best = np.full(np.count_nonzero(rows.held_out), -np.inf)
        for done, k in enumerate(candidates, start=1):
            model = _fit(noisy[fitted], fitted_lengths, k, covariance, [seed], interval_s)
            log_likelihood = _one_step_ahead(model, rows, gaps)[rows.held_out]
            if record is not None:
                median = float(np.median(log_likelihood))
                record("median log-likelihood of held-back rows, nats", "states", k, median)
            if is_worth_having(log_likelihood, best):
                chosen, best = k, log_likelihood
            report(done)
    seeds = list(range(seed, seed + (_RESTARTS if chosen > 1 else 1)))
    model = _fit(noisy[used], lengths_kept(unbroken, used), chosen, covariance, seeds, interval_s)
    warmup = count_warmup_records(model, rows.x, rows.lengths, gaps)
    report(total)
    return _in_units_of_x(model, rows.scale, warmup)


def _between_silences(lengths: IntArray, gap_s: FloatArray, interval_s: float | None) -> IntArray:
    """Return the lengths of the runs that are left when each is cut at the longest silences."""
    if interval_s is None:
        return lengths
    steps = steps_of(gap_s, interval_s)
    longest_first = np.sort(steps)[::-1]
    at_least = longest_first[_MOST_SILENCES] + 1 if len(steps) > _MOST_SILENCES else 2
    run = np.repeat(np.arange(len(lengths)), lengths) + np.cumsum(steps >= max(at_least, 2))
    return runs_of(run)


def count_warmup_records(model: Hmm, x: FloatArray, lengths: IntArray, gap_s: FloatArray) -> int:
    """Return how many records a filter needs to forget where it began.

    Filters are restarted within the runs of ``x`` and compared with the one that ran on: they agree once
    the total variation between the beliefs is below 1 % in 99 % of the restarts, and stays so.

    Args:
        model: What is filtered with.
        x: Shape (N, D).
        lengths: Records of each run, shape (E,).
        gap_s: Seconds since the record before, shape (N,).

    Returns:
        In [0, 60]; 60 as well where no run is long enough to tell.
    """
    if model.n_states == 1:
        return 0
    horizon = MOST_WARMUP_RECORDS
    within = np.arange(len(x)) - np.repeat(starts_of(lengths), lengths)
    places = np.flatnonzero((within >= horizon) & (within + horizon <= np.repeat(lengths, lengths)))
    if len(places) == 0:
        return horizon
    places = places[:: -(-len(places) // _WARMUP_RESTARTS)]
    running = model.beliefs(model.initial_state(len(lengths)), x, gap_s, lengths)
    rows = model.initial_state(len(places))
    agree = np.zeros(horizon, dtype=np.bool_)
    for t in range(horizon):
        rows, _ = model.step(rows, x[places + t], gap_s[places + t])
        belief = rows[:, : model.n_states]
        variation = 0.5 * np.abs(belief - running[places + t]).sum(axis=1)
        agree[t] = np.mean(variation < _WARMUP_AGREEMENT) >= _WARMUP_SHARE
    disagree = np.flatnonzero(~agree)
    return min(int(disagree[-1]) + 2, horizon) if len(disagree) else 1


def _fit(
    x: FloatArray,
    lengths: IntArray,
    n_states: int,
    covariance: Covariance,
    seeds: list[int],
    interval_s: float | None,
) -> Hmm:
    from hmmlearn.hmm import GaussianHMM

    best, best_value = None, -np.inf
    for seed in seeds:
        clusters = initial_clusters(x, n_states, COVARIANCE_FLOOR, seed)
        candidate = GaussianHMM(
            n_states,
            covariance_type=covariance,
            transmat_prior=1.0 + _PSEUDO_TRANSITIONS / n_states,
            n_iter=_MAX_ITERATIONS,
            tol=_TOLERANCE_NATS * len(x),
            random_state=seed,
            # Start and transitions begin even; the emissions are given below.
            init_params="st",
        )
        spread = clusters.covariances
        candidate.means_ = clusters.means
        candidate.covars_ = np.diagonal(spread, axis1=1, axis2=2) if covariance == "diag" else spread
        with _without_hmmlearn_log():
            candidate.fit(x, lengths)
        value = candidate.monitor_.history[-1]
        if np.isfinite(candidate.means_).all() and value > best_value:
            best, best_value = candidate, value
    if best is None:
        raise ValueError(
            f"no hidden Markov model of {n_states} states could be fitted to {len(x)} rows; "
            "take fewer states or more rows"
        )
    transition = best.transmat_ / best.transmat_.sum(axis=1, keepdims=True)
    if covariance == "diag":
        covariances = np.maximum(np.diagonal(best.covars_, axis1=1, axis2=2), COVARIANCE_FLOOR)
    else:
        covariances = _floor_eigenvalues(best.covars_)
    start = stationary_distribution(transition)
    return Hmm(start, transition, best.means_, covariances, interval_s=interval_s)


def stationary_distribution(transition: FloatArray) -> FloatArray:
    """Return the share of time that a chain spends in each state in the long run, shape (K,)."""
    k = len(transition)
    balance = np.vstack([transition.T - np.eye(k), np.ones(k)])
    share = np.linalg.lstsq(balance, np.append(np.zeros(k), 1.0), rcond=None)[0].clip(min=0.0)
    return np.asarray(share / share.sum())


def _floor_eigenvalues(covariances: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(0.5 * (covariances + covariances.swapaxes(1, 2)))
    floored = (vectors * np.maximum(values, COVARIANCE_FLOOR)[:, None, :]) @ vectors.swapaxes(1, 2)
    return np.asarray(0.5 * (floored + floored.swapaxes(1, 2)))


def _in_units_of_x(model: Hmm, scale: FloatArray, warmup_records: int) -> Hmm:
    arrays = model.arrays()
    squared_scale = scale**2 if arrays["covariances"].ndim == 2 else np.outer(scale, scale)
    arrays["means"] = arrays["means"] * scale
    arrays["covariances"] = arrays["covariances"] * squared_scale
    arrays["warmup_records"] = np.array([float(warmup_records)])
    return Hmm.from_arrays(arrays)


def _one_step_ahead(model: Hmm, rows: FittingRows, gap_s: FloatArray) -> FloatArray:
    return model.scan(model.initial_state(len(rows.lengths)), rows.x, gap_s, rows.lengths)[1]


def _parameters(n_states: int, n_features: int, covariance: Covariance) -> int:
    spread = n_features if covariance == "diag" else n_features * (n_features + 1) // 2
    return n_states * (n_states - 1 + n_features + spread)


def _affordable(rows: FittingRows, covariance: Covariance) -> list[int]:
    """Return the candidates that the rows can tell apart: the part not held out must suffice for each."""
    to_fit = rows.x[~rows.held_out]
    n_features = to_fit.shape[1]
    affordable = [k for k in CANDIDATES if has_enough_values(to_fit, _parameters(k, n_features, covariance))]
    return affordable if affordable and rows.held_out.any() else [1]


@contextmanager
def _without_hmmlearn_log() -> Iterator[None]:
    # It warns of every restart that is not the best, on a log that nobody configured.
    log = logging.getLogger("hmmlearn.base")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
