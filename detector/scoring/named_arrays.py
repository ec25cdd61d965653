"""Arrays of the parts of something, each named ``part/array``."""

from detector.models.contract import Arrays


def joined(parts: dict[str, Arrays]) -> Arrays:
    """Return the arrays of all parts, each named ``part/array``."""
    return {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}


def part_of(arrays: Arrays, part: str) -> Arrays:
    """Return the arrays of one part under their own names; none where there is no such part."""
    prefix = part + "/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
