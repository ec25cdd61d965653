"""One member of a committee: fitted on older records, calibrated on newer ones."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray, IntArray
from detector.bundles.report import ModelReport
from detector.bundles.serving import fewest_features
from detector.models.contract import Predictor
from detector.models.discrete_columns import DiscreteColumns
from detector.models.families import FAMILIES
from detector.models.feature_transforms import FeatureTransforms
from detector.models.kinds import Kind
from detector.models.predictors import NoPredictor, predict
from detector.models.scaling import Scaling, fit_scaling
from detector.scoring.density import Density
from detector.scoring.frequencies import Frequencies
from detector.scoring.member import Member
from detector.training.calibrate import Calibrated, calibrate
from detector.training.discrete_features import discrete_columns, kinds_for, without_impossible
from detector.training.fit_entities import check_affordable, fit_entities, ways_to_fit
from detector.training.fit_family import fit_alike, fit_family
from detector.training.fit_frequencies import fit_frequencies
from detector.training.fit_predictor import Extremes, fit_predictor, fit_residual_scale
from detector.training.fit_transforms import fit_transforms, with_rates, without_negative
from detector.training.fitting import Fitting
from detector.training.fitting_rows import Progress
from detector.training.labels import regime_codes, those_that_occur
from detector.training.offsets import local_time
from detector.training.plan import TrainingPlan
from detector.training.report import Curves, model_report
from detector.training.training_rows import (
    TrainingError,
    TrainingRows,
    check_rows_to_train,
    require_values,
    rows_in_order,
)

# An entity with fewer fitting rows is scored by the pooled model.
_FEWEST_OWN_ROWS = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainedMember:
    """What came of a member's plan."""

    plan: TrainingPlan
    material: "Material"
    regimes: tuple[str, ...]
    """Those that occur in the rows that were fitted."""
    member: Member
    calibrated: Calibrated
    report: ModelReport


def train_member(
    records: Batch,
    plan: TrainingPlan,
    report: Progress,
    anomalous: BoolArray | None,
    regime: Sequence[str | None] | None,
    prepared: "Material | None" = None,
) -> TrainedMember:
    """Fit and calibrate one member; arguments as ``detector.training.job.train``.

    Args:
        prepared: The same records as another member took them: not held twice, where both take them alike.

    Raises:
        TrainingError: The records cannot give a model.
        ValueError: So, too.
    """
    curves = Curves()
    fitted = fit_member(records, plan, report, anomalous, regime, curves, prepared)
    material = fitted.material
    calibrated = fitted.calibrated
    member = Member(
        fitted.density,
        calibrated.examples,
        calibrated.calibration,
        fitted.plan.time_scale,
        calibrated.confirmation,
        fitted.frequencies,
    )
    measured = model_report(
        member,
        calibrated,
        replace(material.to_fit, values=material.to_fit_in_units),
        material.rows,
        material.model,
        curves,
        plan.seed,
    )
    return TrainedMember(fitted.plan, material, fitted.regimes, member, calibrated, measured)


class FittedMember(NamedTuple):
    """A member of which nobody has measured yet what it is worth."""

    plan: TrainingPlan
    material: "Material"
    fitting: Fitting
    regimes: tuple[str, ...]
    """Those that occur in the rows that were fitted."""
    density: Density
    calibrated: Calibrated
    frequencies: Frequencies | None


def fit_member(
    records: Batch,
    plan: TrainingPlan,
    report: Progress,
    anomalous: BoolArray | None,
    regime: Sequence[str | None] | None,
    curves: Curves,
    prepared: "Material | None" = None,
) -> FittedMember:
    """Fit and calibrate one member; arguments as ``train_member``.

    Args:
        curves: Takes what the fit watches.
        prepared: As in ``train_member``.

    Raises:
        TrainingError: The records cannot give a model.
        ValueError: So, too.
    """
    report("preparing", 0, 1)
    if prepared is not None and prepared.serves(plan):
        material = prepared
    else:
        material = prepare(records, plan, anomalous, regime)
    if material.regimes and plan.family != "naive_bayes":
        _log.info("family %s has no use for the labels of regimes; they are not used", plan.family)
    if material.only_discrete and plan.predictor != "none":
        _log.info("no feature is continuous, so nothing is predicted: predictor none, not %s", plan.predictor)
        plan = replace(plan, predictor="none")
    expectation = expect(material, plan)
    fitting, regimes = _to_fit(material, expectation, plan)
    report("preparing", 1, 1)

    density = _fit(fitting, material, expectation, plan, report, curves)

    report("calibrating", 0, 1)
    frequencies = None
    if plan.time_scale.averaged == "frequency":
        frequencies = _frequencies(density, material, plan)
    calibrated = _calibrate(density, material, plan, frequencies)
    report("calibrating", 1, 1)
    return FittedMember(plan, material, fitting, regimes, density, calibrated, frequencies)


@dataclass(frozen=True, slots=True)
class Material:
    """The records of a job in order, transformed, and which model each entity is to have."""

    every_row: TrainingRows
    """Those labelled anomalous among them."""
    rows: TrainingRows
    to_fit: TrainingRows
    to_fit_in_units: FloatArray
    """Their values without logarithms, counters as rates."""
    transforms: FeatureTransforms
    kinds: tuple[Kind, ...]
    """As the family models them."""
    discrete: DiscreteColumns | None
    regimes: tuple[str, ...]
    own: IntArray
    """Entities with coefficients of their own, shape (M - 1,)."""
    model: IntArray
    """Each entity's, shape (E,); M - 1 is the pooled one."""
    interval_s: float

    @property
    def n_models(self) -> int:
        """Return how many models there are, M."""
        return self.own.size + 1

    @property
    def only_discrete(self) -> bool:
        """Return whether there is nothing to predict."""
        return self.discrete is not None and self.discrete.continuous.size == 0

    def serves(self, plan: TrainingPlan) -> bool:
        """Return whether the plan of another member of the committee takes the records alike."""
        if plan.family not in FAMILIES or plan.models != "pooled":
            return False
        return kinds_for(plan.family, self.rows.feature_names, plan.kinds) == self.kinds


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a record is compared with."""

    scaling: Scaling
    predictor: Predictor
    residual_scale: FloatArray
    """Shape (M, D)."""

    def residual(self, rows: TrainingRows, model: IntArray) -> FloatArray:
        """Return what is left of standardised records, in its own standard deviations, shape (N, D)."""
        z = self.scaling.standardise(rows.values, model[rows.entity])
        of_row = model[rows.entity]
        return _left_over(rows, z, self.scaling, self.predictor, model) / self.residual_scale[of_row]


def prepare(
    records: Batch,
    plan: TrainingPlan,
    anomalous: BoolArray | None,
    regime: Sequence[str | None] | None,
) -> Material:
    """Put the records in order, as the plan's family takes them; arguments as ``train_member``.

    Raises:
        TrainingError: The records cannot give a model.
        ValueError: So, too.
    """
    if plan.family not in FAMILIES:
        raise TrainingError(f"no family is called {plan.family!r}; this version knows {', '.join(FAMILIES)}")
    codes, regimes = (None, ()) if regime is None else regime_codes(regime)
    every_row = with_rates(rows_in_order(records, anomalous, codes), plan.types)
    rows = every_row.without_anomalous()
    kinds = kinds_for(plan.family, rows.feature_names, plan.kinds)
    values = without_impossible(rows.values, rows.feature_names, kinds)
    rows = replace(rows, values=without_negative(values, rows.feature_names, plan.scales))
    check_rows_to_train(rows, len(records) - len(rows.time))
    to_fit_in_units = rows.to_fit().values
    transforms = fit_transforms(to_fit_in_units, rows.feature_names, plan.types, plan.scales)
    every_row, rows = (replace(each, values=transforms.scaled(each.values)) for each in (every_row, rows))
    to_fit = rows.to_fit()
    own = np.flatnonzero(np.bincount(to_fit.entity, minlength=len(rows.names)) >= _FEWEST_OWN_ROWS)
    model = np.full(len(rows.names), own.size, dtype=np.int64)
    model[own] = np.arange(own.size)
    if plan.models == "per_entity":
        check_affordable(plan.family, own.size)
    return Material(
        every_row,
        rows,
        to_fit,
        to_fit_in_units,
        transforms,
        kinds,
        discrete_columns(to_fit.values, records.category_texts, kinds),
        regimes,
        own,
        model,
        rows.interval_s,
    )


def expect(material: Material, plan: TrainingPlan) -> Expectation:
    """Fit scaling and predictor of a plan on the rows to fit.

    Raises:
        TrainingError: No entity has enough records for the predictor.
        ValueError: So, too.
    """
    to_fit, model, n_models = material.to_fit, material.model, material.n_models
    of_row = model[to_fit.entity]
    scaling = fit_scaling(to_fit.values, of_row, n_models, material.discrete)
    z = scaling.standardise(to_fit.values, of_row)
    columns = slice(None) if scaling.continuous is None else scaling.continuous
    predictor = fit_predictor(
        plan.predictor,
        z[:, columns],
        to_fit.time,
        to_fit.lengths,
        model[to_fit.run_entity],
        n_models,
        plan.order,
        _extremes(material, scaling, columns),
        local_time(plan.time_zone),
    )
    left_over = _left_over(to_fit, z, scaling, predictor, model)
    warmed_up = to_fit.position >= predictor.warmup_records
    if not warmed_up.any():
        raise TrainingError(
            f"predictor {plan.predictor} needs {predictor.warmup_records} records of an entity before the "
            f"first that can be fitted, and no entity has more than {int(to_fit.lengths.max())} to fit; "
            "give more time, or take predictor none"
        )
    beyond = f"after the first {predictor.warmup_records} fitting records of each entity"
    require_values(to_fit.feature_names, left_over[warmed_up], beyond)
    residual_scale = np.ones((n_models, z.shape[1]))
    if not isinstance(predictor, NoPredictor):
        measured = fit_residual_scale(left_over[warmed_up], z[warmed_up], of_row[warmed_up], n_models)
        residual_scale[:, columns] = measured[:, columns]
    return Expectation(scaling, predictor, residual_scale)


def _extremes(material: Material, scaling: Scaling, columns: IntArray | slice) -> Extremes:
    """Return how far standardised values go, those held out among them: they are as normal as the others."""
    rows, model, n_models = material.rows, material.model, material.n_models
    lowest, highest, n_rows = Extremes.of(rows.values, model[rows.entity], n_models)
    lowest, highest = (scaling.standardise(end, np.arange(n_models))[:, columns] for end in (lowest, highest))
    return Extremes(lowest, highest, n_rows)


def _left_over(
    rows: TrainingRows, z: FloatArray, scaling: Scaling, predictor: Predictor, model: IntArray
) -> FloatArray:
    """Return what a predictor leaves of standardised records, shape (N, D)."""
    before = predictor.initial_state(len(rows.lengths))
    prediction = predict(
        predictor, scaling.continuous, before, z, rows.time, rows.lengths, model[rows.run_entity]
    )
    left_over = z - prediction.expected
    return left_over if prediction.spread is None else left_over / prediction.spread


def _to_fit(
    material: Material, expectation: Expectation, plan: TrainingPlan
) -> tuple[Fitting, tuple[str, ...]]:
    """Return what the family is fitted on, and the names of the regimes that occur there."""
    shown, regimes = material.to_fit, material.regimes
    if plan.family == "vae" and material.every_row.anomalous.any():
        # It sees what it must not learn: at work, the windows of records that follow hold it, too.
        shown = material.every_row.to_fit()
    fitting = Fitting.of(
        shown,
        expectation.residual(shown, material.model),
        material.transforms.warmup_records + expectation.predictor.warmup_records,
        material.interval_s,
        material.discrete,
    )
    if fitting.regime is not None:
        numbers, regimes = those_that_occur(fitting.regime, regimes)
        fitting = replace(fitting, regime=numbers)
    return fitting, regimes


def _fit(
    fitting: Fitting,
    material: Material,
    expectation: Expectation,
    plan: TrainingPlan,
    report: Progress,
    curves: Curves,
) -> Density:
    family = fit_family(plan, fitting, report, curves)
    entity_families = None
    if plan.models == "per_entity":
        fresh = partial(fit_alike, plan, family)
        ways = ways_to_fit(family, fresh, any_covariance="covariance" not in plan.options)
        entity_families = fit_entities(
            family, ways, fitting, material.model, material.n_models, jobs=plan.jobs, progress=report
        )
    return Density(
        expectation.scaling, expectation.predictor, expectation.residual_scale, family, entity_families
    )


def _frequencies(density: Density, material: Material, plan: TrainingPlan) -> Frequencies:
    discrete = material.discrete
    if discrete is None or discrete.columns.size == 0:
        raise TrainingError(
            f"family {plan.family} takes no feature for discrete, so there are no frequencies to average; "
            "average surprise or deviation, or give features a kind and take naive_bayes"
        )
    to_fit, model = material.to_fit, material.model
    z = density.scaling.standardise(to_fit.values, model[to_fit.entity])
    of_run = model[to_fit.run_entity]
    return fit_frequencies(z, to_fit.lengths, of_run, material.n_models, discrete, plan.time_scale.weight)


def _calibrate(
    density: Density, material: Material, plan: TrainingPlan, frequencies: Frequencies | None
) -> Calibrated:
    rows, model = material.rows, material.model
    calibrated = calibrate(
        density,
        density.scaling.standardise(rows.values, model[rows.entity]),
        rows.time,
        lengths=rows.lengths,
        model=model[rows.run_entity],
        held_out=rows.held_out,
        interval_s=material.interval_s,
        min_features=fewest_features(plan.min_features_share, rows.values.shape[1]),
        entity=rows.run_entity,
        typicality=plan.typicality,
        time_scale=plan.time_scale,
        learn=plan.learn == "auto",
        frequencies=frequencies,
    )
    held_out = calibrated.held_out
    if not held_out.span_s.sum() > 0:
        raise ValueError(
            f"the {held_out.p_value.size} held-out records cover no time, so false alarms per time "
            "cannot be counted; check the field that the time is read from"
        )
    return calibrated
