"""A member of a committee: a density on a time scale, and what its surprise is worth."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from detector.batch import BoolArray, FloatArray, IntArray
from detector.models.contract import Arrays
from detector.models.discrete_columns import DiscreteColumns
from detector.scoring.calibration import Calibration
from detector.scoring.density import Conditionals, Density
from detector.scoring.drift import drift
from detector.scoring.examples import Example, SurpriseOfPattern
from detector.scoring.frequencies import Frequencies
from detector.scoring.named_arrays import joined, part_of
from detector.scoring.time_scale import BY_ITSELF, TimeScale
from detector.scoring.typicality import PValues


class MemberNames(NamedTuple):
    """What a manifest says of a member, and its arrays do not."""

    family: str
    predictor: str
    discrete: DiscreteColumns | None = None
    time_scale: TimeScale = BY_ITSELF
    share: float = 1.0


class Heard(NamedTuple):
    """What a member says of N rows."""

    p_value: FloatArray
    """Shape (N,), in (0, 1], small is anomalous."""
    too_likely: BoolArray
    """Shape (N,), whether the p-value comes from the lower side."""
    of_late: FloatArray
    """Shape (N,), the p-value of the faster average, which forgets soon; where there is none, ``p_value``."""
    drift: FloatArray | None
    """Averages of deviations, as in ``Drift``, shape (N, n_continuous), or of values, as ``Frequencies`` has
    them; None where neither are averaged."""


@dataclass(frozen=True, slots=True)
class Member:
    """One density of a committee, and what its surprise is worth."""

    density: Density
    examples: Example
    calibration: Calibration = field(repr=False)
    time_scale: TimeScale = BY_ITSELF
    confirmation: Calibration | None = field(default=None, repr=False)
    """Of the faster average, where there is one."""
    frequencies: Frequencies | None = None
    """Where it is these that are averaged."""

    @property
    def name(self) -> str:
        """What people call it: ``gmm on autoregressive``, perhaps ``over 10 records``."""
        return f"{self.density.family.name} on {self.density.predictor.name}{self.time_scale.text}"

    def initial_average(self, model: IntArray) -> FloatArray:
        """Return averages of entities never seen, shape (E, A): the usual ones of each model."""
        if self.frequencies is not None:
            return np.asarray(self.frequencies.usual[model])
        if self.time_scale.adds_up:
            return np.zeros((len(model), self.density.n_continuous))
        usual = [self.calibration.moments.location[model]]
        if self.confirmation is not None:
            usual.append(self.confirmation.moments.location[model])
        return np.column_stack(usual)

    @property
    def learns(self) -> bool:
        """Whether its p-values follow the traffic that it scores."""
        return self.calibration.sketch is not None

    def initial_sketch(self, n: int) -> FloatArray:
        """Return what is counted of entities never seen, shape (n, ...)."""
        sketch = self.calibration.sketch
        return np.empty((n, 0)) if sketch is None else sketch.initial_state(n)

    def judge(
        self,
        average: FloatArray,
        counted: FloatArray,
        seen: Conditionals,
        model: IntArray,
        missing: BoolArray,
        scored: BoolArray,
        time: FloatArray,
        lengths: IntArray,
    ) -> tuple[FloatArray, FloatArray, Heard]:
        """Return the averages after, shape (E, A), the sketch after, and what is said of N rows.

        Args:
            average: Before, shape (E, A).
            counted: In the sketch before, one row per entity.
            seen: What the density makes of the rows.
            model: Of each row, shape (N,).
            missing: Shape (N, D), features the row lacks.
            scored: Shape (N,); the others get p-value 1 and count for nothing.
            time: Seconds since 1970 UTC, shape (N,).
            lengths: Rows of each entity, shape (E,).
        """
        calibration, surprise, past_missing = self.calibration, seen.surprise, seen.past_missing
        drifts = None
        if self.frequencies is not None:
            average, drifts, surprise = self.frequencies.scan(
                average, seen.residual, model, self.time_scale.weight, scored, lengths
            )
        elif self.time_scale.adds_up:
            deviation = self.density.deviation(seen)
            average, drifts, surprise = drift(average, deviation, self.time_scale.weight, scored, lengths)
        elif self.time_scale.is_average:
            comparable = np.zeros(len(surprise))
            comparable[scored] = calibration.as_if_complete(
                surprise[scored], model[scored], missing[scored], past_missing[scored]
            )
            average, averages = self.time_scale.average(average, comparable, scored, lengths)
            surprise = averages[:, 0]
        if self.time_scale.is_average:
            missing, past_missing = np.zeros_like(missing), np.zeros_like(past_missing)
        if calibration.sketch is not None:
            common = calibration.moments.normalise(surprise, model)
            counted, p_value = calibration.sketch.scan(counted, common, time, scored, lengths)
            found = PValues(p_value, np.zeros(len(p_value), dtype=bool))
        elif scored.all():
            found = calibration.p_value(surprise, model, missing, past_missing)
        else:
            found = PValues(np.ones(len(scored)), np.zeros(len(scored), dtype=bool))
            found.p_value[scored], found.too_likely[scored] = calibration.p_value(
                surprise[scored], model[scored], missing[scored], past_missing[scored]
            )
        if self.confirmation is None:
            return average, counted, Heard(*found, found.p_value, drifts)
        by_faster = self.confirmation.p_value(averages[:, 1], model, missing, past_missing).p_value
        return average, counted, Heard(confirmed(found.p_value, by_faster), found.too_likely, by_faster, None)

    def of_an_absurd_record(self) -> float:
        """Return the p-value of a record that is as improbable as can be, after usual ones, of any entity."""
        one, nothing = np.ones(1, dtype=bool), np.zeros((1, self.density.family.n_features), dtype=bool)
        pooled = np.array([len(self.calibration.moments.location) - 1])
        unknown, endless = np.empty((1, 0)), np.full(nothing.shape, np.inf)
        seen = Conditionals(
            unknown, unknown, endless[:, 0], -endless[:, 0], endless, endless, nothing[:, :0], None
        )
        average, counted = self.initial_average(pooled), self.initial_sketch(1)
        _, _, heard = self.judge(
            average, counted, seen, pooled, nothing, one, np.zeros(1), np.ones(1, dtype=np.int64)
        )
        return float(heard.p_value[0])

    def arrays(self) -> Arrays:
        """Return everything as arrays named ``part/array``, ready for safetensors."""
        return joined(
            {
                **self.density.arrays(),
                "examples": self.examples.arrays(),
                "calibration": self.calibration.arrays(),
                "confirmation": {} if self.confirmation is None else self.confirmation.arrays(),
                "frequencies": {} if self.frequencies is None else self.frequencies.arrays(),
            }
        )

    @classmethod
    def from_arrays(cls, arrays: Arrays, names: MemberNames, n_features: int) -> Self:
        """Rebuild from ``arrays()``.

        Raises:
            KeyError: An array is absent.
            ValueError: An array does not fit the others.
        """
        density = Density.from_arrays(
            {part: part_of(arrays, part) for part in ("scaling", "predictor", "family", "entity_family")},
            arrays["residual/scale"],
            names.family,
            names.predictor,
            n_features,
            names.discrete,
        )
        kept = part_of(arrays, "examples")
        n = len(kept["values"])
        examples = Example.from_arrays(
            kept, density.predictor.initial_state(n), density.family.initial_state(n)
        )
        of_pattern = SurpriseOfPattern(density, examples)
        calibration = Calibration.from_arrays(part_of(arrays, "calibration"), of_pattern)
        faster = part_of(arrays, "confirmation")
        if bool(faster) != (names.time_scale.confirming is not None):
            raise ValueError("a member has a faster average, but no calibration of it, or the reverse")
        confirmation = Calibration.from_arrays(faster, of_pattern) if faster else None
        counted = part_of(arrays, "frequencies")
        if bool(counted) != (names.time_scale.averaged == "frequency"):
            raise ValueError("a member averages frequencies, but has none, or the reverse")
        frequencies = Frequencies.from_arrays(counted) if counted else None
        return cls(density, examples, calibration, names.time_scale, confirmation, frequencies)


def confirmed(p_value: FloatArray, by_faster: FloatArray) -> FloatArray:
    """Return p-values of a slow average that are no smaller than those of a faster one but for a nat."""
    return np.asarray(np.maximum(p_value, by_faster * np.exp(-1.0)))
