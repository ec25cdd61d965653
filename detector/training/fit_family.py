"""The table of fits: a plan names a family, its fit is called with what it understands."""

from dataclasses import replace

import numpy as np

from detector.models.contract import Family
from detector.models.gan import Gan
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.models.rbm import Rbm
from detector.training.fitting import Fitting
from detector.training.fitting_rows import Progress
from detector.training.plan import TrainingPlan
from detector.training.report import Curves
from detector.training.training_rows import TrainingError


def fit_family(plan: TrainingPlan, fitting: Fitting, report: Progress, curves: Curves) -> Family:
    """Fit the family that a plan names.

    Args:
        plan: Family, settings and seed.
        fitting: The rows.
        report: Told how far the fit is.
        curves: Takes what the fit watches.

    Raises:
        TrainingError: The family has no such setting.
        ValueError: The rows cannot be fitted; the message says why.
    """
    x, lengths, discrete = fitting.x, fitting.lengths, fitting.discrete
    # Imported here: each brings a library of its own, and torch alone takes seconds.
    if plan.family == "gmm":
        from detector.training.fit_gmm import fit_gmm

        return fit_gmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            n_components=_options(plan, "n_components", texts=("covariance",)).get("n_components"),
            covariance=_text(plan, "covariance"),
        )
    if plan.family == "hmm":
        from detector.training.fit_hmm import fit_hmm

        options = _options(plan, "n_states", "n_mixtures", texts=("covariance",))
        return fit_hmm(
            x,
            lengths=lengths,
            seed=plan.seed,
            gap_s=fitting.gap_s,
            interval_s=fitting.interval_s,
            progress=report,
            record=curves.record,
            n_states=options.get("n_states"),
            n_mixtures=options.get("n_mixtures"),
            covariance="full" if _text(plan, "covariance") == "full" else "diag",
        )
    if plan.family == "naive_bayes":
        from detector.training.fit_naive_bayes import fit_naive_bayes

        options = _options(plan, "n_classes", "trimmed_percent", texts=("density",))
        return fit_naive_bayes(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            n_classes=options.get("n_classes"),
            trimmed_percent=options.get("trimmed_percent", 0),
            density=_text(plan, "density"),
            kinds=None if discrete is None else discrete.kinds,
            n_categories=None if discrete is None else discrete.n_categories,
            regimes=fitting.regime,
        )
    if plan.family == "rbm":
        from detector.training.fit_rbm import fit_rbm

        n_hidden = _options(plan, "n_hidden").get("n_hidden")
        binary = None if discrete is None else np.isin(np.arange(x.shape[1]), discrete.columns)
        return fit_rbm(
            x,
            lengths=lengths,
            seed=plan.seed,
            progress=report,
            record=curves.record,
            binary=binary,
            n_hidden=n_hidden,
        )
    if plan.family == "gan":
        from detector.training.fit_gan import fit_gan

        latent = _options(plan, "latent").get("latent")
        gan = fit_gan(x, lengths=lengths, seed=plan.seed, progress=report, latent=latent)
        for epoch, (coverage, precision, _) in enumerate(gan.outcome.watched.tolist(), start=1):
            curves.record("coverage, relative to training records'", "epoch", epoch, coverage)
            curves.record("precision, relative to training records'", "epoch", epoch, precision)
        return gan
    from detector.training.fit_vae import fit_vae

    options = _options(plan, "window", "latent")
    return fit_vae(
        x,
        lengths=lengths,
        seed=plan.seed,
        anomalous=fitting.anomalous,
        window=options.get("window", 1),
        latent=options.get("latent"),
        progress=report,
        record=curves.record,
    )


def fit_alike(
    plan: TrainingPlan,
    pooled: Family,
    fitting: Fitting,
    n_states: int | None = None,
    covariance: str = "diag",
) -> Family:
    """Fit another family of the same size as the pooled one; an HMM perhaps with other states."""
    size: dict[str, int | str] = {}
    if isinstance(pooled, Hmm):
        size = {"n_states": n_states or pooled.n_states, "n_mixtures": pooled.n_mixtures}
        size["covariance"] = covariance
    family = fit_family(replace(plan, options={**plan.options, **size}), fitting, no_report, Curves())
    if isinstance(family, Hmm):
        # The rows of one entity are too few to tell how soon a filter forgets where it began.
        known = {"warmup_records": pooled.arrays()["warmup_records"]}
        return Hmm.from_arrays(family.arrays() | known)
    return family


def no_report(what: str, done: int, total: int) -> None:
    """Many fits at once have no order in which to report."""


def _options(plan: TrainingPlan, *numbers: str, texts: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the settings that are whole numbers, after refusing those that the family does not have."""
    known = (*numbers, *texts)
    unknown = sorted(set(plan.options) - set(known))
    if unknown:
        raise TrainingError(f"family {plan.family} has no setting {unknown}; it knows {', '.join(known)}")
    given = {}
    for name in numbers:
        value = plan.options.get(name)
        if isinstance(value, str):
            raise TrainingError(f"setting {name} of family {plan.family} is {value!r}; give a whole number")
        if value is not None:
            given[name] = value
    return given


def _text(plan: TrainingPlan, name: str) -> str | None:
    value = plan.options.get(name)
    return None if value is None else str(value)


def choices_of(family: Family) -> dict[str, float | int | str]:
    """Return what the fit settled on, for the manifest."""
    shapes = {name: array.shape for name, array in family.arrays().items()}
    chosen: dict[str, float | int | str] = {"warmup_records": family.warmup_records}
    if "means" in shapes:
        chosen["components"] = shapes["means"][0]
    if "class_weights" in shapes:
        chosen["classes"] = shapes["class_weights"][0]
    if isinstance(family, Gmm):
        chosen["covariance"] = family.covariance
    if isinstance(family, Hmm):
        chosen["states"], chosen["mixtures"] = family.n_states, family.n_mixtures
    if isinstance(family, Rbm):
        chosen["hidden_units"] = family.n_hidden
        chosen["log_partition"] = family.log_partition
        chosen["log_partition_error"] = family.log_partition_error
    if isinstance(family, Gan):
        coverage, precision, _ = family.outcome.watched[family.outcome.best_epoch]
        chosen["latent_dimensions"] = family.n_latent
        chosen["relative_coverage"], chosen["relative_precision"] = float(coverage), float(precision)
        chosen["restarts"] = family.outcome.restarts
    return chosen
