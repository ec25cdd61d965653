"""Patterns of entity names, as shells write them: ``db-*``, ``web-?``, ``rack-[0-9]``."""

import re
from dataclasses import dataclass, field
from fnmatch import translate


@dataclass(frozen=True, slots=True)
class EntityPatterns:
    """One pattern or several, of which one has to match the whole name; case counts.

    ``*`` is any text, ``?`` any character, ``[abc]`` one of some, ``[!abc]`` none of them.
    """

    patterns: tuple[str, ...] = ("*",)
    _whole: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whole", re.compile("|".join(map(translate, self.patterns))))

    def matches(self, entity: str) -> bool:
        """Return whether a pattern matches the name."""
        return self._whole.match(entity) is not None
