"""Which suspicious rows count, by the operator's rules over features and over entities."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.alerting.feature_rules import FeatureRules
from detector.batch import BoolArray, FloatArray, IntArray, OperatorRule
from detector.models.sequences import runs_of, starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState
from detector.pipeline.rows import Rows, Said
from detector.scoring.explained_rows import explain_rows


def ruled(
    detector: Detector,
    before: EntityState,
    after: EntityState,
    rows: Rows,
    scored: BoolArray,
    said: Said,
    anomaly_score: FloatArray,
) -> tuple[EntityState, FloatArray, NDArray[np.int8]]:
    """Let the operator's rules decide over the M scored rows.

    Returns:
        The state after, the scores that alerts go by, shape (M,), and the rule that decided, shape (M,).
    """
    position = np.flatnonzero(scored)
    entity = np.repeat(np.arange(len(rows.lengths)), rows.lengths).take(position)
    judged, rule = anomaly_score.copy(), np.zeros(len(position), dtype=np.int8)
    features = detector.feature_rules
    if features is not None:
        if features.judges_deviations:
            after, rule = _deviations(detector, features, before, after, rows, position, entity, said, judged)
        if rows.stayed is not None:
            _raise(judged, rule, rows.stayed.stuck.take(position, axis=0), OperatorRule.STUCK)
        outside = features.out_of_range(rows.values.take(position, axis=0))
        _raise(judged, rule, outside, OperatorRule.OUT_OF_RANGE)
    if detector.entity_rules is not None:
        rule[detector.entity_rules.muted[before.override[entity]] & (judged >= 1.0)] = OperatorRule.MUTED
    judged[(rule == OperatorRule.DEVIATION) | (rule == OperatorRule.MUTED)] = 0.0
    return after, judged, rule


def _raise(judged: FloatArray, rule: NDArray[np.int8], values: BoolArray, by: OperatorRule) -> None:
    """Make rows suspicious by a rule that says so of some of their values, in place."""
    rows = values.any(axis=1)
    rule[rows] = by
    judged[rows] = np.maximum(judged[rows], 1.0)


def _deviations(
    detector: Detector,
    features: FeatureRules,
    before: EntityState,
    after: EntityState,
    rows: Rows,
    position: IntArray,
    entity: IntArray,
    said: Said,
    anomaly_score: FloatArray,
) -> tuple[EntityState, NDArray[np.int8]]:
    """Find suspicious rows whose deviations do not matter; arguments and answer as in ``ruled``."""
    rule = np.zeros(len(position), dtype=np.int8)
    suspicious = anomaly_score >= 1.0
    own = runs_of(entity)
    with_scores = entity[starts_of(own)]
    matters = before.matters.copy()
    if not suspicious.any():
        matters[with_scores] = np.nan
        return replace(after, matters=matters), rule
    at = position[suspicious]
    nats, weight = np.empty((len(at), 2)), np.empty(len(at))
    transforms = detector.model.transforms
    for k, member in enumerate(detector.model.members):
        heard = said.member[at] == k
        if not heard.any():
            continue
        part = at[heard]
        weight[heard], averages = member.time_scale.weight, said.drifts[k]
        if member.frequencies is not None and averages is not None:
            model, missing = before.model[entity[suspicious][heard]], np.isnan(rows.values[part])
            strayed = member.frequencies.strayed(averages[part], model, member.time_scale.weight, missing)
            # The most surprising feature spoke; chance moves the others.
            over = np.maximum(np.nan_to_num(strayed.nats), 0.0)
            over = np.where(over == over.max(axis=1, keepdims=True), over, 0.0)
            nats[heard] = features.nats_that_matter(over, strayed.average, strayed.usual)
            continue
        explanation = explain_rows(
            member.density,
            before.family[detector.model.density_of[k]],
            said.conditionals[k],
            rows.gap_s,
            rows.lengths,
            before.model,
            part,
        )
        in_units = transforms.explained_in_units(explanation, rows.scaled[part])
        nats[heard] = features.excess_nats(explanation, rows.values[part], in_units.expected)
    matters[with_scores], share = features.shares(matters[with_scores], nats, weight, suspicious, own)
    stays = features.stays(share, anomaly_score[suspicious], said.too_likely[at])
    rule[np.flatnonzero(suspicious)[~stays]] = OperatorRule.DEVIATION
    return replace(after, matters=matters), rule
