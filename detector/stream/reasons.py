"""Why a record went to the dead-letter topic: a closed set, so that it can be a metric label."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """One value per kind of bad record. A dead letter carries it, and so does the counter."""

    EMPTY = "empty"
    """No value at all: a tombstone, or zero bytes."""
    TOO_LARGE = "too_large"
    """More bytes than the input's limit; not parsed."""
    MALFORMED_JSON = "malformed_json"
    """Not JSON: a syntax error, bad UTF-8, or nested too deeply to read."""
    NOT_AN_OBJECT = "not_an_object"
    """JSON, but a list, a string, a number or null where a record must be an object."""
    WRONG_TYPE = "wrong_type"
    """A field has another JSON type than the schema says: text or true where a number belongs."""
    NO_FEATURES = "no_features"
    """Neither an object of features nor a list of values."""
    WRONG_LENGTH = "wrong_length"
    """A list of values with more or fewer entries than there are features."""
    NOT_FINITE = "not_finite"
    """An infinity, or a number too large for a double."""
    NO_ENTITY = "no_entity"
    """The entity is absent, empty or too long."""
    NO_TIME = "no_time"
    """The time is absent, or is text that is not RFC 3339."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """Before the year 2000, or further ahead of the clock than allowed."""
    UNREADABLE = "unreadable"
    """A whole batch whose bits turned on the broker's disk: one dead letter, and its records are lost."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One bad record of a poll."""

    index: int
    """Row in the poll."""
    reason: Reason
    detail: str
    """What was found, for the dead letter's header; never a metric label."""
