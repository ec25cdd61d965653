"""Feed-forward networks as scoring applies them: linear layers with rectifiers between, over columns."""

import numpy as np

from detector.batch import FloatArray
from detector.models.arrays import take
from detector.models.contract import Arrays

Layer = tuple[FloatArray, FloatArray]
"""Weight, shape (outputs, inputs), and bias, shape (outputs,)."""


def apply_network(layers: tuple[Layer, ...], columns: FloatArray) -> FloatArray:
    """Apply linear layers with rectifiers between them to columns, shape (..., inputs, T)."""
    for i, (weight, bias) in enumerate(layers):
        if i > 0:
            np.maximum(columns, 0.0, out=columns)
        columns = np.matmul(weight, columns)
        columns += bias[:, None]
    return columns


def network_arrays(name: str, layers: tuple[Layer, ...]) -> Arrays:
    """Return the layers as arrays named ``name_0_weight``, ``name_0_bias``, ..."""
    arrays: Arrays = {}
    for i, (weight, bias) in enumerate(layers):
        arrays[f"{name}_{i}_weight"] = weight
        arrays[f"{name}_{i}_bias"] = bias
    return arrays


def take_network(arrays: Arrays, name: str) -> tuple[Layer, ...]:
    """Return the layers that ``network_arrays`` named.

    Raises:
        ValueError: A layer is absent, or an array is none of a network's.
    """
    # By weights and by biases: a layer that lacks one of them is a damaged layer, not the end.
    depth = max(
        sum(1 for key in arrays if key.startswith(f"{name}_") and key.endswith(ending))
        for ending in ("_weight", "_bias")
    )
    layers = []
    for i in range(max(1, depth)):
        weight = take(arrays, f"{name}_{i}_weight", (None, None))
        layers.append((weight, take(arrays, f"{name}_{i}_bias", (len(weight),))))
    return tuple(layers)


def check_network(name: str, layers: tuple[Layer, ...], n_inputs: int, n_outputs: int, what: str) -> None:
    """Refuse layers that do not lead from ``n_inputs`` to ``n_outputs``.

    Args:
        name: Of the network, for the message.
        layers: Its layers.
        n_inputs: What the first must take.
        n_outputs: What the last must give.
        what: What the sizes follow from, for the message.

    Raises:
        ValueError: A layer has another shape.
    """
    for i, (weight, bias) in enumerate(layers):
        wanted = n_outputs if i == len(layers) - 1 else len(bias)
        if weight.shape != (wanted, n_inputs) or bias.shape != (wanted,):
            raise ValueError(
                f"{name} layer {i} has shape {weight.shape}, expected ({wanted}, {n_inputs}) for {what}; "
                "train the bundle again"
            )
        n_inputs = len(bias)
