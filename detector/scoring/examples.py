"""Held-out records kept in a bundle: what is usual of records that lack some features."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays, Prediction
from detector.scoring.density import Density

# Of so many rows asked for one suffices, if these lack just the same features.
_OF_MOST_ALIKE = 25
# Bounds the memory that many patterns at once take: some dozen arrays of so many values.
_VALUES_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class Example:
    """R held-out records with the state before each, kept to calibrate patterns of missing features."""

    values: FloatArray
    """Standardised, shape (R, D)."""
    predictor_rows: FloatArray
    family_rows: FloatArray
    time: FloatArray
    """Seconds since 1970 UTC, shape (R,)."""
    gap_s: FloatArray
    model: IntArray

    def arrays(self) -> Arrays:
        """Return the rows, ready for safetensors."""
        return {
            "values": self.values,
            "predictor_rows": self.predictor_rows,
            "family_rows": self.family_rows,
            "time": self.time,
            "gap_s": self.gap_s,
            "model": self.model.astype(np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, predictor_rows: FloatArray, family_rows: FloatArray) -> Self:
        """Rebuild from ``arrays()``.

        Bundles of before predictor or family remembered more have narrower rows: the rest is as at first.

        Args:
            arrays: As written.
            predictor_rows: State of entities never seen, shape (R, predictor.state_size); written into.
            family_rows: The same of the family.
        """
        for rows, given in ((predictor_rows, "predictor_rows"), (family_rows, "family_rows")):
            rows[:, : arrays[given].shape[1]] = arrays[given]
        return cls(
            arrays["values"],
            predictor_rows,
            family_rows,
            arrays["time"],
            arrays["gap_s"],
            arrays["model"].astype(np.int64),
        )


@dataclass(frozen=True, slots=True)
class SurpriseOfPattern:
    """Scores the stored rows with features hidden, now and in the past.

    Rows that lack other features besides would seem too ordinary, so they are left out; where hardly any
    would be left, those that lack the fewest others come, too.
    """

    density: Density
    examples: Example
    _predictions: dict[int, Prediction] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Of all stored rows, by which of its past values each feature had to do without: bit 0, the newest."""

    @property
    def complete(self) -> bool:
        """Whether stored rows have every feature and past value."""
        return not (np.isnan(self.examples.values).any() or self._prediction(0).past_missing.any())

    def __call__(
        self, missing: BoolArray, past_missing: BoolArray, *, most: int
    ) -> Iterator[tuple[FloatArray, IntArray]]:
        at_once = max(1, _VALUES_AT_ONCE // (most * missing.shape[1]))
        for start in range(0, len(missing), at_once):
            part = slice(start, start + at_once)
            yield from self._of_few(missing[part], past_missing[part], most)

    def _of_few(
        self, missing: BoolArray, past_missing: BoolArray, most: int
    ) -> Iterator[tuple[FloatArray, IntArray]]:
        examples, least = self.examples, most // _OF_MOST_ALIKE
        absent = np.isnan(examples.values)
        stored = np.arange(len(absent))
        chosen = [stored] * len(missing)
        if absent.any():
            chosen = [_fewest((absent & ~pattern).sum(axis=1), stored, least) for pattern in missing]
        chosen = [rows[:: -(-rows.size // most)] for rows in chosen]
        rows = np.concatenate(chosen)
        of_row = np.repeat(np.arange(len(chosen)), [len(own) for own in chosen])
        hidden_past = past_missing[of_row]
        conditionals = self.density.given(
            self._predicted(rows, hidden_past),
            examples.family_rows[rows],
            np.where(missing[of_row], np.nan, examples.values[rows]),
            examples.gap_s[rows],
            np.ones(len(rows), dtype=np.int64),
            examples.model[rows],
        )
        lacks_past = (conditionals.past_missing & ~hidden_past).sum(axis=1)
        scored = ~np.isnan(conditionals.surprise)
        end = 0
        for own in chosen:
            start, end = end, end + len(own)
            those = start + np.flatnonzero(scored[start:end])
            kept = _fewest(lacks_past[those], those, least)
            yield conditionals.surprise[kept], examples.model[rows[kept]]

    def _predicted(self, rows: IntArray, hidden: BoolArray) -> Prediction:
        """Return what is said of the stored ``rows`` with past values ``hidden``, shape (n, P)."""
        density, examples = self.density, self.examples
        if not density.predictor.each_by_itself:
            states = density.predictor.hide(examples.predictor_rows[rows], hidden)
            return self._scanned(states, rows)
        shown = self._prediction(0)
        expected = shown.expected[rows]
        if hidden.any():
            bits = hidden.reshape(len(rows), -1, density.n_continuous)
            code = np.einsum("nlc,l->nc", bits, 1 << np.arange(bits.shape[1]))
            columns = density.scaling.continuous
            for other in np.unique(code[code > 0]).tolist():
                row, column = np.nonzero(code == other)
                at = column if columns is None else columns[column]
                expected[row, at] = self._prediction(other).expected[rows[row], at]
        spread = None if shown.spread is None else shown.spread[rows]
        return Prediction(shown.rows, expected, hidden | shown.past_missing[rows], spread)

    def _prediction(self, code: int) -> Prediction:
        """Return what is said of all stored rows where every feature does without the values of ``code``."""
        if code not in self._predictions:
            states = self.examples.predictor_rows
            if code:
                lags = self._prediction(0).past_missing.shape[1] // self.density.n_continuous
                hidden = np.repeat(code >> np.arange(lags) & 1 > 0, self.density.n_continuous)
                states = self.density.predictor.hide(states, hidden)
            found = self._scanned(states, np.arange(len(states)))
            self._predictions[code] = replace(found, rows=found.rows[:, :0])
        return self._predictions[code]

    def _scanned(self, states: FloatArray, rows: IntArray) -> Prediction:
        examples, each_alone = self.examples, np.ones(len(rows), dtype=np.int64)
        return self.density.predict(
            states, examples.values[rows], examples.time[rows], each_alone, examples.model[rows]
        )


def _fewest(lacks: IntArray, rows: IntArray, least: int) -> IntArray:
    """Return the rows that lack nothing, or of a larger number of things so that there are ``least`` rows."""
    if rows.size <= least:
        return rows
    return np.asarray(rows[lacks <= np.partition(lacks, least)[least]])
