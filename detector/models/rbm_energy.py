"""The energy of a restricted Boltzmann machine, and one layer given the other.

E(v, h) = sum_j e_j(v_j) - sum_i c_i h_i - sum_ij h_i w_ij v_j / s_j. A Gaussian feature has
e_j(v) = (v - b_j)^2 / (2 s_j), and given the hidden units v_j ~ N(b_j + sum_i h_i w_ij, s_j). A binary
feature, 0 or 1, has e_j(v) = -b_j v and s_j = 1, and given the hidden units its log odds are
b_j + sum_i h_i w_ij. Features of both kinds may stand in one machine.

References:
    Smolensky (1986), Information processing in dynamical systems: foundations of harmony theory.
    Cho, Ilin and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann machines.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from detector.batch import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class RbmParameters:
    """D features and H hidden units."""

    weights: FloatArray
    """Shape (H, D), by how much a hidden unit moves each feature's mean, or its log odds."""
    visible_bias: FloatArray
    """Shape (D,), the features' means when no hidden unit is on, or their log odds."""
    hidden_bias: FloatArray
    """Shape (H,), nats."""
    variances: FloatArray
    """Shape (D,), of the features given the hidden units; 1 for a binary one."""
    binary: BoolArray
    """Shape (D,), which features are 0 or 1; the others are Gaussian."""


def gain_of(p: RbmParameters) -> FloatArray:
    """Return by how much each feature moves the log odds of each hidden unit, shape (H, D)."""
    return np.ascontiguousarray(p.weights / p.variances)


def centre_of(p: RbmParameters) -> FloatArray:
    """Return where e_j is least, shape (D,), for features of both kinds.

    For a value of 0 or 1, whose square is itself, -b v = (v - (b + 1/2))^2 / 2 - (b + 1/2)^2 / 2: a binary
    feature has the energy of a Gaussian one around b + 1/2, but for ``offset_of``.
    """
    return np.where(p.binary, p.visible_bias + 0.5, p.visible_bias)


def offset_of(p: RbmParameters) -> FloatArray:
    """Return by how much e_j is less than (v_j - centre_j)^2 / (2 s_j), shape (D,)."""
    return np.where(p.binary, 0.5 * centre_of(p) ** 2, 0.0)


def all_settings(n_hidden: int) -> FloatArray:
    """Return every setting of the hidden units, shape (2^H, H), of 0 and 1."""
    numbers = np.arange(1 << n_hidden)[:, None]
    return (numbers >> np.arange(n_hidden) & 1).astype(np.float64)


def hidden_log_odds(p: RbmParameters, v: FloatArray) -> FloatArray:
    """Return log p(h_i = 1 | v) - log p(h_i = 0 | v), shape (N, H), of records, shape (N, D)."""
    return np.asarray(p.hidden_bias + v @ (p.weights / p.variances).T)


def draw_hidden(p: RbmParameters, v: FloatArray, rng: np.random.Generator) -> BoolArray:
    """Draw hidden units given records, shape (N, D) -> (N, H)."""
    on = expit(hidden_log_odds(p, v))
    return np.asarray(rng.random(on.shape) < on)


def draw_visible(p: RbmParameters, hidden: BoolArray, rng: np.random.Generator) -> FloatArray:
    """Draw records given hidden units, shape (N, H) -> (N, D)."""
    inputs = p.visible_bias + hidden @ p.weights
    v = np.asarray(inputs + np.sqrt(p.variances) * rng.standard_normal(inputs.shape))
    if p.binary.any():
        on = expit(inputs[:, p.binary])
        v[:, p.binary] = rng.random(on.shape) < on
    return v
