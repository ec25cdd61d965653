"""The networks of the neural families, before they are fitted."""

from itertools import pairwise

from torch import nn


def linear_layers(sizes: list[int]) -> nn.Sequential:
    """Return a network of layers of these sizes, from inputs to outputs, rectified in between."""
    layers: list[nn.Module] = []
    for i, (n_inputs, n_outputs) in enumerate(pairwise(sizes)):
        if i > 0:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(n_inputs, n_outputs))
    return nn.Sequential(*layers)
