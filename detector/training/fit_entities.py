"""A family for each entity that one of its own predicts better than the pooled one does.

An entity's family is fitted on the oldest four fifths of its fitting rows. It is kept only if it is likelier
than the pooled one on the newest fifth, by a margin that chance does not explain; then it is fitted again on
all of them. The pooled family was fitted on that newest fifth as well, so in doubt it wins.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.contract import Family
from detector.models.entity_families import EntityFamilies
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.models.naive_bayes import NaiveBayes
from detector.models.stacked_gmm import full_covariances
from detector.training.adapt import adapt_gmm, adapt_naive_bayes
from detector.training.fit_hmm import CANDIDATES
from detector.training.fitting import Fitting
from detector.training.fitting_rows import Progress, held_out_in_time, is_worth_having

Fit = Callable[[Fitting], Family]
"""From an entity's rows to a family of the pooled one's size; raises ValueError where they are too few."""

_log = logging.getLogger(__name__)

# Families that take seconds to minutes each to fit.
_SLOW_FAMILIES = ("vae", "rbm", "gan")
_MOST_SLOW_FAMILIES = 100


def check_affordable(family: str, n_entities: int) -> None:
    """Refuse what would take days.

    Raises:
        ValueError: The family is slow to fit and the entities are more than 100.
    """
    if family in _SLOW_FAMILIES and n_entities > _MOST_SLOW_FAMILIES:
        raise ValueError(
            f"models per_entity would fit a {family} to each of {n_entities} entities, which takes up to "
            f"minutes each; at most {_MOST_SLOW_FAMILIES} are allowed: take family gmm, hmm or naive_bayes, "
            "or models pooled"
        )


def fit_entities(
    pooled: Family,
    fits: Sequence[Fit],
    fitting: Fitting,
    model: IntArray,
    n_models: int,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> EntityFamilies | None:
    """Fit every entity that has coefficients of its own, and keep the families that are worth having.

    Args:
        pooled: Fitted on the rows of all entities.
        fits: Ways to fit an entity, the plainest first; each must predict better than those before it.
        fitting: Rows of all entities.
        model: Of each entity, shape (E,); ``n_models - 1`` where it is the pooled one.
        n_models: M.
        jobs: Processes to share the work among.
        progress: Called as fitting goes on.

    Returns:
        None where no entity has a family of its own.
    """
    from joblib import Parallel, delayed

    everybody = np.unique(fitting.entity).size
    entities = [e for e in np.unique(fitting.entity).tolist() if model[e] < n_models - 1]
    begins = np.searchsorted(fitting.entity, entities).tolist()
    ends = np.searchsorted(fitting.entity, entities, side="right").tolist()
    parts = (fitting.part(slice(begin, end)) for begin, end in zip(begins, ends, strict=True))
    tasks = (delayed(fit_own)(pooled, fits, part) for part in parts)
    own: list[Family] = []
    refused: list[str] = []
    place = np.full(n_models, -1)
    found = Parallel(n_jobs=jobs, return_as="generator")(tasks)
    for done, (entity, tried) in enumerate(zip(entities, found, strict=True), start=1):
        if tried.family is not None:
            place[model[entity]] = len(own)
            own.append(tried.family)
        elif tried.refusal is not None:
            refused.append(tried.refusal)
        if progress is not None:
            progress("fitting entities", done, len(entities))
    _log.info(
        "%d of %d entities have a %s of their own; %d have too few records for a scale of their own, "
        "%d for such a model%s, and %d are predicted no better by one",
        len(own),
        everybody,
        pooled.name,
        everybody - len(entities),
        len(refused),
        f" ({refused[0]})" if refused else "",
        len(entities) - len(own) - len(refused),
    )
    place[place < 0] = len(own)
    if len({family.arrays()["covariances"].shape for family in own if isinstance(family, Gmm)}) > 1:
        own = [with_full_covariances(family) for family in own if isinstance(family, Gmm)]
    return EntityFamilies(own, pooled, place) if own else None


class Own(NamedTuple):
    """What came of fitting one entity."""

    family: Family | None
    """None where its rows do not speak for one."""
    refusal: str | None = None
    """Why none could be fitted; None where one could."""


def fit_own(pooled: Family, fits: Sequence[Fit], fitting: Fitting) -> Own:
    """Return the entity's own family, if its newest rows speak for one."""
    newest = held_out_in_time(fitting.lengths)
    judged = newest if fitting.anomalous is None else newest & ~fitting.anomalous
    best, log_likelihood = None, _one_step_ahead(pooled, fitting)[judged]
    refusals: list[str] = []
    for fit in fits:
        try:
            candidate = fit(fitting.part(~newest))
        except ValueError as error:
            refusals.append(str(error))
            continue
        if candidate.arrays().keys() != pooled.arrays().keys():
            continue
        own = _one_step_ahead(candidate, fitting)[judged]
        if is_worth_having(own, log_likelihood):
            best, log_likelihood = fit, own
    if best is not None:
        return Own(best(fitting))
    # What the plainest way says: the others ask for more.
    return Own(None, refusals[0] if len(refusals) == len(fits) else None)


def ways_to_fit(pooled: Family, fresh: Callable[..., Family], *, any_covariance: bool) -> list[Fit]:
    """Return how the families of entities are fitted.

    A feature pair that rises together on one entity and apart on another is uncorrelated in the fleet, so
    mixtures of entities, and states, are tried with full covariances even where the pooled ones do without.
    The states of a whole fleet are more than an entity visits, and than few rows can tell: fewer are tried.

    Args:
        pooled: Fitted on the rows of all entities.
        fresh: Fits a family of the pooled one's size, or one with other states, without leaning on it.
        any_covariance: Whether the covariances of mixtures are free to have another shape.
    """
    if isinstance(pooled, NaiveBayes):
        return [partial(adapt_naive_bayes, pooled)]
    if isinstance(pooled, Hmm):
        fewer = [k for k in CANDIDATES if k < pooled.n_states]
        return [
            partial(_with_few_states, pooled, partial(fresh, n_states=k, covariance=covariance))
            for covariance, states in (("diag", (*fewer, pooled.n_states)), ("full", fewer or [1]))
            for k in states
        ]
    if not isinstance(pooled, Gmm):
        return [fresh]
    fits: list[Fit] = [partial(adapt_gmm, pooled)]
    if any_covariance and pooled.covariance != "full":
        fits.append(partial(adapt_gmm, with_full_covariances(pooled)))
    return fits


def with_full_covariances(mixture: Gmm) -> Gmm:
    """Return the same density, each component with a full covariance of its own."""
    arrays = mixture.arrays()
    return Gmm(arrays["weights"], arrays["means"], full_covariances(mixture))


def with_states(model: Hmm, n_states: int) -> Hmm:
    """Return the same density with states repeated, one after the other, until there are so many."""
    arrays, m = model.arrays(), model.n_mixtures
    state = np.arange(n_states) % model.n_states
    share = 1.0 / np.bincount(state)[state]
    gaussian = (state[:, None] * m + np.arange(m)).ravel()
    repeated = {
        "start": arrays["start"][state] * share,
        "transition": arrays["transition"][np.ix_(state, state)] * share,
        "means": arrays["means"][gaussian],
        "covariances": arrays["covariances"][gaussian],
    }
    if "weights" in arrays:
        repeated["weights"] = arrays["weights"][state]
    return Hmm.from_arrays(arrays | repeated)


def _with_few_states(pooled: Hmm, fit: Fit, fitting: Fitting) -> Family:
    own = fit(fitting)
    return with_states(own, pooled.n_states) if isinstance(own, Hmm) else own


def _one_step_ahead(family: Family, fitting: Fitting) -> FloatArray:
    lengths = fitting.lengths
    return family.scan(family.initial_state(len(lengths)), fitting.x, fitting.gap_s, lengths)[1]
