"""Time zones by their IANA names, as the system or the package tzdata knows them."""

import zoneinfo
from datetime import UTC, tzinfo
from typing import Annotated

from pydantic import AfterValidator


def zone_of(name: str) -> tzinfo:
    """Return the zone called ``name``; UTC is known on every system."""
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def known_zone(name: str) -> str:
    """Return the name of a zone as it is.

    Raises:
        ValueError: No zone is called so.
    """
    try:
        zone_of(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "is no time zone known here; write it like Europe/Berlin (and have the package tzdata where "
            "the system has no time zones)"
        ) from None
    return name


TimeZone = Annotated[str, AfterValidator(known_zone)]
"""The name of a zone that is known here."""
