"""Why rows of a batch are improbable, for the few that alerts are explained by."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from detector.alerting.event import Explained, FeatureReason, Frequency, Stuck
from detector.alerting.own_level import OwnLevel
from detector.batch import Batch, BoolArray, FloatArray, IntArray
from detector.models.contract import Explanation, Regime
from detector.models.sequences import starts_of
from detector.pipeline.detector import Detector
from detector.pipeline.entity_state import EntityState
from detector.pipeline.rows import Rows, Said, rows_of, score
from detector.scoring.frequencies import ANY_OTHER, COUNT, Strayed
from detector.scoring.lead_up import Loud, Seen, most_surprising
from detector.scoring.member import Member

_TOP_FEATURES = 5
_CLEARLY_MORE, _LEAST_CAUSE_NATS = 2.0, 3.0
"""Another feature is the cause if it surprises so many times as much as the one told of, and by more nats."""


def account(detector: Detector, state: EntityState, batch: Batch, member: int) -> tuple[FeatureReason, ...]:
    """Return what a member of the committee says of every feature of a record, in the model's order.

    Args:
        detector: Model, rules and threshold.
        state: Of the record's entity before the record, one row.
        batch: One record.
        member: Its index.
    """
    one = np.ones(1, dtype=np.int64)
    rows = rows_of(detector, state, batch, one - 1, one)
    _, _, said = score(detector, state, batch, rows)
    heard = said._replace(member=np.array([member]), too_likely=np.zeros(1, dtype=bool))
    return Explainer(detector, batch, rows, state, heard).all_features(0)


@dataclass(slots=True)
class Explainer:
    """Why rows of a batch are improbable, for the few that alerts are explained by."""

    detector: Detector
    batch: Batch
    rows: Rows
    before: EntityState
    said: Said
    levels: dict[int, OwnLevel] = field(default_factory=dict)
    """Of rows that stand out of what has become normal: explained by that."""
    _reached: dict[tuple[int, int], tuple[int, FloatArray]] = field(default_factory=dict)
    _strayed_rows: dict[int, Strayed] = field(default_factory=dict)
    _starts: IntArray = field(init=False)
    """The first row of every entity."""

    def __post_init__(self) -> None:
        self._starts = starts_of(self.rows.lengths)

    def explained(self, row: int, led_up: tuple[Loud, ...]) -> Explained:
        """Return why a row is improbable, and the average of the row and what led up to it.

        Rows of one entity must be asked for in rising order.
        """
        time = float(self.batch.time[self.rows.order[row]])
        return Explained(time, self._reasons(row, led_up), self._regime(row))

    def moved(self, row: int, before: Explained) -> Explained | None:
        """Return the same of a row by itself if another feature is clearly the cause by now, else None."""
        if self.said.too_likely[row]:
            return None
        now = self.explained(row, ())
        return now if _is_other_cause(before.reasons, now.reasons) else None

    def loud(self, row: int, members: Sequence[int]) -> Loud:
        """Return a row as members saw it; rows of one entity must be asked for in rising order."""
        seen = {}
        for k in members:
            own = self.said.conditionals[k]
            seen[k] = Seen(
                self._state_before(k, row)[1] if self._family_rows(k).shape[1] else np.empty((1, 0)),
                self._residual(k, row),
                own.expected[row : row + 1].copy(),
                None if own.spread is None else own.spread[row : row + 1].copy(),
            )
        values, scaled = self.rows.values[row].copy(), self.rows.scaled[row : row + 1].copy()
        return Loud(values, scaled, self.rows.gap_s[row : row + 1].copy(), seen)

    def _residual(self, member: int, row: int) -> FloatArray:
        """Return what the member's family is to explain, shape (1, D): drifts, where it hears these."""
        residual = self.said.conditionals[member].residual[row : row + 1].copy()
        drifts = self.said.drifts[member]
        if drifts is not None and self.detector.model.members[member].frequencies is None:
            columns = self.detector.model.members[member].density.scaling.continuous
            at = np.arange(residual.shape[1]) if columns is None else columns
            residual[0, at] = np.where(np.isnan(residual[0, at]), np.nan, drifts[row])
        return residual

    def _reasons(self, row: int, led_up: tuple[Loud, ...]) -> tuple[FeatureReason, ...]:
        """Return the features that surprised most (least, if too likely), with what they should have been.

        Those that are an alert by themselves come first. They are those of the member that was heard.
        """
        explanation, actual = self._explained(row, led_up)
        nats = explanation.nats[0]
        least = self.said.too_likely[row] and row not in self.levels
        order = np.argsort(nats if least else -nats, kind="stable")
        by_rule = self._by_rule(row, actual)
        order = np.concatenate((order[by_rule[order]], order[~by_rule[order]]))
        top = [int(j) for j in order if not np.isnan(nats[j])][:_TOP_FEATURES]
        return tuple(self._reason(row, j, float(actual[j]), explanation) for j in top)

    def all_features(self, row: int) -> tuple[FeatureReason, ...]:
        """Return every feature's part, in the model's order; nats are NaN where the record lacks it."""
        explanation, actual = self._explained(row, ())
        return tuple(self._reason(row, j, float(actual[j]), explanation) for j in range(actual.size))

    def _by_rule(self, row: int, actual: FloatArray) -> BoolArray:
        """Return which features are an alert by themselves, shape (D,)."""
        found = np.zeros(actual.size, dtype=bool)
        rules, stayed = self.detector.feature_rules, self.rows.stayed
        if rules is not None:
            found |= rules.out_of_range(actual)
        if stayed is not None:
            found[stayed.rules.columns[stayed.stuck[row]]] = True
        return found

    def _explained(self, row: int, led_up: tuple[Loud, ...]) -> tuple[Explanation, FloatArray]:
        """Return what was expected, in the units of the data, with nats beyond the usual, and the values.

        Of an average every feature is explained where it surprised most; but texts and what is an alert by
        itself are those of the row.
        """
        if row in self.levels:
            return self._against_level(row)
        k, model = int(self.said.member[row]), self.detector.model
        member, actual = model.members[k], self.rows.values[row]
        records: tuple[Loud, ...] = (self.loud(row, [k]),)
        if averages_surprise(member) and not self.said.too_likely[row]:
            records = (*led_up, *records)
        of_model = int(self.before.model[self._entity(row)])
        explanations = [loud.explained(k, member.density, of_model, model.transforms) for loud in records]
        strayed = self._strayed(row)
        if strayed is not None:
            # The member heard nothing else, whatever else this record may be.
            said = np.where(np.isnan(explanations[0].nats), np.nan, 0.0)
            nats = np.where(np.isnan(strayed.nats), said, strayed.nats)
            return replace(explanations[0], nats=nats), actual
        newest = np.array([model.vocabulary(j) is not None for j in range(actual.size)])
        newest |= self._by_rule(row, actual)
        return most_surprising(explanations, [loud.values for loud in records], newest)

    def _against_level(self, row: int) -> tuple[Explanation, FloatArray]:
        """Return the same by what the entity has been like of late, of other features by the first member."""
        model, level = self.detector.model, self.levels[row]
        density, seen = model.density, self.loud(row, [0])
        of_model = int(self.before.model[self._entity(row)])
        found = seen.explained(0, density, of_model, model.transforms)
        own, of_one = seen.by_member[0], np.array([of_model])
        columns = density.scaling.continuous
        at = np.arange(model.n_features) if columns is None else columns
        # Beside the features, a level has what the committee said of them.
        surprise = level.surprise(np.append(own.residual[0, at], np.nan))[:-1]
        inner = Explanation(found.nats.copy(), np.zeros_like(found.nats), np.ones_like(found.nats))
        inner.nats[0, at], inner.expected[0, at], inner.std[0, at] = (
            surprise,
            level.location[:-1],
            level.spread[:-1],
        )
        in_units = model.transforms.explained_in_units(
            density.in_units(inner, own.expected, of_one, density.unit_of(of_one, own.spread)), seen.scaled
        )
        expected, std = found.expected.copy(), found.std.copy()
        expected[0, at], std[0, at] = in_units.expected[0, at], in_units.std[0, at]
        return Explanation(inner.nats, expected, std), seen.values

    def _reason(self, row: int, j: int, actual: float, explanation: Explanation) -> FeatureReason:
        """Return feature j's part in a row; a category is told by its text and has no spread."""
        model, rules = self.detector.model, self.detector.feature_rules
        expected, std = float(explanation.expected[0, j]), float(explanation.std[0, j])
        vocabulary = model.vocabulary(j)
        return FeatureReason(
            feature=model.feature_names[j],
            actual=actual if vocabulary is None else self.batch.category_texts.get(actual),
            expected=expected if vocabulary is None else vocabulary.text(expected),
            std=None if vocabulary is not None or np.isnan(std) else std,
            nats=float(explanation.nats[0, j]),
            unit=model.units[j],
            valid_range=None if rules is None else rules.range_left(j, actual),
            stuck=self._stuck(row, j),
            frequency=self._frequency(row, j),
        )

    def _strayed(self, row: int) -> Strayed | None:
        """Return how often values came of late, if it is that which the row is told of for."""
        if row not in self._strayed_rows:
            k = int(self.said.member[row])
            member, averages = self.detector.model.members[k], self.said.drifts[k]
            if row in self.levels or member.frequencies is None or averages is None:
                return None
            of_model, part = self.before.model[[self._entity(row)]], slice(row, row + 1)
            self._strayed_rows[row] = member.frequencies.strayed(
                averages[part], of_model, member.time_scale.weight, np.isnan(self.rows.values[part])
            )
        return self._strayed_rows[row]

    def _frequency(self, row: int, j: int) -> Frequency | None:
        """Return how often that value of feature j came of late whose frequency surprises most."""
        strayed = self._strayed(row)
        if strayed is None or np.isnan(strayed.nats[0, j]):
            return None
        category, vocabulary = float(strayed.category[0, j]), self.detector.model.vocabulary(j)
        value: str | float | None = None
        if category not in (ANY_OTHER, COUNT):
            value = category if vocabulary is None else vocabulary.text(category)
        return Frequency(
            "mean" if category == COUNT else "share",
            value,
            float(strayed.average[0, j]),
            float(strayed.usual[0, j]),
            self.detector.model.members[int(self.said.member[row])].time_scale.records,
        )

    def _stuck(self, row: int, j: int) -> Stuck | None:
        """Return for how long feature j of a row has been the same, if that is too long."""
        stayed, at = self.rows.stayed, self.rows.order[row]
        if stayed is None:
            return None
        of_feature = (stayed.rules.columns == j) & stayed.stuck[row]
        if not of_feature.any():
            return None
        since = float(stayed.since[row, of_feature][0])
        after_s = float(stayed.rules.after_s[of_feature][0])
        return Stuck(float(self.batch.values[at, j]), since, float(self.batch.time[at]) - since, after_s)

    def _regime(self, row: int) -> Regime | None:
        """Return the most probable cause of a row."""
        k = int(self.said.member[row])
        e, family_row = self._state_before(k, row)
        residual = self.said.conditionals[k].residual[row : row + 1]
        family = self.detector.model.members[k].density.family_of(int(self.before.model[e]))
        return family.regime(family_row, residual, self.rows.gap_s[row : row + 1])

    def _state_before(self, k: int, row: int) -> tuple[int, FloatArray]:
        """Return the row's entity and the state of member k's family before the row, (1, state_size).

        The entity's past within the batch is run again, each part of it once: keeping the state before every
        row would cost every row.
        """
        e = self._entity(row)
        start = int(self._starts[e])
        reached, state = self._reached.get((k, e), (start, self._family_rows(k)[e : e + 1].copy()))
        if row > reached and state.size:
            part = slice(reached, row)
            state, _ = self.detector.model.members[k].density.scan_family(
                state,
                self.said.conditionals[k].residual[part],
                self.rows.gap_s[part],
                np.array([row - reached]),
                self.before.model[e : e + 1],
            )
        self._reached[k, e] = row, state
        return e, state

    def _family_rows(self, k: int) -> FloatArray:
        """Return the state of member k's family before the batch, (E, state_size)."""
        return self.before.family[self.detector.model.density_of[k]]

    def _entity(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1


def _is_other_cause(before: tuple[FeatureReason, ...], now: tuple[FeatureReason, ...]) -> bool:
    """Say whether the first feature of a record is clearly another than that of a record before.

    Features that surprise about as much would otherwise take turns.
    """
    if not before or not now:
        return bool(now)
    first, *others = now
    # Of what is not listed no more is known than that it surprises less than the last one that is.
    weight = {reason.feature: _weight(reason) for reason in others}
    told = before[0].feature
    left = weight.get(told, min(weight.values(), default=0.0))
    return told != first.feature and _weight(first) > max(_CLEARLY_MORE * left, _LEAST_CAUSE_NATS)


def _weight(reason: FeatureReason) -> float:
    """Return the nats of a reason; what is an alert by itself is the cause whatever they are."""
    by_itself = reason.valid_range is not None or reason.stuck is not None
    return float("inf") if by_itself else reason.nats


def averages_surprise(member: Member) -> bool:
    """Whether a member speaks of more than the newest record, and of how improbable they were."""
    return member.time_scale.is_average and not member.time_scale.adds_up
