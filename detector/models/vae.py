"""The variational autoencoder: a record is decoded from a few hidden causes and from the records before it.

It models p(x_t | the last W - 1 records): z ~ N(0, I), x_t | z, context ~ independent Gaussians whose means
and variances a network decodes. W = 1 looks at the record alone. What is scored is the importance-weighted
bound log 1/L sum_l p(x, z_l | context) / q(z_l | x, context) over L draws from the encoder, at most
log p(x | context) on average over the noise, which is stored so that a replay repeats.

A missing feature simply drops out of the decoder's product, because the features are independent given z,
so the bound stays a bound on the observed features' marginal. The encoder sees a zero and a mask in its
place; a poorer encoder loosens the bound and never breaks it. Networks see their inputs clipped at
``input_limit``: an absurd value must not be extrapolated from, now or as context of what follows.

References:
    Kingma and Welling (2014), Auto-encoding variational Bayes.
    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from detector.batch import FloatArray, IntArray
from detector.models.arrays import take, take_count
from detector.models.contract import Arrays, Evidence, Explanation
from detector.models.log_space import log_sum_exp, normalise
from detector.models.networks import Layer, apply_network, check_network, network_arrays, take_network
from detector.models.past import Past
from detector.models.tiles import Kernel, map_tiles

_LOG_2PI = float(np.log(2.0 * np.pi))
_TILE = 32
_RECORDS_AT_ONCE = 8192
# Explanations square differences from here; farther away they would overflow to inf.
_FARTHEST = 1e100
LOG_VARIANCE_LIMIT = 15.0
"""Networks' logarithms of variances are clipped here, in training and in scoring alike."""


@dataclass(frozen=True, slots=True)
class VaeParameters:
    """D features, window W, C = (W - 1) D inputs of context, Z latent dimensions, L draws.

    Networks are linear layers with rectifiers between them; one layer is a linear map.
    """

    window: int
    encoder: tuple[Layer, ...]
    """From (x, mask, context), 2 D + C inputs, to mean and log-variance of z, 2 Z outputs."""
    decoder: tuple[Layer, ...]
    """From (z, context), Z + C inputs, to mean and log-variance of x, 2 D outputs."""
    noise: FloatArray
    """Shape (L, Z), the standard normal draws behind z."""
    scale: FloatArray
    """Shape (D,), what features are divided by before anything else."""
    variance_floor: float
    """Added to the decoded variances, in scaled units."""
    input_limit: float
    """Where the networks' inputs are clipped, in scaled units."""


class Vae:
    """A conditional variational autoencoder over windows of W records, scored in numpy.

    A state row is the ring of the last W - 1 records, oldest first, scaled, clipped and flattened; missing
    values and records before the first count as 0, the training mean.

    Raises:
        ValueError: The shapes of the parameters do not fit together.
    """

    name: ClassVar[str] = "vae"
    evidence: ClassVar[Evidence] = "lower_bound"

    def __init__(self, parameters: VaeParameters) -> None:
        self._parameters = parameters
        _check_shapes(parameters)

    @property
    def n_features(self) -> int:
        return len(self._parameters.scale)

    @property
    def window(self) -> int:
        return self._parameters.window

    @property
    def state_size(self) -> int:
        return (self.window - 1) * self.n_features

    @property
    def latent_size(self) -> int:
        return int(self._parameters.noise.shape[1])

    @property
    def warmup_records(self) -> int:
        """Records of an entity that must be seen before its scores are the long-running ones."""
        return self.window - 1

    def initial_state(self, n: int) -> FloatArray:
        return np.zeros((n, self.state_size))

    def step(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.scan(rows, x, gap_s, np.ones(len(x), dtype=np.int64))

    def scan(
        self, rows: FloatArray, x: FloatArray, gap_s: FloatArray, lengths: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise ValueError(f"records have shape {x.shape}, the model has {self.n_features} features")
        x = x / self._parameters.scale
        seen = self._seen(x)
        past = Past.of(rows, seen, lengths)
        log_likelihood = np.empty(len(x))
        for start in range(0, len(x), _RECORDS_AT_ONCE):
            part = slice(start, start + _RECORDS_AT_ONCE)
            log_weights = self._log_weights(x[part], seen[part], past.contexts(part))
            log_likelihood[part] = log_sum_exp(log_weights) - np.log(len(self._parameters.noise))
        log_likelihood[np.isnan(x).all(axis=1)] = np.nan
        return past.after(), log_likelihood

    def explain(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> Explanation:
        """Approximate the conditional of each feature given the record's others and the past.

        The feature is hidden from the encoder and from the importance weights; the decoder's Gaussians
        for it, under the draws so weighted, are the conditional mixture. Exact as L grows.
        """
        shape = (len(x), self.n_features)
        explanation = Explanation(nats=np.empty(shape), expected=np.empty(shape), std=np.empty(shape))
        scale = self._parameters.scale
        x = np.clip(x / scale, -_FARTHEST, _FARTHEST)
        seen = self._seen(x)
        for j in range(self.n_features):
            hidden, hidden_seen = x.copy(), seen.copy()
            hidden[:, j], hidden_seen[:, j] = np.nan, 0.0
            log_weights, means, variances = self._predictive(hidden, hidden_seen, rows, j)
            # Where no draw explains the other features at all, none is preferred.
            log_weights[np.isneginf(log_weights.max(axis=1))] = 0.0
            weights = normalise(log_weights)
            expected = (weights * means).sum(axis=1)
            explanation.expected[:, j] = expected * scale[j]
            spread = variances + (means - expected[:, None]) ** 2
            explanation.std[:, j] = np.sqrt((weights * spread).sum(axis=1)) * scale[j]
            with np.errstate(divide="ignore"):
                log_density = -0.5 * ((x[:, [j]] - means) ** 2 / variances + np.log(variances) + _LOG_2PI)
                explanation.nats[:, j] = np.log(scale[j]) - log_sum_exp(np.log(weights) + log_density)
        return explanation

    def latent(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> FloatArray:
        """Return the mean of the encoder's Gaussian for each record and the past, shape (N, Z)."""
        p = self._parameters
        seen = self._seen(x / p.scale)
        past = Past.of(rows, seen, np.ones(len(x), dtype=np.int64))
        inputs = np.concatenate([seen, ~np.isnan(x), past.contexts(slice(None))], axis=1)

        def kernel(columns: FloatArray) -> FloatArray:
            return apply_network(p.encoder, columns)[:, : self.latent_size]

        return map_tiles(kernel, inputs, self.latent_size, _TILE, max(len(bias) for _, bias in p.encoder))

    def regime(self, rows: FloatArray, x: FloatArray, gap_s: FloatArray) -> None:
        """Return None: no single discrete cause is behind a record."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw one sequence of n records, shape (n, D), as it follows upon ``initial_state``."""
        p = self._parameters
        z = rng.standard_normal((n, p.noise.shape[1]))
        noise = rng.standard_normal((n, self.n_features))
        if self.window == 1:
            return self._draw(z, np.empty((n, 0)), noise) * p.scale
        x = np.empty((n, self.n_features))
        ring = self.initial_state(1)
        for t in range(n):
            x[t] = self._draw(z[t : t + 1], ring, noise[t : t + 1])[0]
            ring = np.concatenate([ring[:, self.n_features :], self._seen(x[t : t + 1])], axis=1)
        return x * p.scale

    def arrays(self) -> Arrays:
        p = self._parameters
        return {
            "window": np.array([float(p.window)]),
            "noise": p.noise,
            "scale": p.scale,
            "variance_floor": np.array([p.variance_floor]),
            "input_limit": np.array([p.input_limit]),
            **network_arrays("encoder", p.encoder),
            **network_arrays("decoder", p.decoder),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        return cls(
            VaeParameters(
                window=take_count(arrays, "window"),
                encoder=take_network(arrays, "encoder"),
                decoder=take_network(arrays, "decoder"),
                noise=take(arrays, "noise", (None, None)),
                scale=take(arrays, "scale", (None,)),
                variance_floor=float(take(arrays, "variance_floor", (1,))[0]),
                input_limit=float(take(arrays, "input_limit", (1,))[0]),
            )
        )

    def _seen(self, x: FloatArray) -> FloatArray:
        """Return scaled records as the networks see them: without NaN, and clipped."""
        limit = self._parameters.input_limit
        return np.clip(np.where(np.isnan(x), 0.0, x), -limit, limit)

    def _draw(self, z: FloatArray, context: FloatArray, noise: FloatArray) -> FloatArray:
        columns = np.concatenate([z, context], axis=1).T
        mean, variance = self._mean_and_variance(apply_network(self._parameters.decoder, columns))
        return np.asarray(mean.T + np.sqrt(variance.T) * noise)

    def _log_weights(self, x: FloatArray, seen: FloatArray, context: FloatArray) -> FloatArray:
        """Return log p(x, z_l | context) / q(z_l | x, context) of each record and draw, shape (N, L)."""

        def kernel(columns: FloatArray) -> FloatArray:
            return self._weigh(columns)[0]

        n_draws = len(self._parameters.noise)
        return self._map(kernel, x, seen, context, n_draws)

    def _predictive(
        self, x: FloatArray, seen: FloatArray, context: FloatArray, j: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return ``_log_weights`` and the decoded mean and variance of feature j, each shape (N, L)."""

        def kernel(columns: FloatArray) -> FloatArray:
            log_weights, mean, variance = self._weigh(columns)
            return np.concatenate([log_weights, mean[:, :, j], variance[:, :, j]], axis=1)

        n_draws = len(self._parameters.noise)
        both = self._map(kernel, x, seen, context, 3 * n_draws)
        return both[:, :n_draws], both[:, n_draws : 2 * n_draws], both[:, 2 * n_draws :]

    def _map(
        self, kernel: Kernel, x: FloatArray, seen: FloatArray, context: FloatArray, n_results: int
    ) -> FloatArray:
        p = self._parameters
        observed = ~np.isnan(x)
        inputs = np.concatenate([np.where(observed, x, 0.0), seen, observed, context], axis=1)
        widest = max(len(bias) for _, bias in p.decoder)
        with np.errstate(over="ignore", invalid="ignore"):
            result = map_tiles(kernel, inputs, n_results, _TILE, floats_per_record=widest * len(p.noise))
        # Only inf - inf is NaN here: a record so far away that its squares overflow.
        result[np.isnan(result)] = -np.inf
        return result

    def _weigh(self, columns: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log weights, shape (B, L, T), and decoded means and variances, (B, L, D, T)."""
        p, d = self._parameters, self.n_features
        x, observed, context = columns[:, :d], columns[:, 2 * d : 3 * d], columns[:, 3 * d :]
        latent = apply_network(p.encoder, columns[:, d:])
        n_latent = p.noise.shape[1]
        mean = latent[:, None, :n_latent]
        log_std = 0.5 * np.clip(latent[:, None, n_latent:], -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        noise = p.noise[None, :, :, None]
        z = mean + np.exp(log_std) * noise
        log_prior_over_encoder = np.add.reduce(log_std + 0.5 * (noise * noise - z * z), axis=2)
        if context.shape[1]:
            shared = np.broadcast_to(context[:, None], (len(z), len(p.noise), *context.shape[1:]))
            z = np.concatenate([z, shared], axis=2)
        x_mean, x_variance = self._mean_and_variance(apply_network(p.decoder, z))
        error = x[:, None] - x_mean
        log_volume = _LOG_2PI + 2.0 * np.log(p.scale)[:, None]
        nats = error * error / x_variance + np.log(x_variance) + log_volume
        log_decoder = -0.5 * np.add.reduce(nats * observed[:, None], axis=2)
        return log_decoder + log_prior_over_encoder, x_mean, x_variance

    def _mean_and_variance(self, decoded: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Split the decoder's output, shape (..., 2 D, T), into mean and variance."""
        d = self.n_features
        log_variance = np.clip(decoded[..., d:, :], -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return decoded[..., :d, :], np.exp(log_variance) + self._parameters.variance_floor


def _check_shapes(p: VaeParameters) -> None:
    n_features, n_latent = len(p.scale), p.noise.shape[1]
    if p.window < 1:
        raise ValueError(f"window is {p.window}, expected at least 1; train the bundle again")
    context = (p.window - 1) * n_features
    what = f"{n_features} features, window {p.window} and {n_latent} latent dimensions"
    for name, layers, n_inputs, n_outputs in (
        ("encoder", p.encoder, 2 * n_features + context, 2 * n_latent),
        ("decoder", p.decoder, n_latent + context, 2 * n_features),
    ):
        check_network(name, layers, n_inputs, n_outputs, what)
    if (p.scale <= 0).any() or p.variance_floor < 0 or p.input_limit <= 0:
        raise ValueError(
            "'scale' and 'input_limit' must be positive, 'variance_floor' at least 0; train the bundle again"
        )
