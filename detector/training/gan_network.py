"""The networks of a bidirectional generative adversarial network, and the game that trains them, in torch.

The critic looks at a real and a generated pair together and says which is which (a relativistic loss), with
a penalty on its slope at both. Under this loss a generator that leaves modes out is not at rest, whereas with
a critic that judges pairs one by one it may be; with both penalties the game converges near its solution.

References:
    Donahue, Kraehenbuehl and Darrell (2017), Adversarial feature learning.
    Dumoulin et al. (2017), Adversarially learned inference: the encoder that draws.
    Li et al. (2017), ALICE: towards understanding adversarial learning for joint distribution matching.
    Huang, Gokaslan, Kuleshov and Tompkin (2024), The GAN is dead; long live the GAN! A modern GAN baseline.
    Yazici et al. (2019), The unusual effectiveness of averaging in GAN training.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from detector.batch import FloatArray
from detector.models.networks import Layer
from detector.training.linear_layers import linear_layers

_LEARNING_RATE = 1e-3
_NOISE_LEARNING_RATE = 5e-3
_BETAS = (0.0, 0.99)
_LEAST_RATE = 0.05
_SLOPE_PENALTY = 0.05
_STEPS_PER_PENALTY = 4
_CYCLE_WEIGHT = 0.05
_AVERAGING = 0.995
_FIRST_NOISE_STD = 0.5
_LOG_STD_RANGE = (-5.0, 1.0)


class GanGame:
    """Encoder, generator and critic, their averages over the steps, and their optimisers.

    Args:
        n_features: D.
        latent: Z.
        hidden: Units of the hidden layers of each network.
        noise_floor: Variance of the noise added to real records, and least of that on generated ones.
        n_steps: In all; the second half of them goes ever slower.
    """

    def __init__(
        self, n_features: int, latent: int, hidden: tuple[int, ...], noise_floor: float, n_steps: int
    ) -> None:
        self._latent, self._floor, self._n_steps = latent, noise_floor, n_steps
        self._encoder = linear_layers([n_features, *hidden, 2 * latent])
        self._generator = linear_layers([latent, *hidden, n_features])
        self._critic = linear_layers([n_features + latent, *hidden, 1])
        self._log_noise_std = nn.Parameter(torch.full((n_features,), math.log(_FIRST_NOISE_STD)))
        players = [*self._encoder.parameters(), *self._generator.parameters()]
        self._of_players = torch.optim.Adam(
            [
                {"params": players, "top_rate": _LEARNING_RATE},
                {"params": [self._log_noise_std], "top_rate": _NOISE_LEARNING_RATE},
            ],
            betas=_BETAS,
        )
        self._of_critic = torch.optim.Adam(
            [{"params": list(self._critic.parameters()), "top_rate": _LEARNING_RATE}], betas=_BETAS
        )
        self._averaged = [*players, self._log_noise_std, *self._critic.parameters()]
        self._averages = [parameter.detach().clone() for parameter in self._averaged]
        self._step = 0

    def step(self, x: Tensor) -> None:
        """Let the critic move once, then encoder and generator; ``x`` are real records, shape (B, D)."""
        progress = self._step / self._n_steps
        for optimiser in (self._of_players, self._of_critic):
            for group in optimiser.param_groups:
                group["lr"] = group["top_rate"] * max(_LEAST_RATE, min(1.0, 2.0 * (1.0 - progress)))
        self._step_critic(x)
        self._step_players(x)
        self._step += 1
        # The average forgets its beginning sooner than its later steps.
        share = max(1.0 - _AVERAGING, 9.0 / (self._step + 9.0))
        with torch.no_grad():
            for average, parameter in zip(self._averages, self._averaged, strict=True):
                average.lerp_(parameter, share)

    def layers(self) -> tuple[tuple[Layer, ...], tuple[Layer, ...], tuple[Layer, ...]]:
        """Return encoder, to the mean of z only, generator, and critic without its output, averaged."""
        encoder = _layers(self._average_of(self._encoder))
        weight, bias = encoder[-1]
        encoder = (*encoder[:-1], (weight[: self._latent], bias[: self._latent]))
        return (
            encoder,
            _layers(self._average_of(self._generator)),
            _layers(self._average_of(self._critic))[:-1],
        )

    def noise_variances(self) -> FloatArray:
        """Return the variance of the noise on generated records, averaged, shape (D,)."""
        log_std = self._average_of([self._log_noise_std])[0]
        return np.asarray(self._floor + np.exp(2.0 * log_std.numpy().astype(np.float64)))

    def _step_critic(self, x: Tensor) -> None:
        with torch.no_grad():
            real, generated = self._real(x)[0], self._generated(len(x))
        penalised = self._step % _STEPS_PER_PENALTY == 0
        if penalised:
            real.requires_grad_()
            generated.requires_grad_()
        of_real, of_generated = self._critic(real), self._critic(generated)
        loss = nn.functional.softplus(of_generated - of_real).mean()
        if penalised:
            slopes = torch.autograd.grad(
                of_real.sum() + of_generated.sum(), [real, generated], create_graph=True
            )
            size = sum((slope**2).sum(dim=1).mean() for slope in slopes)
            loss = loss + 0.5 * _SLOPE_PENALTY * _STEPS_PER_PENALTY * size
        self._of_critic.zero_grad()
        torch.autograd.backward(loss)
        self._of_critic.step()

    def _step_players(self, x: Tensor) -> None:
        real, error = self._real(x)
        generated = self._generated(len(x))
        self._critic.requires_grad_(False)
        loss = nn.functional.softplus(self._critic(real) - self._critic(generated)).mean()
        loss = loss + _CYCLE_WEIGHT * (error**2).sum(dim=1).mean()
        self._of_players.zero_grad()
        torch.autograd.backward(loss)
        self._of_players.step()
        self._critic.requires_grad_(True)

    def _real(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pairs (x, z ~ E(x)), shape (B, D + Z), and how z misses x when generated from, (B, D)."""
        x = x + math.sqrt(self._floor) * torch.randn_like(x)
        mean, log_std = self._encoder(x).chunk(2, dim=1)
        z = mean + log_std.clamp(*_LOG_STD_RANGE).exp() * torch.randn_like(mean)
        return torch.cat([x, z], dim=1), self._generator(z) - x

    def _generated(self, n: int) -> Tensor:
        """Return pairs (x, z) with z drawn and x generated from it, shape (n, D + Z)."""
        z = torch.randn(n, self._latent)
        mean = self._generator(z)
        std = torch.sqrt(self._floor + torch.exp(2.0 * self._log_noise_std))
        return torch.cat([mean + std * torch.randn_like(mean), z], dim=1)

    def _average_of(self, parameters: "nn.Module | list[nn.Parameter]") -> list[Tensor]:
        wanted = list(parameters.parameters()) if isinstance(parameters, nn.Module) else parameters
        at = {
            id(parameter): average for parameter, average in zip(self._averaged, self._averages, strict=True)
        }
        return [at[id(parameter)] for parameter in wanted]


def _layers(parameters: list[Tensor]) -> tuple[Layer, ...]:
    arrays = [parameter.numpy().astype(np.float64) for parameter in parameters]
    return tuple(zip(arrays[::2], arrays[1::2], strict=True))
