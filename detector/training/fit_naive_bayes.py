"""Fit naive Bayes; held-out time says how many hidden classes there are, and which density each count has.

Every feature starts with the plainest density of its kind. Another one, and another class, must predict
held-out rows better by a margin. Continuous features have wide kernels, whatever predicts better: densities
that resolve more are likelier and find anomalies worse.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.feature_densities import FeatureDensity
from detector.models.kinds import Kind
from detector.models.log_space import log_sum_exp
from detector.models.naive_bayes import NaiveBayes
from detector.models.sequences import starts_of
from detector.training.fitting_rows import (
    Progress,
    Record,
    absurd,
    body_std,
    check_rows,
    has_enough_values,
    held_out_in_time,
    is_worth_having,
    require_enough_values,
    within_body,
)
from detector.training.naive_bayes_em import (
    maximise,
    mean_log_likelihood,
    responsibilities,
    start,
    with_background,
)
from detector.training.naive_bayes_rows import DENSITIES, ON_REQUEST, FeatureKinds, Rows, thinning

MOST_CLASSES = 8

_RESTARTS = 3


def fit_naive_bayes(
    x: FloatArray,
    *,
    lengths: IntArray,
    seed: int,
    n_classes: int | None = None,
    density: str | None = None,
    kinds: Sequence[Kind] | None = None,
    n_categories: Sequence[int] | None = None,
    regimes: IntArray | None = None,
    trimmed_percent: int = 0,
    progress: Progress | None = None,
    record: Record | None = None,
) -> NaiveBayes:
    """Fit by expectation maximisation; missing values count for nothing, rows that have some count.

    A number 10,000 standard deviations of its feature's body from the median is an error of measurement
    and counts as missing. Of more than 20,000 rows, evenly spaced ones are used.

    Labelled regimes are classes 0 to R - 1: their rows belong to them for certain. Rows without a label
    belong to them, and to hidden classes beside them, as far as expectation maximisation says.

    Unless the number of classes is given, rare hidden ones give way to a background: see ``with_background``.

    Args:
        x: Shape (N, D): standardised residuals of continuous features, others as their kind has them; NaN
            is missing.
        lengths: Records of each entity, shape (E,), summing to N, each entity's in time order.
        seed: Of the restarts.
        n_classes: C, at least R; None takes the fewest that predict the last fifth of each run best, from R
            (or 1) to 8, or R where every row has a label.
        density: Of every continuous feature: ``gaussian``, ``histogram`` or ``student``; None is ``kernel``.
        kinds: Of each feature, D of them; None is all continuous.
        n_categories: Size V of the vocabulary of each categorical feature, D of them.
        regimes: Labelled normal regime of each row, shape (N,), 0 to R - 1; -1 where it is not known. None is
            not known anywhere. A regime without any row is a class of weight zero.
        trimmed_percent: So many of the rows, the least likely ones, shape nothing: the fit is repeated
            without them, but for those of known regimes. Training records are seldom clean, and what is
            strange among them widens what counts as normal. What is expected still spreads as all do.
        progress: Called as fitting goes on.
        record: Told how well each candidate does.

    Raises:
        ValueError: The rows cannot be fitted, or an argument does not fit them; the message says what to do.
    """
    check_rows(x, lengths)
    if density is not None and density not in DENSITIES["continuous"] + ON_REQUEST:
        known = ", ".join(DENSITIES["continuous"] + ON_REQUEST)
        raise ValueError(f"no density is called {density!r}; take one of {known}")
    features = FeatureKinds.of(x, kinds, n_categories)
    regimes = np.full(len(x), -1) if regimes is None else regimes
    if trimmed_percent:
        fit = partial(
            fit_naive_bayes,
            seed=seed,
            n_classes=n_classes,
            density=density,
            kinds=kinds,
            n_categories=n_categories,
            progress=progress,
        )
        untrimmed = fit(x, lengths=lengths, regimes=regimes)
        likely = (regimes >= 0) | _likely(untrimmed.log_likelihood(x), trimmed_percent)
        if not _can_be_fitted(x[likely], _classes_from_and_to(regimes, len(x), n_classes)[0]):
            return untrimmed
        left = np.add.reduceat(likely.astype(np.int64), starts_of(lengths))
        trimmed = fit(x[likely], lengths=left[left > 0], regimes=regimes[likely], record=record)
        return _stretched(trimmed, x, np.array(features.kinds) == "continuous")
    least, most = _classes_from_and_to(regimes, len(x), n_classes)
    scale = body_std(x)
    x = np.where(absurd(x, scale) & features.is_number, np.nan, x)
    usable: BoolArray = np.asarray(~np.isnan(x).all(axis=1))
    held_out = held_out_in_time(lengths)
    _require_enough(x[usable], least)

    def rows_of(which: BoolArray, densities: Sequence[Sequence[str]]) -> Rows:
        return Rows.of(x[which], scale, regimes[which], features, densities)

    allowed = [(density,) if density and kind == "continuous" else DENSITIES[kind] for kind in features.kinds]
    to_judge = x[usable & held_out]
    to_judge = to_judge[thinning(len(to_judge))]
    to_fit: BoolArray = np.asarray(usable & ~held_out)
    candidates = [
        c for c in range(least, most + 1) if has_enough_values(x[to_fit], _parameters(c, x.shape[1]))
    ]
    open_questions = len(candidates) > 1 or any(len(densities) > 1 for densities in allowed)
    can_judge = len(to_judge) > 0 and bool((~np.isnan(x[to_fit])).any(axis=0).all())
    must_choose = open_questions and can_judge and len(candidates) > 0
    total = (len(candidates) if must_choose else 0) + 1

    def report(done: int) -> None:
        if progress is not None:
            progress("fitting naive_bayes", done, total)

    report(0)
    chosen, densities = least, tuple(plainest for plainest, *_ in allowed)
    if must_choose:
        rows = rows_of(to_fit, allowed)
        best = np.full(len(to_judge), -np.inf)
        for done, c in enumerate(candidates, start=1):
            candidate = _fit(rows, c, to_judge, seed)
            if n_classes is None:
                candidate = with_background(rows, candidate)
            log_likelihood = candidate.log_likelihood(to_judge)
            if record is not None:
                median = float(np.median(log_likelihood))
                record("median log-likelihood of held-back rows, nats", "classes", c, median)
            if is_worth_having(log_likelihood, best):
                chosen, densities, best = c, candidate.kinds, log_likelihood
            report(done)
    everything = rows_of(usable, [(chosen_density,) for chosen_density in densities])
    # Without hidden classes there is nothing that chance decides.
    restarts = _RESTARTS if chosen > max(1, everything.n_regimes) else 1
    models = [_fit(everything, chosen, None, s) for s in range(seed, seed + restarts)]
    best_model = max(models, key=lambda model: mean_log_likelihood(everything, model))
    report(total)
    return with_background(everything, best_model) if n_classes is None else best_model


def _likely(log_likelihood: FloatArray, trimmed_percent: int) -> BoolArray:
    """Mark rows that are not among the least likely so many percent, shape (N,); NaN is not likely."""
    return np.asarray(log_likelihood >= np.nanquantile(log_likelihood, trimmed_percent / 100.0))


def _stretched(model: NaiveBayes, x: FloatArray, continuous: BoolArray) -> NaiveBayes:
    """Return the model whose classes, for what is expected and drawn, spread as the body of all rows does."""
    columns = np.flatnonzero(continuous)
    body = x.copy()
    body[:, columns] = within_body(x[:, columns])
    shares = model.latent(np.empty((len(x), 0)), body, np.full(len(x), np.nan))
    means, stds = model.class_moments()
    stretch = np.ones_like(means)
    for j in columns:
        seen = ~np.isnan(body[:, j])
        rows = shares[seen].sum(axis=0)
        squares = (shares[seen] * (body[seen, j, None] - means[j]) ** 2).sum(axis=0)
        spread = np.sqrt(squares / np.where(rows > 0, rows, 1.0))
        stretch[j] = np.maximum(spread / stds[j], 1.0)
    return model.stretched(stretch)


def _can_be_fitted(x: FloatArray, n_classes: int) -> bool:
    seen = ~np.isnan(x)
    enough = has_enough_values(x[seen.any(axis=1)], _parameters(n_classes, x.shape[1]))
    return enough and bool(seen.any(axis=0).all())


def _classes_from_and_to(regimes: IntArray, n: int, n_classes: int | None) -> tuple[int, int]:
    if regimes.shape != (n,):
        raise ValueError(
            f"regimes have shape {regimes.shape}, but there are {n} rows; give one label per row"
        )
    if (regimes < -1).any():
        raise ValueError(f"regimes are numbered from 0, and -1 is unknown; there is {regimes.min()}")
    n_regimes = int(regimes.max()) + 1
    if n_classes is not None and n_classes < n_regimes:
        raise ValueError(f"{n_regimes} regimes are labelled, which {n_classes} classes cannot tell apart")
    if (regimes >= 0).all():
        if n_classes is not None and n_classes > n_regimes:
            raise ValueError(
                f"{n_classes} classes for {n_regimes} regimes, but every row has a label, so no row is left "
                "for a hidden class; leave the number of classes out"
            )
        return n_regimes, n_regimes
    least = max(1, n_regimes)
    return (least, max(least, MOST_CLASSES)) if n_classes is None else (n_classes, n_classes)


def _fit(rows: Rows, n_classes: int, to_judge: FloatArray | None, seed: int) -> NaiveBayes:
    """Fit with the plainest densities, or with those that predict rows to judge better.

    Under a wrong density of one feature the classes are wrong, and so is what they say of another's: hence
    the second look.
    """
    shares = start(rows, n_classes, seed)
    if to_judge is None:
        return _settle(rows, rows.plainest, shares)
    first = _best_densities(rows, shares, to_judge, rows.plainest)
    model = _settle(rows, first, shares)
    shares = responsibilities(rows, model)
    second = _best_densities(rows, shares, to_judge, first)
    return model if second == first else _settle(rows, second, shares)


def _settle(rows: Rows, densities: tuple[str, ...], shares: FloatArray) -> NaiveBayes:
    bells = set(densities) == {"gaussian"} and bool(rows.observed.all())
    converged = bool((rows.regimes >= 0).all()) or (bells and rows.n_regimes == 0)
    return maximise(rows, densities, shares, converged=converged)


def _best_densities(
    rows: Rows, shares: FloatArray, to_judge: FloatArray, current: tuple[str, ...]
) -> tuple[str, ...]:
    """Return for each feature the density under which held-out rows are likeliest, all others as they are."""
    if all(len(by_density) == 1 for by_density in rows.estimates):
        return current
    by_feature = [
        {name: estimate.density(shares) for name, estimate in by_density.items()}
        for by_density in rows.estimates
    ]
    model = NaiveBayes(
        shares.mean(axis=0), [own[name] for own, name in zip(by_feature, current, strict=True)]
    )
    log_joint = model.log_joint(to_judge)
    best_names = []
    for j, (own, name) in enumerate(zip(by_feature, current, strict=True)):
        best_name, best = "", np.full(len(to_judge), -np.inf)
        for other_name, other in own.items():
            log_likelihood = log_sum_exp(log_joint + _ratio(other, own[name], to_judge[:, j]))
            if not best_name or is_worth_having(log_likelihood, best):
                best_name, best = other_name, log_likelihood
        best_names.append(best_name)
    return tuple(best_names)


def _ratio(density: FeatureDensity, reference: FeatureDensity, values: FloatArray) -> FloatArray:
    """Return log p(x | c) under one density minus that under another, shape (M, C), 0 where x is missing."""
    seen = np.flatnonzero(~np.isnan(values))
    difference = density.log_density(values[seen]) - reference.log_density(values[seen])
    result = np.zeros((len(values), len(difference)))
    result[seen] = difference.T
    return result


def _parameters(n_classes: int, n_features: int) -> int:
    # Where rows are few a class leans on all rows together, so every density counts as two parameters.
    return n_classes * (1 + 2 * n_features) - 1


def _require_enough(x: FloatArray, n_classes: int) -> None:
    what = f"naive Bayes with {n_classes} classes"
    require_enough_values(x, _parameters(n_classes, x.shape[1]), what)
