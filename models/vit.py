"""Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929), small ones for small images."""

# n points, t tokens, d dim, h heads, e = d/h

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import Depth, Model, ModelError, image_shape


class ViT(Model, frozen=True):
    """Attention over patches: `depth` pre-norm blocks on the patches' embeddings and a class token, which is read out.

    Initialised as the published code does (Xavier-uniform matrices, LeCun-normal patches, positions N(0, 0.02²), zero
    biases and class token), but for the head, which is drawn as other matrices are: starting at zero, it would hide all
    other layers from the tangent kernel. No dropout.

    Args:
        patch: side of a patch, in pixels; it must divide the image's sides.
        dim: width of the stream; `heads` must divide it.
        depth: how many blocks.
        heads: of each attention.
        mlp_ratio: hidden units of a block's dense layers, as a multiple of `dim`.
    """

    name: Literal["vit"] = "vit"
    patch: int = Field(default=4, ge=1)
    dim: int = Field(default=64, ge=1)
    depth: Depth = 4
    heads: int = Field(default=4, ge=1)
    mlp_ratio: int = Field(default=4, ge=1)

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "ViT":
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, got dim {self.dim} and heads {self.heads}")
        return self

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From images `[n, channels, height, width]` to `[n, outputs]`.

        Raises:
            ModelError: if the sides are no multiples of `patch`.
        """
        channels, *sides = image_shape(input_shape, self.name)
        if any(side % self.patch for side in sides):
            raise ModelError(
                f"vit cuts images into patches of {self.patch}×{self.patch}, got images of {sides[0]}×{sides[1]}: "
                "set model.patch to a divisor of both sides"
            )
        tokens = 1 + (sides[0] // self.patch) * (sides[1] // self.patch)
        network = _ViT(self, channels, tokens, outputs)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(network.patches.weight, std=(channels * self.patch**2) ** -0.5)
        nn.init.zeros_(network.patches.bias)  # pyright: ignore[reportArgumentType]
        nn.init.normal_(network.positions, std=0.02)
        return network


class _ViT(nn.Module):
    def __init__(self, config: ViT, channels: int, tokens: int, outputs: int):
        super().__init__()
        self.patches = nn.Conv2d(channels, config.dim, config.patch, stride=config.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.positions = nn.Parameter(torch.zeros(tokens, config.dim))
        self.blocks = nn.Sequential(
            *[_Block(config.dim, config.heads, config.mlp_ratio * config.dim) for _ in range(config.depth)]
        )
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, outputs)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)  # [n, t - 1, d]
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1)
        return self.head(self.norm(self.blocks(tokens + self.positions)[:, 0]))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(dim), _Attention(dim, heads)
        self.norm_2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class _Attention(nn.Module):
    """Of plain linear layers, which have a rule in `probes.kernels`; `nn.MultiheadAttention` hides its own."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        # Three layers, not one of 3·dim outputs: each is then initialised by its own fan-out.
        self.queries, self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # [n, t, d]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [n, h, t, e]
            for layer in (self.queries, self.keys, self.values)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
