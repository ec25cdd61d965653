"""Checked access to the arrays of a bundle: a model is rebuilt from exactly what it needs, or not at all."""

import numpy as np
from numpy.typing import NDArray

from detector.batch import FloatArray


def take(arrays: dict[str, NDArray[np.float64]], name: str, shape: tuple[int | None, ...]) -> FloatArray:
    """Return one array as float64, its shape and its values checked.

    Args:
        arrays: As read from a bundle.
        name: Which one.
        shape: Its expected shape; None stands for any length of at least 1.

    Raises:
        ValueError: It is absent, has another shape, or holds a value that is not finite.
    """
    if name not in arrays:
        raise ValueError(f"array {name!r} is absent (there are {sorted(arrays)}); train the bundle again")
    array = np.ascontiguousarray(arrays[name], dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        length >= 1 if wanted is None else length == wanted
        for length, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join("any" if wanted is None else str(wanted) for wanted in shape)
        raise ValueError(
            f"array {name!r} has shape {array.shape}, expected ({wanted_text}); train the bundle again"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"array {name!r} holds values that are not finite; train the bundle again")
    return array


def take_count(arrays: dict[str, NDArray[np.float64]], name: str) -> int:
    """Return a whole number >= 0 that is stored as an array of shape (1,).

    Raises:
        ValueError: As ``take``, or the value is no whole number >= 0.
    """
    value = float(take(arrays, name, (1,))[0])
    if value < 0 or value != int(value):
        raise ValueError(f"array {name!r} is {value}, expected a whole number >= 0; train the bundle again")
    return int(value)


def take_distribution(
    arrays: dict[str, NDArray[np.float64]], name: str, shape: tuple[int | None, ...]
) -> FloatArray:
    """Return probabilities that sum to one along the last axis.

    Raises:
        ValueError: As ``take``, or they are negative or do not sum to one.
    """
    array = take(arrays, name, shape)
    if (array < 0).any() or not np.allclose(array.sum(axis=-1), 1.0, rtol=0, atol=1e-9):
        raise ValueError(
            f"array {name!r} is no distribution: negative, or not summing to 1; train the bundle again"
        )
    return array
