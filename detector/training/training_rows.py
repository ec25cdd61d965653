"""The records of a training job in order: entity after entity, each in time, broken at anomalous ones."""

from dataclasses import dataclass

import numpy as np

from detector.batch import Batch, BoolArray, FloatArray, IntArray
from detector.models.sequences import runs_of, starts_of

HELD_OUT_SHARE = 0.3
_FEWEST_ROWS = 30


class TrainingError(RuntimeError):
    """The records cannot give a model; the message says which and what to do. No bundle was written."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """N records of E entities in R runs: each is of one entity, in time order, with nothing left out."""

    feature_names: tuple[str, ...]
    names: list[str]
    """Of the entities, length E."""
    entity: IntArray
    """Shape (N,), rising."""
    lengths: IntArray
    """Records of each run, shape (R,)."""
    time: FloatArray
    values: FloatArray
    """Shape (N, D)."""
    anomalous: BoolArray
    """Shape (N,), labelled so."""
    regime: IntArray | None
    """Shape (N,), -1 where it is unknown; None without such labels."""
    held_out: BoolArray
    """Shape (N,), the newest 30 % of every entity's records, not counting anomalous ones."""

    @property
    def of_run(self) -> IntArray:
        """Return the run of each record, shape (N,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def run_entity(self) -> IntArray:
        """Return the entity of each run, shape (R,)."""
        return self.entity[starts_of(self.lengths)]

    @property
    def position(self) -> IntArray:
        """Return how many records of its run come before each, shape (N,)."""
        return np.arange(len(self.time)) - np.repeat(starts_of(self.lengths), self.lengths)

    @property
    def gap_s(self) -> FloatArray:
        """Return the seconds since the record before, shape (N,), NaN where a run begins."""
        gap_s = np.diff(self.time, prepend=np.nan)
        gap_s[starts_of(self.lengths)] = np.nan
        return gap_s

    def anomalous_or_after(self, n: int) -> BoolArray:
        """Return which records are anomalous, or have such a one among the n before them, shape (N,)."""
        marked = self.anomalous.copy()
        for back in range(1, n + 1):
            marked[back:] |= self.anomalous[:-back] & (self.position[back:] >= back)
        return marked

    @property
    def interval_s(self) -> float:
        """Return the median time between two records of an entity; 1 where time does not advance."""
        gaps = np.diff(self.time)
        gaps = np.delete(gaps, starts_of(self.lengths)[1:] - 1)
        gaps = gaps[gaps > 0]
        return float(np.median(gaps)) if gaps.size else 1.0

    def without_anomalous(self) -> "TrainingRows":
        """Return the others, a run broken in two wherever records were anomalous."""
        return self._taken(~self.anomalous, self.of_run + np.cumsum(self.anomalous))

    def to_fit(self) -> "TrainingRows":
        """Return those that are not held out: the beginnings of the runs."""
        return self._taken(~self.held_out, self.of_run)

    def _taken(self, kept: BoolArray, of_run: IntArray) -> "TrainingRows":
        return TrainingRows(
            self.feature_names,
            self.names,
            self.entity[kept],
            runs_of(of_run[kept]),
            self.time[kept],
            self.values[kept],
            self.anomalous[kept],
            None if self.regime is None else self.regime[kept],
            self.held_out[kept],
        )


def rows_in_order(
    records: Batch, anomalous: BoolArray | None = None, regime: IntArray | None = None
) -> TrainingRows:
    """Return records in order, a run for every entity.

    Args:
        records: N records in any order.
        anomalous: Which are labelled so, shape (N,); None: none.
        regime: Of each, -1 where it is unknown, shape (N,).

    Raises:
        TrainingError: There are no records.
    """
    names, entity, order = _in_order(records)
    marked = np.zeros(len(order), dtype=np.bool_) if anomalous is None else anomalous[order]
    lengths = runs_of(entity)
    return TrainingRows(
        records.feature_names,
        names,
        entity,
        lengths,
        records.time[order],
        records.values[order],
        marked,
        None if regime is None else regime[order],
        _held_out(marked, lengths),
    )


def newest_to_fit(records: Batch, anomalous: BoolArray | None, most: int, most_each: int) -> BoolArray:
    """Mark records to try a choice on, none of which calibrates what is chosen.

    They are the newest ones to fit of entities that are evenly spaced among all.

    Args:
        records: N records in any order.
        anomalous: Which are labelled so, shape (N,); None: none.
        most: About so many of all.
        most_each: Of an entity, unless there are so few entities that more fit in.

    Returns:
        Shape (N,); anomalous ones between the others are among them.
    """
    names, entity, order = _in_order(records)
    marked = np.zeros(len(order), dtype=np.bool_) if anomalous is None else anomalous[order]
    to_fit = ~_held_out(marked, runs_of(entity))
    n_to_fit = np.bincount(entity[to_fit], minlength=len(names))
    each = min(most_each, max(1, int(np.median(n_to_fit))))
    taken = np.unique(np.linspace(0, len(names) - 1, min(len(names), max(1, most // each))).astype(np.int64))
    older_left_out = np.maximum(n_to_fit - max(1, most // len(taken)), 0)
    place = np.arange(len(order)) - starts_of(runs_of(entity))[entity]
    chosen = to_fit & np.isin(entity, taken) & (place >= older_left_out[entity])
    found = np.zeros(len(order), dtype=np.bool_)
    found[order[chosen]] = True
    return found


def _in_order(records: Batch) -> tuple[list[str], IntArray, IntArray]:
    """Return the entities' names, the entity of each record in order, and the records in order.

    Raises:
        TrainingError: There are no records.
    """
    if len(records) == 0:
        raise TrainingError("there are no records to train on; check the file, the topic and the time range")
    names = sorted(set(records.entity))
    number = {name: i for i, name in enumerate(names)}
    entity = np.fromiter(map(number.__getitem__, records.entity), np.int64, len(records))
    # Stable in both keys: records of the same time stay in the order in which they came.
    by_time = np.argsort(records.time, kind="stable")
    order = by_time[np.argsort(entity[by_time], kind="stable")]
    return names, entity[order], order


def _held_out(anomalous: BoolArray, lengths: IntArray) -> BoolArray:
    starts = starts_of(lengths)
    usual = np.concatenate(([0], np.cumsum(~anomalous)))
    before = usual[:-1] - np.repeat(usual[starts], lengths)
    fitting = np.floor((usual[starts + lengths] - usual[starts]) * (1 - HELD_OUT_SHARE))
    return np.asarray(before >= np.repeat(fitting, lengths))


def check_rows_to_train(rows: TrainingRows, n_anomalous: int = 0) -> None:
    """Refuse records that cannot give a model.

    Args:
        rows: Without anomalous ones.
        n_anomalous: How many were left out.

    Raises:
        TrainingError: They are too few, have no features, or a feature is infinite or nowhere present; a
            time is not finite, or no entity has two records.
    """
    n, d = rows.values.shape
    if d == 0:
        raise TrainingError("the records have no features; name at least one")
    infinite = np.isinf(rows.values)
    if infinite.any():
        row, column = (int(i) for i in np.argwhere(infinite)[0])
        raise TrainingError(
            f"feature {rows.feature_names[column]!r} is infinite in {int(infinite[:, column].sum())} "
            f"records (first at time {rows.time[row]}); drop those or mark the value as missing"
        )
    if n < _FEWEST_ROWS:
        left_out = f" beside {n_anomalous} labelled anomalous" if n_anomalous else ""
        raise TrainingError(
            f"{n} records{left_out} are too few to fit and calibrate on; give at least {_FEWEST_ROWS}, "
            "better some thousands"
        )
    timeless = np.flatnonzero(~np.isfinite(rows.time))
    if timeless.size:
        first = rows.names[rows.entity[timeless[0]]]
        raise TrainingError(
            f"{timeless.size} records have no finite time (the first belongs to entity {first!r}); drop "
            "those, or check the field that the time is read from"
        )
    if rows.held_out.all():
        raise TrainingError(
            f"no entity has a second record, and each of the {len(rows.names)} needs an older one to fit "
            "and a newer one to calibrate on; give more time, or check the field that the entity is read from"
        )
    require_values(rows.feature_names, rows.values[~rows.held_out], "in the oldest 70 % of the records")


def require_values(names: tuple[str, ...], values: FloatArray, where: str) -> None:
    """Refuse features without any value.

    Args:
        names: Of the D features.
        values: Shape (N, D); NaN is missing.
        where: What these rows are, for the message.

    Raises:
        TrainingError: A feature is missing in every row.
    """
    present = np.asarray((~np.isnan(values)).any(axis=0))
    if not present.all():
        absent = [name for name, here in zip(names, present.tolist(), strict=True) if not here]
        raise TrainingError(
            f"features {absent} have no value {where}; check their names (field paths) or leave them out"
        )
