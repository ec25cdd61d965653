"""The bidirectional generative adversarial network: how well can a record be encoded and generated again?

A generator G draws records, x = G(z) + noise with z ~ N(0, I); an encoder E goes the other way; both were
trained against a critic that compares pairs (x, E(x)) with pairs (x, z). Such a model has no density that
could be computed. What stands in for log p(x) is, with z = E(x), y = G(z) and the critic's last hidden
layer f,

    - 1/2 sum_j ((x_j - y_j)^2 / r_j + log(2 pi r_j))             how x is reconstructed,
    - 1/2 |z|^2                                                   how usual its encoding is,
    - 1/2 D / K sum_k (f_k(x, z) - f_k(y, z))^2 / q_k             how different the critic finds x and y.

r and q are the mean squares of these differences on held-out records, so each sum is worth about half a nat
per feature: the unit is that of nats, but the integral over x is not one. The value is finite unless squares
overflow, and it falls without end as x leaves the data, because networks see their inputs clipped.

A missing feature takes no part in the reconstruction. For the networks it is imputed: from the training mean,
five rounds of x_missing <- G(E(x)).

References:
    Donahue, Kraehenbuehl and Darrell (2017), Adversarial feature learning.
    Zenati, Romain, Foo, Lecouat and Chandrasekhar (2018), Adversarially learned anomaly detection.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import FloatArray
from detector.models.arrays import take, take_count
from detector.models.contract import Arrays, Evidence, Explanation
from detector.models.memoryless import Memoryless
from detector.models.networks import Layer, apply_network, check_network, network_arrays, take_network
from detector.models.tiles import map_tiles

_LOG_2PI = float(np.log(2.0 * np.pi))
_TILE = 32
_IMPUTATION_ROUNDS = 5
# Explanations square differences from here; farther away they would overflow to inf.
_FARTHEST = 1e100


@dataclass(frozen=True, slots=True)
class GanParameters:
    """D features, Z latent dimensions, K units in the critic's last hidden layer.

    Variances are in standardised units, (x - location) / scale.
    """

    encoder: tuple[Layer, ...]
    """From x to z."""
    generator: tuple[Layer, ...]
    """From z to x."""
    critic: tuple[Layer, ...]
    """From (x, z), D + Z inputs, to its last hidden layer, which is rectified."""
    location: FloatArray
    """Shape (D,)."""
    scale: FloatArray
    """Shape (D,)."""
    reconstruction_variances: FloatArray
    """Shape (D,), r."""
    critic_variances: FloatArray
    """Shape (K,), q."""
    imputation_variances: FloatArray
    """Shape (D,), mean square of what imputing a hidden feature misses."""
    noise_variances: FloatArray
    """Shape (D,), of the noise on generated records."""
    input_limit: float
    """Where the networks' inputs are clipped, in standardised units."""


@dataclass(frozen=True, slots=True)
class GanOutcome:
    """How training went, kept for the report."""

    watched: FloatArray
    """Shape (epochs, 3): coverage, precision, and the distance between the surprise of generated and held-out
    records (Kolmogorov-Smirnov); coverage and precision relative to what training records reach."""
    best_epoch: int
    """The one that was kept, counted from 0."""
    restarts: int
    """How often training began again because it had lost modes."""


class Gan(Memoryless):
    """A bidirectional generative adversarial network, scored in numpy.

    Raises:
        ValueError: The shapes of the parameters do not fit together.
    """

    name: ClassVar[str] = "gan"
    evidence: ClassVar[Evidence] = "surrogate"

    def __init__(self, parameters: GanParameters, outcome: GanOutcome) -> None:
        _check(parameters, outcome)
        self.parameters = parameters
        self.outcome = outcome

    @property
    def n_features(self) -> int:
        return len(self.parameters.scale)

    @property
    def n_latent(self) -> int:
        return len(self.parameters.encoder[-1][1])

    @property
    def latent_size(self) -> int:
        return self.n_latent

    def log_likelihood(self, x: FloatArray) -> FloatArray:
        """Return what stands in for log p(x_n) of the observed features of each record.

        Args:
            x: Shape (N, D); NaN is missing and imputed, as the module says.

        Returns:
            Shape (N,), in the unit of nats; NaN for a record without any feature.

        Raises:
            ValueError: ``x`` does not have D columns.
        """
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        missing = np.isnan(x)
        incomplete = missing.any(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            u = (x - self.parameters.location) / self.parameters.scale
            result = np.empty(len(x))
            # Imputing would change nothing for complete records, not even a bit; it would only cost time.
            for rows, rounds in ((~incomplete, 0), (incomplete, _IMPUTATION_ROUNDS)):
                result[rows] = self._energy(u[rows], rounds)
        # Only inf - inf is NaN here: a record so far away that its squares overflow.
        result = np.where(np.isnan(result), -np.inf, -result)
        result[missing.all(axis=1)] = np.nan
        return result

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Compare each feature with its imputation when it is hidden as well.

        The conditional is taken to be a Gaussian around the imputation, as wide as imputing this feature
        missed on held-out records.
        """
        p = self.parameters
        shape = (len(x), self.n_features)
        explanation = Explanation(nats=np.empty(shape), expected=np.empty(shape), std=np.empty(shape))
        u = (np.clip(x, -_FARTHEST, _FARTHEST) - p.location) / p.scale
        explanation.std[:] = np.sqrt(p.imputation_variances) * p.scale
        for j in range(self.n_features):
            hidden = u.copy()
            hidden[:, j] = np.nan
            expected = self.imputed(hidden)[:, j]
            explanation.expected[:, j] = p.location[j] + p.scale[j] * expected
            log_volume = _LOG_2PI + np.log(p.imputation_variances[j]) + 2.0 * np.log(p.scale[j])
            error = (u[:, j] - expected) ** 2 / p.imputation_variances[j]
            explanation.nats[:, j] = 0.5 * (error + log_volume)
        return explanation

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the encoding of each record, missing features imputed, shape (N, Z)."""
        p, d = self.parameters, self.n_features

        def kernel(columns: FloatArray) -> FloatArray:
            return apply_network(p.encoder, self._filled(columns[:, :d], columns[:, d:], _IMPUTATION_ROUNDS))

        with np.errstate(over="ignore"):
            u = (x - p.location) / p.scale
        return map_tiles(kernel, self._masked(u), self.n_latent, _TILE, self._widest())

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> None:
        """Return None: no single discrete cause is behind a record."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n independent records, shape (n, D)."""
        p = self.parameters
        generated = apply_network(p.generator, rng.standard_normal((n, self.n_latent)).T).T
        noise = np.sqrt(p.noise_variances) * rng.standard_normal((n, self.n_features))
        return np.asarray(p.location + p.scale * (generated + noise))

    def imputed(self, u: FloatArray) -> FloatArray:
        """Return standardised records as the networks see them, shape (N, D): clipped, without NaN."""
        d = self.n_features

        def kernel(columns: FloatArray) -> FloatArray:
            return self._filled(columns[:, :d], columns[:, d:], _IMPUTATION_ROUNDS)

        return map_tiles(kernel, self._masked(u), d, _TILE, self._widest())

    def differences(self, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what the three sums are made of, for complete standardised records.

        Args:
            u: Shape (N, D).

        Returns:
            x - y, shape (N, D); z, shape (N, Z); f(x, z) - f(y, z), shape (N, K).
        """
        d, z = self.n_features, self.n_latent
        columns = np.where(np.isnan(u), 0.0, u).T[None]
        parts = np.concatenate(self._compare(columns, self._clipped(columns)), axis=1)[0].T
        return parts[:, :d], parts[:, d : d + z], parts[:, d + z :]

    def arrays(self) -> Arrays:
        p, outcome = self.parameters, self.outcome
        return {
            **network_arrays("encoder", p.encoder),
            **network_arrays("generator", p.generator),
            **network_arrays("critic", p.critic),
            "location": p.location,
            "scale": p.scale,
            "reconstruction_variances": p.reconstruction_variances,
            "critic_variances": p.critic_variances,
            "imputation_variances": p.imputation_variances,
            "noise_variances": p.noise_variances,
            "input_limit": np.array([p.input_limit]),
            "watched": outcome.watched,
            "best_epoch": np.array([float(outcome.best_epoch)]),
            "restarts": np.array([float(outcome.restarts)]),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        return cls(
            GanParameters(
                encoder=take_network(arrays, "encoder"),
                generator=take_network(arrays, "generator"),
                critic=take_network(arrays, "critic"),
                location=take(arrays, "location", (None,)),
                scale=take(arrays, "scale", (None,)),
                reconstruction_variances=take(arrays, "reconstruction_variances", (None,)),
                critic_variances=take(arrays, "critic_variances", (None,)),
                imputation_variances=take(arrays, "imputation_variances", (None,)),
                noise_variances=take(arrays, "noise_variances", (None,)),
                input_limit=float(take(arrays, "input_limit", (1,))[0]),
            ),
            GanOutcome(
                watched=take(arrays, "watched", (None, 3)),
                best_epoch=take_count(arrays, "best_epoch"),
                restarts=take_count(arrays, "restarts"),
            ),
        )

    def _energy(self, u: FloatArray, rounds: int) -> FloatArray:
        """Return minus the stand-in, shape (N,), imputing in so many rounds."""
        p, d = self.parameters, self.n_features
        log_volume = (_LOG_2PI + np.log(p.reconstruction_variances) + 2.0 * np.log(p.scale))[:, None]

        def kernel(columns: FloatArray) -> FloatArray:
            observed = columns[:, d:]
            seen = self._filled(columns[:, :d], observed, rounds)
            x = np.where(observed > 0, columns[:, :d], seen)
            error, z, of_critic = self._compare(x, seen)
            nats = error * error / p.reconstruction_variances[:, None] + log_volume
            energy = np.add.reduce(nats * observed, axis=1) + np.add.reduce(z * z, axis=1)
            of_critic *= of_critic
            of_critic /= p.critic_variances[:, None]
            weight = np.add.reduce(observed, axis=1) / len(p.critic_variances)
            return np.asarray(0.5 * (energy + weight * np.add.reduce(of_critic, axis=1)))[:, None]

        return map_tiles(kernel, self._masked(u), 1, _TILE, self._widest())[:, 0]

    def _compare(self, x: FloatArray, seen: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the reconstruction's error, the encoding and the critic's difference, over columns."""
        p = self.parameters
        z = apply_network(p.encoder, seen)
        generated = apply_network(p.generator, z)
        of_critic = self._critic(seen, z) - self._critic(self._clipped(generated), z)
        return x - generated, z, of_critic

    def _critic(self, x: FloatArray, z: FloatArray) -> FloatArray:
        hidden = apply_network(self.parameters.critic, np.concatenate([x, z], axis=1))
        return np.maximum(hidden, 0.0, out=hidden)

    def _filled(self, u: FloatArray, observed: FloatArray, rounds: int) -> FloatArray:
        """Return the networks' input, shape (B, D, T), missing features imputed in so many rounds."""
        p = self.parameters
        known = self._clipped(u)
        seen = np.where(observed > 0, known, 0.0)
        for _ in range(rounds):
            generated = apply_network(p.generator, apply_network(p.encoder, seen))
            seen = np.where(observed > 0, known, self._clipped(generated))
        return seen

    def _clipped(self, u: FloatArray) -> FloatArray:
        limit = self.parameters.input_limit
        return np.clip(u, -limit, limit)

    def _masked(self, u: FloatArray) -> FloatArray:
        """Return records without NaN beside what is observed of them, shape (N, 2 D)."""
        missing = np.isnan(u)
        return np.concatenate([np.where(missing, 0.0, u), ~missing], axis=1)

    def _widest(self) -> int:
        p = self.parameters
        return max(len(bias) for layers in (p.encoder, p.generator, p.critic) for _, bias in layers)


def _check(p: GanParameters, outcome: GanOutcome) -> None:
    n_features, n_latent, n_units = len(p.scale), len(p.encoder[-1][1]), len(p.critic[-1][1])
    what = f"{n_features} features and {n_latent} latent dimensions"
    check_network("encoder", p.encoder, n_features, n_latent, what)
    check_network("generator", p.generator, n_latent, n_features, what)
    check_network("critic", p.critic, n_features + n_latent, n_units, what)
    for name, array, length in (
        ("location", p.location, n_features),
        ("reconstruction_variances", p.reconstruction_variances, n_features),
        ("critic_variances", p.critic_variances, n_units),
        ("imputation_variances", p.imputation_variances, n_features),
        ("noise_variances", p.noise_variances, n_features),
    ):
        if len(array) != length:
            raise ValueError(
                f"array {name!r} has shape {array.shape}, expected ({length},) for {what}; "
                "train the bundle again"
            )
        if name != "location" and not (array > 0).all():
            raise ValueError(f"array {name!r} must be positive; train the bundle again")
    if not (p.scale > 0).all() or p.input_limit <= 0:
        raise ValueError("'scale' and 'input_limit' must be positive; train the bundle again")
    if outcome.best_epoch >= len(outcome.watched):
        raise ValueError(
            f"'best_epoch' is {outcome.best_epoch}, but {len(outcome.watched)} epochs were watched; "
            "train the bundle again"
        )
