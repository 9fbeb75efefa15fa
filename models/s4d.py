"""Diagonal state-space layers, S4D (Gu et al. 2022, arXiv 2206.11893)."""

# n points, t steps, d dim, s modes

from math import log, pi
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import Depth
from tangentscope.models.sequences import SequenceModel

SLOWEST, FASTEST = 1e-3, 1e-1  # steps of time at the start


class S4D(SequenceModel, frozen=True):
    """`depth` pre-norm blocks of diagonal state spaces, on words (a label each) or rows of images (one label).

    Each of the stream's `dim` numbers drives `modes` pairs of conjugate complex modes, whose responses to the steps
    before and after are convolutions. Initialised as S4D-Lin (A = −½ + iπk, B = 1, C normal, steps of time
    log-uniform in [0.001, 0.1]), discretised by zero-order hold. All trainable numbers are real.

    Args:
        dim: width of the stream.
        depth: how many blocks.
        modes: pairs of modes a number of the stream has, half of the paper's state size.
        dropout: of embeddings and of what a block adds to the stream, in training.
    """

    name: Literal["s4d"] = "s4d"
    depth: Depth = 2
    modes: int = Field(default=8, ge=1)

    version: ClassVar[int] = 1

    def encoder(self) -> nn.Module:
        """As `SequenceModel` says."""
        return _Encoder(self)


class _Encoder(nn.Module):
    def __init__(self, config: S4D):
        super().__init__()
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, there)
        return self.norm(x)


class _Block(nn.Module):
    def __init__(self, config: S4D):
        super().__init__()
        self.norm, self.responses = nn.LayerNorm(config.dim), _Responses(config.dim, config.modes)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(config.dim, config.dim), nn.Dropout(config.dropout))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        # Padding drives nothing.
        return x + self.mix(self.responses(self.norm(x) * there[..., None]))


class _Responses(nn.Module):
    """y_t = Σ_s K_{t−s} u_s + Σ_s K'_{s−t} u_s + D u_t, of each number of the stream, `[n, t, d]` both."""

    def __init__(self, dim: int, modes: int):
        super().__init__()
        rates = torch.rand(dim) * (log(FASTEST) - log(SLOWEST)) + log(SLOWEST)
        self.log_step = nn.Parameter(rates)
        self.log_decay = nn.Parameter(torch.full((dim, modes), log(0.5)))
        self.frequency = nn.Parameter((pi * torch.arange(modes)).repeat(dim, 1))
        self.readout = nn.Parameter(torch.randn(2, dim, modes, 2) * 0.5**0.5)  # C forwards and backwards, re and im
        self.skip = nn.Parameter(torch.randn(dim))

    def forward(self, u: Tensor) -> Tensor:
        steps = u.shape[1]
        after, before = self._kernels(steps)
        # As wide as both halves: no step meets another round the circle.
        kernel = torch.cat([after, torch.zeros_like(after[:1]), before.flip(0)[:-1]])
        transformed = torch.fft.rfft(u, 2 * steps, dim=1) * torch.fft.rfft(kernel, dim=0)
        return torch.fft.irfft(transformed, 2 * steps, dim=1)[:, :steps] + self.skip * u

    def _kernels(self, steps: int) -> Tensor:
        """K and K', `[2, t, d]`: what a step leaves at itself and at the t − 1 steps after it, or before it."""
        poles = torch.complex(-self.log_decay.exp(), self.frequency)  # [d, s]
        moved = poles * self.log_step.exp()[:, None]
        powers = torch.exp(moved * torch.arange(steps, device=moved.device)[:, None, None])  # [t, d, s]
        held = torch.view_as_complex(self.readout) * (moved.exp() - 1) / poles
        return 2 * torch.einsum("cds,tds->ctd", held, powers).real
