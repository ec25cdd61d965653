"""What people are told of their records: features that are not as declared, probably, or not as before."""

import logging

import numpy as np

from detector.batch import FloatArray
from detector.models.scaling import taken_for_constant
from detector.models.sequences import rows_of_each
from detector.training.plan import TrainingPlan
from detector.training.train_member import Material

_UNLIKE_LEVELS = 5.0
_UNLIKE_SHARE = 0.25
_COMES, _GONE = 0.1, 0.01
_FEWEST_RISES, _MOST_FALLS, _LEFT_AFTER_RESET = 100, 0.01, 0.1

_log = logging.getLogger(__name__)


def remark(material: Material, plan: TrainingPlan) -> None:
    """Log what is remarkable about the features of the records to fit."""
    _name_constants(material)
    _name_totals(material, plan)
    _name_unlike_newest(material)
    _name_gone(material)
    if plan.models == "pooled":
        _name_unlike_counts(material)


def _name_constants(material: Material) -> None:
    """Name the features of which any change is news, however small."""
    to_fit, discrete = material.to_fit, material.discrete
    constant = taken_for_constant(to_fit.values)
    if discrete is not None:
        constant[discrete.columns] = False
    names = [name for name, is_one in zip(to_fit.feature_names, constant, strict=True) if is_one]
    if names:
        _log.info("taken for constant, since they vary by no more than rounding does: %s", ", ".join(names))


def _name_totals(material: Material, plan: TrainingPlan) -> None:
    """Name features that only grow, but for resets: what is normal of them lies ever farther behind."""
    run, values = material.to_fit.of_run, material.to_fit_in_units
    for j, (name, kind) in enumerate(zip(material.to_fit.feature_names, material.kinds, strict=True)):
        if kind not in ("continuous", "count") or plan.types.get(name) == "counter":
            continue
        before, after = values[:-1, j], values[1:, j]
        rises, falls = ((run[1:] == run[:-1]) & side for side in (after > before, after < before))
        reset = falls & (after <= _LEFT_AFTER_RESET * before)
        few = falls.sum() <= _MOST_FALLS * rises.sum()
        if rises.sum() >= _FEWEST_RISES and few and (reset == falls).all():
            _log.warning(
                "the feature %s only grows, but for %d resets: if it is a total, declare type: counter, "
                "and its rate is watched; a change of pace is hardly heard in a total",
                name,
                int(falls.sum()),
            )


def _name_unlike_newest(material: Material) -> None:
    """Name features whose held-out values are where none of their entity was before: another season, say."""
    rows, to_fit = material.rows, material.to_fit
    beyond, present = np.zeros(rows.values.shape[1]), np.zeros(rows.values.shape[1])
    held_out = np.flatnonzero(rows.held_out)
    older_rows = rows_of_each(to_fit.entity, len(rows.names))
    newest_rows = rows_of_each(rows.entity[held_out], len(rows.names))
    for entity in material.own.tolist():
        older, newest = to_fit.values[older_rows[entity]], rows.values[held_out[newest_rows[entity]]]
        lowest, highest = np.fmin.reduce(older), np.fmax.reduce(older)
        beyond += ((newest < lowest) | (newest > highest)).sum(axis=0)
        present += (~np.isnan(newest)).sum(axis=0)
    share = beyond / np.maximum(present, 1.0)
    share[taken_for_constant(to_fit.values)] = 0.0
    for name, kind, of_feature in zip(rows.feature_names, material.kinds, share.tolist(), strict=True):
        if kind in ("continuous", "count") and of_feature >= _UNLIKE_SHARE:
            _log.warning(
                "%.0f%% of the newest 30%% of values of %s are beyond all older ones: how rare surprise is "
                "was measured on these, unlike what the model knows, so it may be deaf to what matters; "
                "train on more time, or on what is normal by now",
                100.0 * of_feature,
                name,
            )


def _name_gone(material: Material) -> None:
    """Name features that older records have, and of the held-out ones next to none."""
    fitted = _present(material.to_fit.values)
    held_out = _present(material.rows.values[material.rows.held_out])
    for name, before, now in zip(
        material.rows.feature_names, fitted.tolist(), held_out.tolist(), strict=True
    ):
        if before >= _COMES and now < _GONE:
            _log.warning(
                "%s comes in %.0f%% of the older records and in %.2g%% of the newest 30%%: how rare surprise "
                "is was measured without it, so p-values of records with it are too low; leave it out of "
                "the features if it is gone for good, or train on records that have it",
                name,
                100.0 * before,
                100.0 * now,
            )


def _present(values: FloatArray) -> FloatArray:
    return np.asarray((~np.isnan(values)).mean(axis=0))


def _name_unlike_counts(material: Material) -> None:
    """Name counts of which entities have so unlike levels that one's usual values hide another's jumps."""
    to_fit = material.to_fit
    rows = rows_of_each(to_fit.entity, len(to_fit.names))
    for j, (name, kind) in enumerate(zip(to_fit.feature_names, material.kinds, strict=True)):
        if kind != "count":
            continue
        columns = (to_fit.values[rows[entity], j] for entity in material.own.tolist())
        levels = [float(np.nanmedian(column)) for column in columns if not np.isnan(column).all()]
        if len(levels) < 2:
            continue
        low = float(np.quantile(levels, 0.25, method="lower"))
        high = float(np.quantile(levels, 0.75, method="higher"))
        # Of counts near 0 a small step is a large factor.
        if high + 1.0 > _UNLIKE_LEVELS * (low + 1.0):
            _log.warning(
                "the count %s has unlike levels (%g in the lower quarter of entities, %g in the upper one) "
                "and no scale for each: a change from one to the other is hardly heard; declare it "
                "continuous, perhaps with scale: log, or take training.models: per_entity",
                name,
                low,
                high,
            )
