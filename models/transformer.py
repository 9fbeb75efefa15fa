"""Transformer encoders (Vaswani et al. 2017, arXiv 1706.03762) that give each word of a sentence a label."""

# n points, t words, d dim, h heads, e = d/h

from math import log
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import Codes, Depth, Model
from tangentscope.models.sequences import tagger


class Transformer(Model, frozen=True):
    """Attention among the words of a sentence: `depth` pre-norm blocks on the words' embeddings, then a label for each.

    Words attend to words on both sides, never to padding. Matrices are Xavier-uniform, biases zero.

    Args:
        dim: width of the stream; `heads` must divide it.
        depth: how many blocks.
        heads: of each attention.
        mlp_ratio: hidden units of a block's dense layers, as a multiple of `dim`.
        dropout: of embeddings, and of what attention and dense layers add to the stream, in training.
        positions: `learned` ones start as N(0, 0.02²); `sinusoidal` ones are fixed.
    """

    name: Literal["transformer"] = "transformer"
    dim: int = Field(default=64, ge=1)
    depth: Depth = 2
    heads: int = Field(default=4, ge=1)
    mlp_ratio: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    positions: Literal["learned", "sinusoidal"] = "learned"

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "Transformer":
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, got dim {self.dim} and heads {self.heads}")
        return self

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """From codes `[n, t, features]`, 0 at padding, to `[n, t, outputs]`, zero at padding.

        Raises:
            ModelError: if inputs are no sequences of codes.
        """
        encoder = _Encoder(self, input_shape[0])
        network = tagger(input_shape, self.dim, outputs, codes, encoder, self.dropout, self.name)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        return network


class _Encoder(nn.Module):
    def __init__(self, config: Transformer, steps: int):
        super().__init__()
        if config.positions == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn(steps, config.dim))
        else:
            self.register_buffer("positions", _sinusoids(steps, config.dim))
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        x = x + self.positions
        for block in self.blocks:
            x = block(x, there)
        return self.norm(x)


def _sinusoids(steps: int, dim: int) -> Tensor:
    """`[steps, dim]`: sines, then cosines, of wavelengths from 2π to 10,000 · 2π."""
    rates = torch.exp(-log(10_000) * torch.arange((dim + 1) // 2) / max(1, (dim + 1) // 2 - 1))
    angles = torch.arange(steps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)[:, :dim]


class _Block(nn.Module):
    def __init__(self, config: Transformer):
        super().__init__()
        dim, hidden = config.dim, config.mlp_ratio * config.dim
        self.norm_1, self.attention = nn.LayerNorm(dim), _Attention(dim, config.heads)
        self.norm_2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), there))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class _Attention(nn.Module):
    """Of plain linear layers, which have a rule in `probes.kernels`; `nn.MultiheadAttention` hides its own."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries, self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:  # [n, t, d], [n, t]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [n, h, t, e]
            for layer in (self.queries, self.keys, self.values)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=(there > 0)[:, None, None])
        return self.out(attended.transpose(1, 2).flatten(2))
