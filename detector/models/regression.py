"""The next record is expected by a regression on the entity's own past, which is learnt on for ever."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.blocks import blocks_of, teaching_weight
from detector.models.contract import Arrays, Prediction
from detector.models.local_time import UTC, LocalTime
from detector.models.seasonal import BINS_PER_DAY, season_of
from detector.models.sequences import lagged, running_last_of_columns, starts_of

BLOCK = 64
"""Records of an entity after which its regression is known anew."""
HOUR_S = 3600.0
N_REGRESSORS = 4
"""One, the last value, the one before, and the usual value at this hour."""
RIDGE = 10.0
"""Records' worth of belief in the coefficients of the bundle."""
_RIDGE_OF_INTERCEPT = 1e-3
_LARGEST = 10.0
"""Standardised; a regressor farther beyond the training mean and the last block's counts as one so far."""
_FARTHEST_TAUGHT = 5.0
"""Residual standard deviations; a value farther out teaches no more than one so far out."""
_RATE = 0.15
"""Of one record, at which the usual value at an hour is forgotten at least: a whole hour leaves nothing."""
_MOST_PER_MINUTE = 2.0
"""Records' worth: a minute teaches one, and weights are rounded up to twice of what they are."""
_RATE_OF_VARIANCE = 0.002
_NARROWEST = 1e-3
# Hours of working days, then of Saturday and Sunday.
_HOURS = BINS_PER_DAY // 2
_SLOTS = 2 * _HOURS
_PAIRS = [(i, j) for i in range(N_REGRESSORS) for j in range(i, N_REGRESSORS)]


@dataclass(frozen=True, slots=True)
class RegressionPredictor:
    """Expects a linear function of the entity's last two values and its usual value at this hour.

    Every feature is regressed on itself. The coefficients start as the bundle's, and become those of a
    ridge regression over all that the entity has sent since. They are known anew after every 64 records
    of an entity, so a batch of any size sees the same. Absurd values are bounded, around what the last block
    taught, so an entity may drift as far as it likes. What is usual at an hour is the median of the last
    three times that it came, working days and weekends apart, so one day's incident does not become it;
    of records so slow that a block holds several days, they are those of the last three blocks. A missing
    value is passed over, and the next record is compared with those before as one whose past is missing: to
    hide the last two values is to take those of about a hundred records ago, as old as after a long absence.

    References:
        Hoerl and Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems.
    """

    name: ClassVar[str] = "regression"
    each_by_itself: ClassVar[bool] = True
    coefficients: FloatArray
    """Shape (M, 4, D), standardised, that an entity begins with."""
    variance: FloatArray
    """Shape (M, D), of what they left in training."""
    local_time: LocalTime = UTC
    """Whose hours."""

    @property
    def n_features(self) -> int:
        return int(self.variance.shape[1])

    @property
    def warmup_records(self) -> int:
        return 1

    @property
    def state_size(self) -> int:
        return _State.PARTS * self.n_features + _State.UNUSED + 2

    def initial_state(self, n: int) -> FloatArray:
        state = _State(np.zeros((n, self.state_size)), self.n_features)
        for part in (state.last, state.before_last, state.variance, state.time):
            part[:] = np.nan
        state.mean_before[:], state.mean_before_that[:] = np.nan, np.nan
        return state.rows

    def scan(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray, model: IntArray
    ) -> Prediction:
        rows = rows.copy()
        state = _State(rows, self.n_features)
        self._begin(state, model)
        starts = starts_of(lengths)
        weight = teaching_weight(time - lagged(time, state.time, starts))
        last, before_last = _last_two(state, x, lengths)
        past_missing = _lacked(state, x, lengths)
        clock = self.local_time.of(time)
        hour = _hour_of(clock)
        expected = np.empty_like(x)
        for block in blocks_of(state.seen.astype(np.int64), lengths, BLOCK):
            everybody = len(block.runs) == len(rows)
            own = state if everybody else _State(rows[block.runs], self.n_features)
            at = block.rows
            run = np.repeat(np.arange(len(block.runs)), block.lengths)
            regressors = [
                np.ones_like(x[at]),
                *(own.bounded(past[at], run) for past in (last, before_last)),
                own.bounded(own.usual(run, hour[at]), run),
            ]
            found = np.zeros_like(x[at])
            for i, regressor in enumerate(regressors):
                found += regressor * own.coefficients[:, i][run]
            expected[at] = found
            own.remember(x[at], found, regressors, hour[at], weight[at], run)
            own.seen += block.lengths
            ends = at[starts_of(block.lengths) + block.lengths - 1]
            own.learn(block.completes, clock[ends], self.coefficients[model[block.runs]])
            own.keep(block.completes, last[ends], before_last[ends])
            if not everybody:
                rows[block.runs] = own.rows
        state.time[:] = time[starts + lengths - 1]
        return Prediction(rows, expected, past_missing)

    def _begin(self, state: "_State", model: IntArray) -> None:
        """Give entities never seen what the bundle says of them."""
        new = np.isnan(state.variance).any(axis=1)
        if new.any():
            state.coefficients[new] = self.coefficients[model[new]]
            state.variance[new] = self.variance[model[new]]

    def hide(self, rows: FloatArray, hidden: BoolArray) -> FloatArray:
        rows = rows.copy()
        state = _State(rows, self.n_features)
        last, before_last = np.split(np.broadcast_to(hidden, (len(rows), 2 * self.n_features)), 2, axis=1)
        lacked, lacked_before = state.lacked > 0, state.lacked_before > 0
        long_ago, before_long_ago = state.kept_of_block_before[:, 0], state.kept_of_block_before[:, 1]
        # Values from before a longer absence are already as old as they are then.
        both = last & before_last & ~(lacked & lacked_before)
        only_last, only_before = last & ~before_last & ~lacked, before_last & ~last & ~lacked_before
        state.last[:] = np.where(both, long_ago, np.where(only_last, state.before_last, state.last))
        state.before_last[:] = np.where(both | only_before, before_long_ago, state.before_last)
        state.lacked[:], state.lacked_before[:] = lacked | last, lacked_before | before_last
        return rows

    def arrays(self) -> Arrays:
        own = {"coefficients": self.coefficients, "variance": self.variance}
        return own | self.local_time.arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        predictor = cls(arrays["coefficients"], arrays["variance"], LocalTime.from_arrays(arrays))
        n_models = len(predictor.variance)
        if predictor.variance.shape != (n_models, n_features):
            raise ValueError(f"variance {predictor.variance.shape} must be (M, {n_features})")
        if predictor.coefficients.shape != (n_models, N_REGRESSORS, n_features):
            raise ValueError(
                f"coefficients {predictor.coefficients.shape} must be "
                f"({n_models}, {N_REGRESSORS}, {n_features})"
            )
        if not (np.isfinite(predictor.coefficients).all() and (predictor.variance > 0).all()):
            raise ValueError("coefficients hold a value that is not finite, or a variance is not positive")
        return predictor


class _State:
    """What is remembered of E entities; parts of ``rows``, (E, ..., D) each, but for the last two."""

    _SIZES = (1, 1, 1, 1, 1, N_REGRESSORS, len(_PAIRS), N_REGRESSORS, len(_PAIRS), N_REGRESSORS, 2)
    _FIRST = sum(_SIZES) + 6 * _SLOTS
    PARTS = _FIRST + 6
    UNUSED = 2
    """Columns where examples in bundles of before have the last two; later parts follow."""

    def __init__(self, rows: FloatArray, d: int) -> None:
        self.rows = rows
        parts: list[FloatArray] = []
        start = 0
        for size in (*self._SIZES, *(6 * [_SLOTS])):
            parts.append(rows[:, start : start + size * d].reshape(len(rows), size, d))
            start += size * d
        self.last, self.before_last = parts[0][:, 0], parts[1][:, 0]
        self.variance, self.known_from = parts[2][:, 0], parts[3][:, 0]
        """Of residuals, and the weight of those it rests on."""
        self.centre = parts[4][:, 0]
        """The mean of what the last block taught, 0 before the first."""
        self.coefficients = parts[5]
        self.products, self.targets = parts[6:8]
        """Sums over all blocks: of products of two regressors, and of a regressor and the value."""
        self.new_products, self.new_targets, self.new_squares = parts[8:11]
        """The same of the open block, and weight and sum of squared residuals."""
        self.usual_value, self.usual_from, self.hour_sum, self.hour_weight = parts[11:15]
        """Of each hour, the weight of the values that it rests on, and sums over when it comes."""
        self.mean_before, self.mean_before_that = parts[15:]
        """Of each hour, when it came last and the time before that; NaN where it did not."""
        later = rows[:, self._FIRST * d + self.UNUSED : -2].reshape(len(rows), 6, d)
        self.lacked, self.lacked_before = later[:, 0], later[:, 1]
        """1 where the newest record, and the one before, lacked the value, else 0."""
        self.kept = later[:, 2:4]
        """The last two values before the last record of the newest whole block; 0, none."""
        self.kept_of_block_before = later[:, 4:]
        self.seen, self.time = rows[:, -2], rows[:, -1]

    def bounded(self, regressor: FloatArray, run: IntArray) -> FloatArray:
        """Return a regressor as it counts, (n, D)."""
        # What was in training counts wherever the entity is, or its return would be news for a block.
        lowest, highest = np.minimum(self.centre, 0.0) - _LARGEST, np.maximum(self.centre, 0.0) + _LARGEST
        return np.asarray(np.clip(regressor, lowest[run], highest[run]))

    def usual(self, run: IntArray, hour: IntArray) -> FloatArray:
        """Return the usual value at each row's hour, (n, D): of working days, where weekends are unknown."""
        same_on_workday = hour % _HOURS
        found = np.where(
            self.usual_from[run, same_on_workday] > 0, self.usual_value[run, same_on_workday], 0.0
        )
        return np.where(self.usual_from[run, hour] > 0, self.usual_value[run, hour], found)

    def remember(
        self,
        x: FloatArray,
        expected: FloatArray,
        regressors: list[FloatArray],
        hour: IntArray,
        weight: FloatArray,
        run: IntArray,
    ) -> None:
        """Take in the values of one block, shape (n, D)."""
        present = ~np.isnan(x)
        taught = np.where(present, weight[:, None], 0.0)
        farthest = _FARTHEST_TAUGHT * np.sqrt(self.variance)[run]
        residual = np.where(present, np.clip(x - expected, -farthest, farthest), 0.0)
        target = expected + residual
        sums = [taught * regressors[i] * regressors[j] for i, j in _PAIRS]
        # One row after the other, so that the sums are the same wherever batches begin.
        np.add.at(self.new_products, run, np.stack(sums, axis=1))
        np.add.at(self.new_targets, run, np.stack([taught * r * target for r in regressors], axis=1))
        np.add.at(self.new_squares, run, np.stack([taught, taught * residual**2], axis=1))
        np.add.at(self.hour_sum, (run, hour), taught * np.where(present, x, 0.0))
        np.add.at(self.hour_weight, (run, hour), taught)

    def learn(self, completes: BoolArray, newest: FloatArray, believed: FloatArray) -> None:
        """Solve for the runs whose block is complete.

        Args:
            completes: Shape (E,).
            newest: What clocks showed at their newest record, seconds, shape (E,).
            believed: Coefficients of the bundle, shape (E, 4, D).
        """
        done = np.flatnonzero(completes)
        if done.size == 0:
            return
        self.products[done] += self.new_products[done]
        self.targets[done] += self.new_targets[done]
        self.coefficients[done] = _solved(self.products[done], self.targets[done], believed[done])
        n, squares = self.new_squares[done, 0], self.new_squares[done, 1]
        known = self.known_from[done]
        some = np.maximum(n, np.finfo(np.float64).tiny)
        self.centre[done] = np.where(n > 0, self.new_targets[done, 0] / some, self.centre[done])
        rate = np.maximum(n / (known + some), np.minimum(_RATE_OF_VARIANCE * n, 1.0))
        moved = self.variance[done] + rate * (squares / some - self.variance[done])
        self.variance[done] = np.maximum(moved, _NARROWEST**2)
        self.known_from[done] = known + n

        for part in (self.new_products, self.new_targets, self.new_squares):
            part[done] = 0.0
        self.seen[done] = 0.0
        self._learn_hours(done, newest[done])

    def keep(self, completes: BoolArray, last: FloatArray, before_last: FloatArray) -> None:
        """Keep what the newest record leant on, shape (E, D) each, of the runs whose block is complete."""
        self.kept_of_block_before[completes] = self.kept[completes]
        self.kept[completes] = np.stack([last, before_last], axis=1)[completes]

    def _learn_hours(self, done: IntArray, newest: FloatArray) -> None:
        """Take in the hours that are over, of the runs ``done``."""
        over = self.hour_weight[done] > 0
        lasts = (np.arange(len(done)), _hour_of(newest))
        # The newest hour is not over yet, unless it taught so much that some of it was another day's.
        minutes = newest % HOUR_S / 60.0
        over[lasts] &= self.hour_weight[done][lasts] > 1.0 + _MOST_PER_MINUTE * minutes[:, None]
        run, hour, feature = np.nonzero(over)
        at = (done[run], hour, feature)
        weight, known = self.hour_weight[at], self.usual_from[at]
        mean = self.hour_sum[at] / weight
        rate = np.maximum(weight / (known + weight), 1.0 - (1.0 - _RATE) ** weight)
        # One incident is not what is usual, however long; what comes again is.
        usual = _median_of_known(mean, self.mean_before[at], self.mean_before_that[at])
        self.usual_value[at] += rate * (usual - self.usual_value[at])
        self.usual_from[at] = known + weight
        self.mean_before_that[at] = self.mean_before[at]
        self.mean_before[at] = mean
        self.hour_sum[at] = self.hour_weight[at] = 0.0


def _median_of_known(newest: FloatArray, *before: FloatArray) -> FloatArray:
    """Return the median of three values, shape (n,), of which the two before may be NaN."""
    ordered = np.sort(np.stack([newest, *before]), axis=0)
    known = np.count_nonzero(~np.isnan(ordered), axis=0)
    row = np.arange(len(newest))
    return np.asarray((ordered[(known - 1) // 2, row] + ordered[known // 2, row]) / 2)


def _solved(products: FloatArray, targets: FloatArray, believed: FloatArray) -> FloatArray:
    """Return coefficients of ridge regressions towards ``believed``, shape (E, 4, D)."""
    gram = np.empty((len(products), products.shape[2], N_REGRESSORS, N_REGRESSORS))
    for k, (i, j) in enumerate(_PAIRS):
        gram[:, :, i, j] = gram[:, :, j, i] = products[:, k]
    centre = believed.swapaxes(1, 2)
    explained = np.zeros_like(centre)
    for i in range(N_REGRESSORS):
        explained += gram[:, :, :, i] * centre[:, :, i, None]
    left = targets.swapaxes(1, 2) - explained
    gram += np.diag([_RIDGE_OF_INTERCEPT] + [RIDGE] * (N_REGRESSORS - 1))
    # Each system is solved by itself, so its bits do not depend on the others.
    moved = np.linalg.solve(gram, left[..., None])[..., 0]
    return np.asarray((centre + moved).swapaxes(1, 2))


def _last_two(state: _State, x: FloatArray, lengths: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the last two present values before each row, shape (N, D) each; moves ``state`` on.

    Where there is only one, it counts twice; without any they are 0, the training mean.
    """
    starts, ends = starts_of(lengths), starts_of(lengths) + lengths - 1
    present = ~np.isnan(x)
    if present.all():
        last = lagged(x, state.last, starts)
        before_last = lagged(last, state.before_last, starts)
        state.before_last[:], state.last[:] = last[ends], x[ends]
    else:
        newest = _filled(x, present, state.last, lengths)
        last = lagged(newest, state.last, starts)
        # A row without a value repeats what is before it; only the rows with one move on.
        before = _filled(np.where(present, last, np.nan), present, state.before_last, lengths)
        before_last = lagged(before, state.before_last, starts)
        state.before_last[:], state.last[:] = before[ends], newest[ends]
    last, before_last = np.nan_to_num(last), np.where(np.isnan(before_last), last, before_last)
    return last, np.nan_to_num(before_last)


def _lacked(state: _State, x: FloatArray, lengths: IntArray) -> BoolArray:
    """Return what the record before each row lacked, and the one before that, shape (N, 2 * D).

    What was before an entity's first record lacks nothing. Moves ``state`` on.
    """
    starts, ends = starts_of(lengths), starts_of(lengths) + lengths - 1
    missing = np.isnan(x)
    lacked = lagged(missing, state.lacked > 0, starts)
    lacked_before = lagged(lacked, state.lacked_before > 0, starts)
    state.lacked[:], state.lacked_before[:] = missing[ends], lacked[ends]
    return np.hstack([lacked, lacked_before])


def _filled(x: FloatArray, present: BoolArray, before: FloatArray, lengths: IntArray) -> FloatArray:
    """Return each column's newest value of a row that is present, up to each row, shape (N, D)."""
    row = running_last_of_columns(present, starts_of(lengths), lengths)
    known = np.take_along_axis(x, np.maximum(row, 0), axis=0)
    return np.where(row >= 0, known, np.repeat(before, lengths, axis=0))


def _hour_of(clock: FloatArray) -> IntArray:
    """Return the hour of the day, plus 24 on Saturday and Sunday, by a clock: shape (N,), in [0, 48)."""
    return np.asarray(season_of(clock) // 2)
