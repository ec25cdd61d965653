"""The differentiable twin of the scored variational autoencoder: the same networks and bound, in torch."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from detector.batch import FloatArray
from detector.models.networks import Layer
from detector.models.vae import LOG_VARIANCE_LIMIT, VaeParameters
from detector.training.linear_layers import linear_layers

_LOG_2PI = math.log(2.0 * math.pi)


class VaeNetwork(nn.Module):
    """Encoder and decoder over features on a scale of one; ``detector.models.vae`` says what they model."""

    def __init__(
        self,
        n_features: int,
        window: int,
        latent: int,
        hidden: tuple[int, ...],
        variance_floor: float,
        input_limit: float,
    ) -> None:
        super().__init__()
        context = (window - 1) * n_features
        self._window = window
        self._variance_floor = variance_floor
        self._input_limit = input_limit
        self.encoder = linear_layers([2 * n_features + context, *hidden, 2 * latent])
        self.decoder = linear_layers([latent + context, *hidden, 2 * n_features])

    def bound(self, x: Tensor, observed: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Return the importance-weighted bound on each record's log-likelihood, shape (N,), nats.

        Args:
            x: Shape (N, D), 0 where missing.
            observed: Shape (N, D), 1 or 0.
            context: Shape (N, C).
            noise: Standard normal draws, shape (N, L, Z) or (L, Z).
        """
        seen = x.clamp(-self._input_limit, self._input_limit)
        mean, log_variance = self.encoder(torch.cat([seen, observed, context], dim=1)).chunk(2, dim=1)
        log_std = 0.5 * log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)[:, None]
        z = mean[:, None] + log_std.exp() * noise
        log_prior_over_encoder = (log_std + 0.5 * (noise**2 - z**2)).sum(dim=2)
        shared = context[:, None].expand(-1, z.shape[1], -1)
        x_mean, x_log_variance = self.decoder(torch.cat([z, shared], dim=2)).chunk(2, dim=2)
        x_variance = (
            x_log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT).exp() + self._variance_floor
        )
        nats = (x[:, None] - x_mean) ** 2 / x_variance + x_variance.log() + _LOG_2PI
        log_decoder = -0.5 * (nats * observed[:, None]).sum(dim=2)
        log_weights = log_decoder + log_prior_over_encoder
        return torch.logsumexp(log_weights, dim=1) - math.log(z.shape[1])

    def scoring_parameters(self, scale: FloatArray, noise: FloatArray) -> VaeParameters:
        """Return what scoring needs.

        Args:
            scale: What features were divided by, shape (D,).
            noise: Draws to score with, shape (L, Z).
        """
        return VaeParameters(
            window=self._window,
            encoder=_layers(self.encoder),
            decoder=_layers(self.decoder),
            noise=noise,
            scale=scale,
            variance_floor=self._variance_floor,
            input_limit=self._input_limit,
        )


def _layers(network: nn.Sequential) -> tuple[Layer, ...]:
    def as_float64(values: Tensor) -> FloatArray:
        return values.detach().numpy().astype(np.float64)

    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return tuple((as_float64(layer.weight), as_float64(layer.bias)) for layer in linear)
