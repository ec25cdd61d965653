"""Fit a hidden Markov model with hmmlearn; held-out time says how many states, and Gaussians in each."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.emissions import Emissions
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
MIXTURE_CANDIDATES = (2, 4)
MOST_GAUSSIANS = 8
"""Of all states together, unless more are asked for: what it costs to score a record grows with them."""
COVARIANCE_FLOOR = 1e-3
"""Added to every variance, relative to the variance of the feature's body."""
MOST_WARMUP_RECORDS = 60

_RESTARTS = 2
_MAX_ITERATIONS = 60
_MAX_ROWS = 20_000
_TOLERANCE_NATS = 1e-3
_PSEUDO_TRANSITIONS = 1.0
_WIDTHS = (0.4, 4.0)
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
    n_mixtures: int | None = None,
    covariance: Covariance = "diag",
    progress: Progress | None = None,
    record: Record | None = None,
) -> Hmm:
    """Fit by expectation maximisation, several restarts, the likeliest wins.

    States emit Gaussians. Mixtures of Gaussians are grown from those, once from the clusters of each state's
    rows and once from a narrow and a wide Gaussian around its mean, and the likelier one counts.

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
        n_mixtures: M, Gaussians per state; None takes 2 where that predicts better than 1, and 4 where that
            predicts better still, as long as the states together have at most 8.
        covariance: Of the emissions.
        progress: Called as fitting goes on.
        record: Told how well each candidate does.

    Raises:
        ValueError: The rows cannot be fitted; the message says what to do.
    """
    rows = complete_rows(x, lengths)
    gaps = np.full(len(rows.x), np.nan) if gap_s is None else gap_s[rows.kept]
    fewest = _Shape(n_states or 1, n_mixtures or 1, covariance)
    require_enough_values(rows.x, fewest.parameters(rows.x.shape[1]), str(fewest))
    shapes, richer = _affordable(rows, fewest, n_states, n_mixtures)
    total, done = len(shapes) + len(richer) + 1, 0

    def report(step: int = 1) -> None:
        nonlocal done
        done += step
        if progress is not None:
            progress("fitting hmm", done, total)

    report(0)
    unbroken = _between_silences(rows.lengths, gaps, interval_s)
    used = blocks_over_time(rows.lengths, _MAX_ROWS)

    def sample(taken: BoolArray) -> _Sample:
        return _Sample(rows.x[taken], lengths_kept(unbroken, taken), interval_s)

    chosen = shapes[0]
    if len(shapes) > 1 or richer:
        chosen = _choose(rows, gaps, sample(used & ~rows.held_out), shapes, richer, seed, report, record)
    everything = sample(used)
    seeds = list(range(seed, seed + (_RESTARTS if chosen.n_states > 1 else 1)))
    model = _with_mixtures(_fit_gaussians(everything, chosen, seeds), everything, chosen.n_mixtures, seed)
    warmup = count_warmup_records(model, rows.x, rows.lengths, gaps)
    report(total - done)
    return _in_units_of_x(model, rows.scale, warmup)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A hidden Markov model among those to choose from."""

    n_states: int
    n_mixtures: int
    covariance: Covariance

    def parameters(self, n_features: int) -> int:
        spread = n_features if self.covariance == "diag" else n_features * (n_features + 1) // 2
        of_state = self.n_states - 1 + self.n_mixtures - 1 + self.n_mixtures * (n_features + spread)
        return self.n_states * of_state

    def __str__(self) -> str:
        within = f" with {self.n_mixtures} Gaussians in each" if self.n_mixtures > 1 else ""
        return f"a hidden Markov model of {self.n_states} states{within}"


class _Sample(NamedTuple):
    """What expectation maximisation runs over."""

    x: FloatArray
    """Shape (N, D)."""
    lengths: IntArray
    """Records of each run, shape (R,), between which there are no transitions."""
    interval_s: float | None


def _affordable(
    rows: FittingRows, fewest: _Shape, n_states: int | None, n_mixtures: int | None
) -> tuple[list[_Shape], list[int]]:
    """Return the shapes to choose from, and the richer mixtures to try with the one that is best.

    The rows must be able to tell them apart: the part not held out must suffice for each.
    """
    to_fit = rows.x[~rows.held_out]

    def suffices(shape: _Shape) -> bool:
        return bool(rows.held_out.any()) and has_enough_values(to_fit, shape.parameters(to_fit.shape[1]))

    shapes = [replace(fewest, n_states=k) for k in ((n_states,) if n_states else CANDIDATES)]
    shapes = [shape for shape in shapes if suffices(shape)] or [fewest]
    mixtures = () if n_mixtures else MIXTURE_CANDIDATES
    richer = [m for m in mixtures if shapes[0].n_states * m <= MOST_GAUSSIANS]
    return shapes, [m for m in richer if suffices(replace(shapes[0], n_mixtures=m))]


def _choose(
    rows: FittingRows,
    gap_s: FloatArray,
    sample: _Sample,
    shapes: list[_Shape],
    richer: list[int],
    seed: int,
    report: Callable[[], None],
    record: Record | None,
) -> _Shape:
    """Return the first shape that predicts the held-out rows as well as those with more parameters."""
    gaussians: dict[int, Hmm] = {}

    def judged(shape: _Shape, against: str, x: int) -> FloatArray:
        if shape.n_states not in gaussians:
            gaussians[shape.n_states] = _fit_gaussians(sample, shape, [seed])
        model = _with_mixtures(gaussians[shape.n_states], sample, shape.n_mixtures, seed)
        log_likelihood = _one_step_ahead(model, rows, gap_s)[rows.held_out]
        if record is not None:
            median = float(np.median(log_likelihood))
            record("median log-likelihood of held-back rows, nats", against, x, median)
        report()
        return log_likelihood

    chosen, best = shapes[0], np.full(np.count_nonzero(rows.held_out), -np.inf)
    for shape in shapes:
        log_likelihood = judged(shape, "states", shape.n_states)
        if is_worth_having(log_likelihood, best):
            chosen, best = shape, log_likelihood
    for n_mixtures in richer:
        shape = replace(chosen, n_mixtures=n_mixtures)
        if shape.n_states * n_mixtures > MOST_GAUSSIANS:
            break
        log_likelihood = judged(shape, "Gaussians per state", n_mixtures)
        if not is_worth_having(log_likelihood, best):
            break
        chosen, best = shape, log_likelihood
    return chosen


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


def _fit_gaussians(sample: _Sample, shape: _Shape, seeds: list[int]) -> Hmm:
    """Return the likeliest chain with one Gaussian per state, among one restart per seed."""
    k = shape.n_states
    one_each, even = np.ones((k, 1)), np.full((k, k), 1.0 / k)
    starts = []
    for seed in seeds:
        clusters = initial_clusters(sample.x, k, COVARIANCE_FLOOR, seed)
        spread = _spread(clusters.covariances, shape.covariance == "diag")
        starts.append(Emissions(clusters.means, spread, one_each))
    return _likeliest(sample, starts, even)


def _with_mixtures(gaussian: Hmm, sample: _Sample, n_mixtures: int, seed: int) -> Hmm:
    """Return the likelier of the chains grown from one with a Gaussian per state; itself for one Gaussian."""
    if n_mixtures == 1:
        return gaussian
    starts = [_clusters_within(gaussian, sample, n_mixtures, seed), _narrow_to_wide(gaussian, n_mixtures)]
    return _likeliest(sample, starts, gaussian.arrays()["transition"])


def _likeliest(sample: _Sample, starts: list[Emissions], transition: FloatArray) -> Hmm:
    """Return the best of the chains fitted from each of the emissions, all beginning with one transition."""
    from detector.training.hmm_em import HmmEm

    fitted = []
    for start in starts:
        candidate = HmmEm(
            start,
            transition,
            pseudo_transitions=_PSEUDO_TRANSITIONS,
            floor=COVARIANCE_FLOOR,
            n_iter=_MAX_ITERATIONS,
            tol=_TOLERANCE_NATS * len(sample.x),
        )
        with _without_hmmlearn_log():
            candidate.fit(sample.x, sample.lengths)
        fitted.append(candidate)
    best = max(fitted, key=lambda candidate: candidate.monitor_.history[-1])
    found = best.transmat_ / best.transmat_.sum(axis=1, keepdims=True)
    gaussians, weights = best.emissions.gaussians, best.emissions.weights
    return Hmm(
        stationary_distribution(found),
        found,
        gaussians.means,
        gaussians.covariances,
        interval_s=sample.interval_s,
        weights=weights,
    )


def _clusters_within(gaussian: Hmm, sample: _Sample, n_mixtures: int, seed: int) -> Emissions:
    """Return mixtures of the clusters of the rows that are most probably each state's."""
    no_gap = np.full(len(sample.x), np.nan)
    beliefs = gaussian.beliefs(gaussian.initial_state(len(sample.lengths)), sample.x, no_gap, sample.lengths)
    state = beliefs.argmax(axis=1)
    clusters = []
    for k in range(gaussian.n_states):
        own = sample.x[state == k]
        # A state without enough rows to cluster begins like any other row.
        enough = own if len(own) > n_mixtures else sample.x
        clusters.append(initial_clusters(enough, n_mixtures, COVARIANCE_FLOOR, seed))
    covariances = np.concatenate([found.covariances for found in clusters])
    return Emissions(
        np.concatenate([found.means for found in clusters]),
        _spread(covariances, gaussian.arrays()["covariances"].ndim == 2),
        np.stack([found.weights / found.weights.sum() for found in clusters]),
    )


def _narrow_to_wide(gaussian: Hmm, n_mixtures: int) -> Emissions:
    """Return mixtures of Gaussians around each state's mean, from narrower to wider than its own."""
    arrays = gaussian.arrays()
    width = np.tile(np.geomspace(*_WIDTHS, n_mixtures), gaussian.n_states)
    covariances = np.repeat(arrays["covariances"], n_mixtures, axis=0)
    return Emissions(
        np.repeat(arrays["means"], n_mixtures, axis=0),
        covariances * width.reshape(-1, *[1] * (covariances.ndim - 1)),
        np.full((gaussian.n_states, n_mixtures), 1.0 / n_mixtures),
    )


def _spread(covariances: FloatArray, is_diagonal: bool) -> FloatArray:
    return np.diagonal(covariances, axis1=1, axis2=2) if is_diagonal else covariances


def stationary_distribution(transition: FloatArray) -> FloatArray:
    """Return the share of time that a chain spends in each state in the long run, shape (K,)."""
    k = len(transition)
    balance = np.vstack([transition.T - np.eye(k), np.ones(k)])
    share = np.linalg.lstsq(balance, np.append(np.zeros(k), 1.0), rcond=None)[0].clip(min=0.0)
    return np.asarray(share / share.sum())


def _in_units_of_x(model: Hmm, scale: FloatArray, warmup_records: int) -> Hmm:
    arrays = model.arrays()
    squared_scale = scale**2 if arrays["covariances"].ndim == 2 else np.outer(scale, scale)
    arrays["means"] = arrays["means"] * scale
    arrays["covariances"] = arrays["covariances"] * squared_scale
    arrays["warmup_records"] = np.array([float(warmup_records)])
    return Hmm.from_arrays(arrays)


def _one_step_ahead(model: Hmm, rows: FittingRows, gap_s: FloatArray) -> FloatArray:
    return model.scan(model.initial_state(len(rows.lengths)), rows.x, gap_s, rows.lengths)[1]


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
