"""What becomes of a feature before it is scaled: counters turn into rates, and a logarithm may be taken."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take
from detector.models.contract import Arrays, Explanation
from detector.models.sequences import lagged, running_last_of_columns, starts_of

FeatureType = Literal["gauge", "counter"]
"""``gauge``: the value itself counts. ``counter``: a total that only grows, so its rate per second counts."""

FeatureScale = Literal["linear", "log"]
"""``log``: differences are ratios, so that 10 to 20 is as far as 1,000 to 2,000."""

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class FeatureTransforms:
    """Which of D columns are counters or on a logarithmic scale.

    A counter becomes its increase per second since the last value that its entity sent, however many
    records without one lie between. A value below the last one is a reset: the counter began again at 0, so
    the increase is the value itself. The rate is missing where there is no earlier value or no time has
    passed since; a total below 0 counts as missing. The last value is always the newest one.

    The logarithmic scale is started: log(x) from a threshold c upwards, and below it, through 0 to any
    negative number, the tangent at c, log(c) + x / c - 1. So it is smooth and rising everywhere, and a
    density of what it gives is, with its derivative, a density of x.
    """

    n_features: int
    counters: IntArray
    """Columns, shape (C,), rising."""
    logs: IntArray
    """Columns, shape (L,), rising."""
    threshold: FloatArray
    """Where the logarithm starts, shape (L,), units of the data (of a counter its rate), positive."""

    @classmethod
    def none(cls, n_features: int) -> Self:
        """Return what leaves every column as it is."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(n_features, nothing, nothing, np.empty(0))

    @property
    def state_size(self) -> int:
        """How many numbers are remembered of an entity: of each counter the last value and its time."""
        return 2 * self.counters.size

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must have been seen before there are rates."""
        return 1 if self.counters.size else 0

    def initial_state(self, n: int) -> FloatArray:
        """Return state rows of entities never seen, shape (n, state_size)."""
        return np.full((n, self.state_size), np.nan)

    def rates(
        self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Turn the counters of N records of E entities into rates, entity after entity, each in time order.

        Args:
            rows: State before, shape (E, state_size).
            x: Shape (N, D); NaN is missing.
            time: Shape (N,), seconds since 1970 UTC.
            lengths: Records of each entity, shape (E,).

        Returns:
            The records with rates, units of the data (a rate: its counter's per second), shape (N, D), and
            the state after, shape (E, state_size).
        """
        if not self.counters.size:
            return x, rows
        starts = starts_of(lengths)
        total = x.take(self.counters, axis=1)
        present = total >= 0
        last = running_last_of_columns(present, starts, lengths)
        nothing_yet = np.full((len(lengths), self.counters.size), -1)
        entity = np.repeat(np.arange(len(lengths)), lengths)
        before = self._known(rows, total, time, lagged(last, nothing_yet, starts), entity)
        with np.errstate(over="ignore", invalid="ignore"):
            increase = total - before[0]
            increase = np.where(increase < 0, total, increase)
            elapsed_s = time[:, None] - before[1]
            rate = np.full(total.shape, np.nan)
            np.divide(increase, elapsed_s, out=rate, where=present & (elapsed_s > 0))
        values = x.copy()
        # A span of time near nothing may make a rate that no float holds.
        values[:, self.counters] = np.minimum(rate, _LARGEST)
        ends = starts + lengths - 1
        after = self._known(rows, total, time, last[ends], np.arange(len(lengths)))
        return values, np.concatenate(after, axis=1)

    def remembered(self, rows: FloatArray, x: FloatArray, time: FloatArray, lengths: IntArray) -> FloatArray:
        """Return the state before each record, shape (N, state_size); arguments as in ``rates``."""
        if not self.counters.size:
            return np.empty((len(x), 0))
        total, entity = x.take(self.counters, axis=1), np.repeat(np.arange(len(lengths)), lengths)
        starts = starts_of(lengths)
        last = running_last_of_columns(total >= 0, starts, lengths)
        nothing_yet = np.full((len(lengths), self.counters.size), -1)
        return np.concatenate(
            self._known(rows, total, time, lagged(last, nothing_yet, starts), entity), axis=1
        )

    def _known(
        self, rows: FloatArray, total: FloatArray, time: FloatArray, at: IntArray, entity: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return totals and their times of given rows, both shape (n, C); where that is -1, those remembered.

        Args:
            rows: Shape (E, state_size).
            total: Shape (N, C).
            time: Shape (N,).
            at: Rows of ``total``, shape (n, C).
            entity: Whose memory to ask, shape (n,).
        """
        c = self.counters.size
        remembered = rows.take(entity, axis=0)
        here = at >= 0
        value = np.where(here, np.take_along_axis(total, np.maximum(at, 0), axis=0), remembered[:, :c])
        return value, np.where(here, time[at], remembered[:, c:])

    def scaled(self, x: FloatArray) -> FloatArray:
        """Return records with logarithms where they are wanted, shape (N, D).

        Args:
            x: In the units of the data, counters as rates, shape (N, D).
        """
        if not self.logs.size:
            return x
        # One block of memory: a logarithm may have other bits when it strides over memory.
        of_log = x.take(self.logs, axis=1)
        with np.errstate(over="ignore"):
            y = np.log(np.maximum(of_log, self.threshold))
            y += (np.minimum(of_log, self.threshold) - self.threshold) / self.threshold
        out = x.copy()
        out[:, self.logs] = y
        return out

    def in_units(self, y: FloatArray) -> FloatArray:
        """Undo ``scaled``, shape (N, D), but for negative values: no such feature has them, they become 0."""
        if not self.logs.size:
            return y
        start = np.log(self.threshold)
        of_log = y.take(self.logs, axis=1)
        with np.errstate(over="ignore"):
            x = np.exp(np.minimum(np.maximum(of_log, start), np.log(_LARGEST)))
            x += self.threshold * np.minimum(of_log - start, 0.0)
        out = y.copy()
        out[:, self.logs] = np.maximum(x, 0.0)
        return out

    def log_derivative(self, y: FloatArray) -> FloatArray:
        """Return the log of the derivative of ``scaled``, summed over each record's features, shape (N,).

        It turns a log density of ``scaled`` values into one in the units of the data, by being added.

        Args:
            y: What ``scaled`` returned, shape (N, D); a missing feature adds nothing.
        """
        total = np.zeros(len(y))
        # Column by column, so that the order of a row's sum is the same in any batch.
        for column in self._each_log_derivative(y).T:
            total += np.where(np.isnan(column), 0.0, column)
        return total

    def _each_log_derivative(self, y: FloatArray) -> FloatArray:
        """Return the same of every logarithmic column, shape (N, L); NaN where the feature is missing."""
        return -np.maximum(y.take(self.logs, axis=1), np.log(self.threshold))

    def explained_in_units(self, explanation: Explanation, y: FloatArray) -> Explanation:
        """Return an explanation of ``scaled`` values in the units of the data.

        What was expected becomes a median. The spread becomes half of the width of what one standard
        deviation to either side covers, which is wider above than below: "100 ± 60" is an approximation.

        Args:
            explanation: Of N records.
            y: What ``scaled`` returned for them, shape (N, D).
        """
        if not self.logs.size:
            return explanation
        nats, std = explanation.nats.copy(), explanation.std.copy()
        nats[:, self.logs] -= self._each_log_derivative(y)
        low, high = (
            self.in_units(end).take(self.logs, axis=1)
            for end in (explanation.expected - std, explanation.expected + std)
        )
        std[:, self.logs] = high / 2 - low / 2
        return Explanation(nats, self.in_units(explanation.expected), std)

    def arrays(self) -> Arrays:
        """Return everything that scoring needs, ready for safetensors; nothing where all stays as it is."""
        if not self.counters.size and not self.logs.size:
            return {}
        counter, threshold = np.zeros(self.n_features), np.zeros(self.n_features)
        counter[self.counters] = 1.0
        threshold[self.logs] = self.threshold
        return {"counter": counter, "log_threshold": threshold}

    @classmethod
    def from_arrays(cls, arrays: Arrays, n_features: int) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            ValueError: An array has a wrong shape, or a threshold is negative or not finite.
        """
        if not arrays:
            return cls.none(n_features)
        counter, threshold = (take(arrays, name, (n_features,)) for name in ("counter", "log_threshold"))
        if (threshold < 0).any():
            raise ValueError(f"a logarithm cannot start at {threshold.min()}; train the bundle again")
        logs = np.flatnonzero(threshold)
        return cls(n_features, np.flatnonzero(counter), logs, threshold[logs])


def rate_unit(unit: str | None) -> str:
    """Return the unit of a counter's rate."""
    return f"{unit or '1'}/s"
