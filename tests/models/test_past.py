"""Tests for detector.models.past."""

import numpy as np
import pytest

from detector.models.past import Past


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_contexts_are_the_records_before_and_the_ring_before_them(depth: int) -> None:
    rng = np.random.default_rng(0)
    lengths, d = np.array([1, 5, 2]), 2
    x, rings = rng.normal(size=(8, d)), rng.normal(size=(3, depth * d))
    past = Past.of(rings, x, lengths)
    contexts, after, start = past.contexts(slice(0, 8)), past.after(), 0
    for entity, length in enumerate(lengths):
        whole = np.vstack([rings[entity].reshape(depth, d), x[start : start + length]])
        for t in range(length):
            np.testing.assert_array_equal(contexts[start + t], whole[t : t + depth].reshape(-1))
        np.testing.assert_array_equal(after[entity], whole[length:].reshape(-1))
        start += length
