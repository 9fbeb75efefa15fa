"""Variational auto-encoders (Kingma and Welling 2014), dense or convolutional, of any width, depth and latent size."""

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import ACTIVATIONS, Activation, Depth, Model, ModelError, image_shape, initialise

KERNEL = 3


class VAE(Model, frozen=True):
    """An encoder to the mean and log-variance of a Gaussian q(z | x), and a decoder from z to logits of the inputs.

    `dense`: `depth` hidden layers of `width` units in the encoder and as many in the decoder. `conv`: `depth` 3×3
    convolutions with `width` channels and stride 2 in the encoder, which halve the sides of an image (28, 14, 7); in
    the decoder a dense layer to `width` maps of the least side, then as many times a map made twice as large by
    repeating its pixels and a 3×3 convolution (Odena et al. 2016), the last to the image.

    Args:
        width: hidden units, or channels.
        depth: how many hidden layers, or convolutions, each half has.
        latent: numbers in z.
        activation: after every layer but the last of each half.
        init: distribution of the weights as in `MLP` and `CNN`; biases start at zero except in `standard`.
    """

    name: Literal["vae"] = "vae"
    kind: Literal["dense", "conv"] = "dense"
    width: int = Field(ge=1)
    depth: Depth = 1
    latent: int = Field(default=20, ge=1)
    activation: Activation = "relu"
    init: Literal["lecun", "he", "xavier", "standard"] = "lecun"

    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> "Autoencoder":
        """From `[n, *input_shape]` to `[n, outputs + 2 · latent]`: decoded logits, and mean and log-variance of q."""
        if outputs != prod(input_shape):
            raise ModelError(
                f"{self.name} gives back what it gets, {prod(input_shape)} numbers for each point; the task asks for "
                f"{outputs} outputs: choose the task mnist_vae or another model"
            )
        halves = self._dense(prod(input_shape)) if self.kind == "dense" else self._convolutional(input_shape)
        encoder, decoder = (nn.Sequential(*half) for half in halves)
        for layer in (*encoder, *decoder):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                initialise(layer, self.init)
        return Autoencoder(encoder, decoder)

    def _dense(self, inputs: int) -> tuple[list[nn.Module], list[nn.Module]]:
        hidden = [self.width] * self.depth
        encoder = self._layers([inputs, *hidden, 2 * self.latent])
        return [nn.Flatten(), *encoder], [*self._layers([self.latent, *hidden, inputs])]

    def _layers(self, sizes: list[int]) -> Iterator[nn.Module]:
        for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            if number:
                yield ACTIVATIONS[self.activation]()
            yield nn.Linear(fan_in, fan_out)

    def _convolutional(self, input_shape: tuple[int, ...]) -> tuple[list[nn.Module], list[nn.Module]]:
        channels, *sides = image_shape(input_shape, self.name)
        shapes = [tuple(sides)]
        encoder: list[nn.Module] = []
        for fan_in in (channels, *[self.width] * (self.depth - 1)):
            encoder += [nn.Conv2d(fan_in, self.width, KERNEL, stride=2, padding=1), ACTIVATIONS[self.activation]()]
            shapes.append(tuple(-(-side // 2) for side in shapes[-1]))
        least = (self.width, *shapes.pop())
        encoder += [nn.Flatten(), nn.Linear(prod(least), 2 * self.latent)]
        decoder: list[nn.Module] = [nn.Linear(self.latent, prod(least)), nn.Unflatten(1, least)]
        for shape, fan_out in zip(reversed(shapes), (*[self.width] * (self.depth - 1), channels), strict=True):
            decoder += [ACTIVATIONS[self.activation](), nn.Upsample(shape)]
            decoder += [nn.Conv2d(self.width, fan_out, KERNEL, padding="same")]
        return encoder, [*decoder, nn.Flatten()]


class Autoencoder(nn.Module):
    """Both halves.

    Args:
        encoder: from points to mean and log-variance of q(z | x), `[n, 2 · latent]`.
        decoder: from z `[n, latent]` to logits `[n, outputs]`.
    """

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Logits decoded from one draw of z for each point, mean and log-variance of q(z | x), side by side.

        The draws come from torch's global generator, in evaluations too.
        """
        code = self.encoder(x)
        mean, log_variance = code.chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return torch.cat([self.decoder(z), code], dim=1)

    def mean(self, inputs: Tensor) -> Tensor:
        """Mean of q(z | x), `[n, latent]`."""
        return self.encoder(inputs).chunk(2, dim=1)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """Logits `[n, outputs]` for z `[n, latent]`."""
        return self.decoder(latent)
