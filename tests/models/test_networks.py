"""Tests for detector.models.networks."""

import numpy as np
import pytest

from detector.models.networks import apply_network, check_network, network_arrays, take_network
from tests.models.families_by_hand import random_network

NETWORK = random_network(np.random.default_rng(0), [3, 5, 4, 2])


def test_agrees_with_layers_applied_by_hand() -> None:
    x = np.random.default_rng(1).normal(size=(7, 3, 16))
    given = x.copy()
    for column, result in zip(
        x.swapaxes(1, 2).reshape(-1, 3),
        apply_network(NETWORK, given).swapaxes(1, 2).reshape(-1, 2),
        strict=True,
    ):
        for weight, bias in NETWORK[:-1]:
            column = np.maximum(0.0, weight @ column + bias)
        np.testing.assert_allclose(result, NETWORK[-1][0] @ column + NETWORK[-1][1], rtol=1e-12)
    np.testing.assert_array_equal(given, x)


def test_arrays_round_trip_exactly() -> None:
    arrays = {**network_arrays("one", NETWORK), **network_arrays("other", NETWORK[:1])}
    for layers, again in (
        (NETWORK, take_network(arrays, "one")),
        (NETWORK[:1], take_network(arrays, "other")),
    ):
        assert len(again) == len(layers)
        for (weight, bias), (weight_again, bias_again) in zip(layers, again, strict=True):
            np.testing.assert_array_equal(weight_again, weight)
            np.testing.assert_array_equal(bias_again, bias)


@pytest.mark.parametrize("name", list(network_arrays("net", NETWORK)))
def test_a_layer_that_lacks_an_array_is_refused(name: str) -> None:
    arrays = network_arrays("net", NETWORK)
    del arrays[name]
    with pytest.raises(ValueError, match=f"{name}' is absent"):
        take_network(arrays, "net")


@pytest.mark.parametrize(("n_inputs", "n_outputs", "layer"), [(4, 2, 0), (3, 3, 2)])
def test_layers_that_lead_elsewhere_are_refused(n_inputs: int, n_outputs: int, layer: int) -> None:
    check_network("net", NETWORK, 3, 2, "3 features")
    with pytest.raises(ValueError, match=f"net layer {layer} has shape .* for 3 features"):
        check_network("net", NETWORK, n_inputs, n_outputs, "3 features")
