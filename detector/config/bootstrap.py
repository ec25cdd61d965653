"""The ``bootstrap`` part of a detector: how much traffic the daemon waits for before it trains by itself."""

from pydantic import Field

from detector.config.section import Section

_FEWEST_RECORDS = 30


class BootstrapConfig(Section):
    """A daemon that begins without a trained version."""

    records: int = Field(
        500,
        ge=_FEWEST_RECORDS,
        description="Of an entity in the input's topics: with so many a first version is trained.",
    )
