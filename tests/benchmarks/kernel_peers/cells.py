"""The networks and data points that every peer computes the same kernel of.

Letters: N data points, O outputs per point. Everything is drawn from one seed, so that processes agree without files.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs = Any
"""A tensor [N, ...], or a torch_geometric ``Batch`` of N graphs."""


def build(name: str, sizes: dict[str, int], device: str = "cpu") -> tuple[nn.Module, Inputs]:
    """The cell's network in eval mode, and its N inputs; float32, the same numbers on every device.

    A name that is none of ``NETS`` is that of a real model.
    """
    torch.manual_seed(0)
    model, inputs = NETS[name](**sizes) if name in NETS else real(name, **sizes)
    return model.eval().to(device), inputs.to(device)


def mlp(points: int, inputs: int, width: int, depth: int, outputs: int) -> tuple[nn.Module, Tensor]:
    widths = [inputs, *[width] * depth, outputs]
    layers = [layer for d_i, d_o in pairwise(widths) for layer in (nn.Linear(d_i, d_o), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(points, inputs)


def cnn(points: int, side: int, channels: int, outputs: int) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        *(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(2 * channels * (side // 4) ** 2, outputs)),
    )
    return model, torch.randn(points, 1, side, side)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity, or beside a 1×1 convolution where the shape changes."""

    def __init__(self, d_i: int, d_o: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(d_i, d_o, 3, stride, 1, bias=False), nn.BatchNorm2d(d_o)
        self.conv2, self.norm2 = nn.Conv2d(d_o, d_o, 3, 1, 1, bias=False), nn.BatchNorm2d(d_o)
        self.side = nn.Identity()
        if stride > 1 or d_i != d_o:
            self.side = nn.Sequential(nn.Conv2d(d_i, d_o, 1, stride, bias=False), nn.BatchNorm2d(d_o))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.side(x))


def resnet18(points: int, side: int, channels: int, outputs: int) -> tuple[nn.Module, Tensor]:
    stages = [(channels, channels, 1)]
    for factor in (1, 2, 4):
        stages += [(factor * channels, factor * channels, 1), (factor * channels, 2 * factor * channels, 2)]
    stages.append((8 * channels, 8 * channels, 1))
    model = nn.Sequential(
        *(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        *(ResidualBlock(*stage) for stage in stages),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * channels, outputs)),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: nothing is one or zero
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model, torch.randn(points, 3, side, side)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward net, each after a layer norm and beside the identity."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + self.out((weights @ v).transpose(-2, -3).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Tagger(nn.Module):
    """Words to tags, [N, T] → [N, T·tags]; learned positions."""

    def __init__(self, tokens: int, words: int, width: int, layers: int, tags: int):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(tokens, width)
        self.layers = nn.Sequential(*(EncoderLayer(width) for _ in range(layers)))
        self.norm, self.tags = nn.LayerNorm(width), nn.Linear(width, tags)

    def forward(self, words: Tensor) -> Tensor:
        places = torch.arange(words.shape[-1], device=words.device).expand_as(words)
        return self.tags(self.norm(self.layers(self.words(words) + self.places(places)))).flatten(-2)


def transformer(points: int, tokens: int, words: int, **sizes: int) -> tuple[nn.Module, Tensor]:
    return Tagger(tokens, words, **sizes), torch.randint(words, (points, tokens))


def gin(**sizes: int) -> tuple[nn.Module, Any]:
    """A graph network on random molecules, whose inputs are a torch_geometric ``Batch``."""
    from kernel_peers import molecules

    return molecules.gin(**sizes)


def real(name: str, points: int) -> tuple[nn.Module, Inputs]:
    """Of the table that tests have of networks in use."""
    from real_models import MODELS

    return MODELS[name].make(points)


def vae(points: int, pixels: int, width: int, latent: int) -> tuple[nn.Module, Tensor]:
    """The decoder's mean at the encoder's mean, a deterministic function of the image."""
    model = nn.Sequential(
        *(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, latent)),
        *(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, pixels), nn.Sigmoid()),
    )
    return model, torch.rand(points, pixels)


NETS: dict[str, Callable[..., tuple[nn.Module, Any]]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet18": resnet18,
    "transformer": transformer,
    "gin": gin,
    "vae": vae,
}
