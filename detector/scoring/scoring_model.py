"""A trained model as the pipeline uses it: the members of a committee, and what they say together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from detector.models.contract import Arrays
from detector.models.feature_transforms import FeatureTransforms
from detector.models.vocabulary import Vocabulary
from detector.scoring.committee import Committee
from detector.scoring.density import Density
from detector.scoring.member import Member, MemberNames
from detector.scoring.named_arrays import joined, part_of


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """Everything that a detector needs to score: nothing here changes after training."""

    feature_names: tuple[str, ...]
    units: tuple[str | None, ...]
    """As alerts show the features: of a counter that of its rate."""
    entities: tuple[str, ...]
    """With coefficients of their own, in the order of the stacked arrays; others use the last, pooled."""
    members: tuple[Member, ...]
    """At least one. What is said of records in general, without an alert, is the first one's."""
    committee: Committee
    """What makes one p-value of theirs."""
    transforms: FeatureTransforms
    """What is done to records before any member scales them."""
    densities: tuple[Density, ...] = field(init=False, repr=False)
    """Those of the members, each once: members that differ in nothing but their time scale share one."""
    density_of: tuple[int, ...] = field(init=False)
    """Of each member, which of the densities is its own."""

    def __post_init__(self) -> None:
        densities: list[Density] = []
        density_of = []
        for member in self.members:
            same = [i for i, known in enumerate(densities) if known.is_same_as(member.density)]
            if not same:
                densities.append(member.density)
            density_of.append(same[0] if same else len(densities) - 1)
        object.__setattr__(self, "densities", tuple(densities))
        object.__setattr__(self, "density_of", tuple(density_of))

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def density(self) -> Density:
        """The first member's."""
        return self.members[0].density

    @property
    def learns(self) -> bool:
        """Whether the p-values of a member follow the traffic that it scores."""
        return any(member.learns for member in self.members)

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must have been seen before every member can score one."""
        return self.transforms.warmup_records + max(member.density.warmup_records for member in self.members)

    def of_an_absurd_record(self) -> float:
        """Return the p-value of a record that is as improbable as can be, after usual ones, of any entity.

        Where members average over records, that is well above 0: it says little by itself.
        """
        heard = [member.of_an_absurd_record() for member in self.members]
        return float(self.committee.judge(np.array([heard])).p_value[0])

    def vocabulary(self, j: int) -> Vocabulary | None:
        """Return the texts that feature j may have, None where it is not categorical."""
        discrete = self.density.scaling.discrete
        return None if discrete is None else discrete.vocabularies[j]

    @property
    def entities_with_own_family(self) -> tuple[str, ...]:
        """Of ``entities`` those that a family of their own scores, in some member."""
        own = {
            i
            for member in self.members
            if member.density.entity_families is not None
            for i in member.density.entity_families.own()
        }
        return tuple(self.entities[i] for i in sorted(own))

    def arrays(self) -> Arrays:
        """Return everything as arrays named ``part/array``, ready for safetensors."""
        members = {str(k): member.arrays() for k, member in enumerate(self.members)}
        others = {"committee": self.committee.arrays(), "transforms": self.transforms.arrays()}
        return joined({**members, **others})

    @classmethod
    def from_arrays(
        cls,
        arrays: Arrays,
        *,
        members: Sequence[MemberNames],
        feature_names: tuple[str, ...],
        units: tuple[str | None, ...],
        entities: tuple[str, ...],
    ) -> Self:
        """Rebuild from ``arrays()`` and the names, kinds and vocabularies that the manifest holds.

        Raises:
            ValueError: An array is absent or does not fit the others.
        """
        d = len(feature_names)
        if not members:
            raise ValueError("there is no member")
        try:
            read = tuple(
                Member.from_arrays(part_of(arrays, str(k)), names, d) for k, names in enumerate(members)
            )
            committee = Committee.from_arrays(
                part_of(arrays, "committee"), tuple(names.share for names in members)
            )
        except KeyError as error:
            raise ValueError(f"array {error} is absent") from error
        transforms = FeatureTransforms.from_arrays(part_of(arrays, "transforms"), d)
        for member, names in zip(read, members, strict=True):
            _check(member.density, names.family, len(entities), d)
        return cls(feature_names, units, entities, read, committee, transforms)


def _check(density: Density, family: str, n_entities: int, n_features: int) -> None:
    shape = (n_entities + 1, n_features)
    if density.scaling.location.shape != shape or density.residual_scale.shape != shape:
        raise ValueError(
            f"scaling {density.scaling.location.shape} and residual scale "
            f"{density.residual_scale.shape} must be {shape}: "
            f"{n_entities} entities and the pooled model, {n_features} features"
        )
    if density.family.n_features != n_features:
        raise ValueError(f"the {family} has {density.family.n_features} features, not {n_features}")
    families = density.entity_families
    if families is not None and families.n_models != n_entities + 1:
        raise ValueError(
            f"families are assigned to {families.n_models} models, but there are {n_entities} "
            "entities and the pooled model"
        )
