"""The variational autoencoder: a record is decoded from a few hidden causes and from the records before it.

It models p(x_t | the last W - 1 records): z ~ N(0, I), x_t | z, context ~ independent Gaussians whose means
and variances a network decodes. W = 1 looks at the record alone. What is scored is the importance-weighted
bound log 1/L sum_l p(x, z_l | context) / q(z_l | x, context) over L draws from the encoder, at most
log p(x | context) on average over the noise, which is stored so that a replay repeats.

A missing feature simply drops out of the decoder's product, because the features are independent given z,
so the bound stays a bound on the observed features' marginal. What it costs is a poorer encoder: that sees a
zero and a mask in the feature's place. Therefore a record that lacks something is also imputed: three times
the missing features are put where the decoder expects them at the encoder's mean of z. Of 2 L draws one half
comes from the encoder that saw the mask, the other from the encoder that saw the imputed record, and all are
weighed against the mixture of both. What proposes draws tightens the bound or loosens it, but never breaks
it. Networks see their inputs clipped at ``input_limit``: an absurd value must not be extrapolated from, now
or as context of what follows.

References:
    Kingma and Welling (2014), Auto-encoding variational Bayes.
    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
    Rezende, Mohamed and Wierstra (2014), Stochastic backpropagation and approximate inference in deep
        generative models: missing values imputed by encoding and decoding in turn.
    Mattei and Frellsen (2018), Leveraging the exact likelihood of deep latent variable models: such
        imputations as proposals.
    Veach and Guibas (1995), Optimally combining sampling techniques: weights against the mixture.
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
_IMPUTATION_ROUNDS = 3
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
    """Shape (L, Z), the standard normal draws behind z, of each encoding of a record."""
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
            log_likelihood[part] = self._bound(x[part], seen[part], past.contexts(part))
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

    def _bound(self, x: FloatArray, seen: FloatArray, context: FloatArray) -> FloatArray:
        """Return the bound on log p(x | context) of each record, shape (N,)."""
        incomplete = np.isnan(x).any(axis=1)
        if not incomplete.any():
            return self._mean_weight(x, seen, context, imputing=False)
        bound = np.empty(len(x))
        for rows, imputing in ((~incomplete, False), (incomplete, True)):
            bound[rows] = self._mean_weight(x[rows], seen[rows], context[rows], imputing=imputing)
        return bound

    def _mean_weight(
        self, x: FloatArray, seen: FloatArray, context: FloatArray, *, imputing: bool
    ) -> FloatArray:
        """Return log 1/L sum_l p(x, z_l | context) / q(z_l | x, context), shape (N,)."""

        def kernel(columns: FloatArray) -> FloatArray:
            return self._weigh(columns, imputing)[0]

        n_draws = len(self._parameters.noise) * (2 if imputing else 1)
        log_weights = self._map(kernel, x, seen, context, n_draws)
        return np.asarray(log_sum_exp(log_weights) - np.log(n_draws))

    def _predictive(
        self, x: FloatArray, seen: FloatArray, context: FloatArray, j: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log weights, and the decoded mean and variance of the missing feature j, each (N, 2 L)."""

        def kernel(columns: FloatArray) -> FloatArray:
            log_weights, mean, variance = self._weigh(columns, imputing=True)
            return np.concatenate([log_weights, mean[:, :, j], variance[:, :, j]], axis=1)

        n_draws = 2 * len(self._parameters.noise)
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

    def _weigh(self, columns: FloatArray, imputing: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log weights, shape (B, L, T), decoded means and variances, (B, L, D, T); 2 L if imputing."""
        p, d = self._parameters, self.n_features
        x, seen = columns[:, :d], columns[:, d : 2 * d]
        observed, context = columns[:, 2 * d : 3 * d], columns[:, 3 * d :]
        proposals = [self._encoded(columns[:, d:])]
        if imputing:
            proposals.append(self._imputed(seen, observed, context, proposals[0][0]))
        z, log_prior_over_encoder = self._draw_latent(proposals)
        x_mean, x_variance = self._mean_and_variance(apply_network(p.decoder, _with_context(z, context)))
        error = x[:, None] - x_mean
        log_volume = _LOG_2PI + 2.0 * np.log(p.scale)[:, None]
        nats = error * error / x_variance + np.log(x_variance) + log_volume
        log_decoder = -0.5 * np.add.reduce(nats * observed[:, None], axis=2)
        return log_decoder + log_prior_over_encoder, x_mean, x_variance

    def _encoded(self, columns: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and log standard deviation of z, each shape (B, 1, Z, T), of what the encoder sees."""
        encoded = apply_network(self._parameters.encoder, columns)[:, None]
        n_latent = self.latent_size
        log_variance = np.clip(encoded[:, :, n_latent:], -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return encoded[:, :, :n_latent], 0.5 * log_variance

    def _imputed(
        self, seen: FloatArray, observed: FloatArray, context: FloatArray, mean: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what ``_encoded`` makes of records that are imputed, beginning from a mean of z."""
        p = self._parameters
        complete, log_std = np.ones_like(observed), mean
        for _ in range(_IMPUTATION_ROUNDS):
            decoded = apply_network(p.decoder, _with_context(mean, context))[:, 0, : self.n_features]
            filled = np.where(observed > 0.0, seen, np.clip(decoded, -p.input_limit, p.input_limit))
            mean, log_std = self._encoded(np.concatenate([filled, complete, context], axis=1))
        return mean, log_std

    def _draw_latent(self, proposals: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
        """Draw from each of some Gaussians, and weigh the prior against their mixture.

        Args:
            proposals: P means and log standard deviations, each shape (B, 1, Z, T).

        Returns:
            z, shape (B, P L, Z, T), and log p(z) - log q(z), shape (B, P L, T).
        """
        noise = self._parameters.noise[None, :, :, None]
        z = np.concatenate([mean + np.exp(log_std) * noise for mean, log_std in proposals], axis=1)
        if len(proposals) == 1:
            ((_, log_std),) = proposals
            return z, np.add.reduce(log_std + 0.5 * (noise * noise - z * z), axis=2)
        log_mixture = np.full((), -np.inf)
        for mean, log_std in proposals:
            standard = (z - mean) * np.exp(-log_std)
            density = -np.add.reduce(log_std + 0.5 * standard * standard, axis=2)
            log_mixture = np.logaddexp(log_mixture, density)
        log_prior = -0.5 * np.add.reduce(z * z, axis=2)
        return z, log_prior - log_mixture + np.log(len(proposals))

    def _mean_and_variance(self, decoded: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Split the decoder's output, shape (..., 2 D, T), into mean and variance."""
        d = self.n_features
        log_variance = np.clip(decoded[..., d:, :], -LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        return decoded[..., :d, :], np.exp(log_variance) + self._parameters.variance_floor


def _with_context(z: FloatArray, context: FloatArray) -> FloatArray:
    """Return the decoder's inputs, (B, L, Z + C, T), of draws, (B, L, Z, T), and contexts, (B, C, T)."""
    if context.shape[1] == 0:
        return z
    shared = np.broadcast_to(context[:, None], (*z.shape[:2], *context.shape[1:]))
    return np.concatenate([z, shared], axis=2)


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
