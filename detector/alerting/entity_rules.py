"""What holds for some entities alone: the first override whose patterns match an entity's name is its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.episodes import FireOfEach
from detector.alerting.rules import AlertRules, Budget, FireRules
from detector.batch import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Override:
    """What is different for the entities that some patterns match; None: nothing is."""

    entities: EntityPatterns
    severity: str | None = None
    mute: bool = False
    """Nothing fires."""
    budget: Budget | None = None
    """Of each of these entities."""
    fire: FireRules | None = None
    """When their episodes start."""

    def rules(self, otherwise: AlertRules) -> AlertRules:
        """Return the rules of these entities, where the others' are those given."""
        budget = otherwise.budget if self.budget is None else self.budget
        fire = self.fire or FireRules(otherwise.fire_m, otherwise.fire_of, otherwise.fire_for_s)
        return replace(otherwise, budget=budget, fire_m=fire.m, fire_of=fire.of, fire_for_s=fire.for_s)


@dataclass(frozen=True, slots=True)
class EntityRules:
    """K overrides, ready for arrays of entities, each of which knows its override by index; K means none."""

    overrides: tuple[Override, ...]
    threshold_nats: FloatArray
    """How far the threshold of each lies above the detector's, nats, shape (K + 1,)."""
    muted: BoolArray
    """Shape (K + 1,)."""

    @classmethod
    def of(cls, overrides: Sequence[Override], threshold_nats: Sequence[float]) -> Self:
        """Args:
        overrides: The first that matches an entity is its own.
        threshold_nats: Of each, how far its threshold lies above the detector's.
        """
        return cls(
            tuple(overrides),
            np.array([*threshold_nats, 0.0]),
            np.array([*(override.mute for override in overrides), False]),
        )

    def index_of(self, entities: Sequence[str]) -> IntArray:
        """Return each entity's override, shape (E,)."""
        return np.fromiter(map(self._index, entities), np.int64, len(entities))

    def severity(self, index: int, otherwise: str) -> str:
        """Return the severity of an entity's alerts.

        Args:
            index: Its override.
            otherwise: The detector's severity.
        """
        own = self.overrides[index].severity if index < len(self.overrides) else None
        return otherwise if own is None else own

    def fire_of_each(self, index: IntArray, otherwise: AlertRules) -> FireOfEach | None:
        """Return when episodes of each entity start; None where the detector's rules say it for all.

        Args:
            index: Their overrides, shape (E,).
            otherwise: The detector's rules.
        """
        if all(override.fire is None for override in self.overrides):
            return None
        rules = [*(override.rules(otherwise) for override in self.overrides), otherwise]
        return FireOfEach(
            np.array([own.fire_m for own in rules])[index],
            np.array([own.fire_of for own in rules])[index],
            np.array([own.fire_for_s for own in rules])[index],
        )

    def _index(self, entity: str) -> int:
        matching = (k for k, override in enumerate(self.overrides) if override.entities.matches(entity))
        return next(matching, len(self.overrides))
