"""A linear model: without layers that feed each other, all modes saturate from the start (Nam eq. 3.5, 3.7, 3.10)."""

from collections import OrderedDict
from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import Codes
from tangentscope.models.solvable.base import Solvable, draw, numbers, one_code, single_output
from tangentscope.models.solvable.modes import exponential, over


class Linear(Solvable, frozen=True):
    """f(x) = xᵀθ, without a bias. On features of x it is kernel regression, and finds the least norm.

    Args:
        std: of θ at the start, which is normal; 0 starts at zero, as the theory does.
    """

    name: Literal["linear"] = "linear"
    std: float = Field(default=0.0, ge=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 3.10, 1.26"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """From `[n, *input_shape]` to `[n, outputs]`; the parameter is `linear.weight`, θᵀ."""
        layer = nn.Linear(prod(input_shape), outputs, bias=False)
        draw(layer.weight, self.std) if self.std else nn.init.zeros_(layer.weight)
        return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=layer))

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """From codes `[n, 1]` to `[n, 1]`, θ_k for a code k above 0 and 0 for code 0; the parameter is `weight`.

        Raises:
            ModelError: if inputs are not one code, or if there are several outputs.
        """
        single_output(self.name, outputs)
        network = _Table(one_code(self.name, input_shape, codes))
        draw(network.weight, self.std) if self.std else nn.init.zeros_(network.weight)
        return network

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """θ(t), of the shape of `target` at each time. Arguments as in `Solvable.solution`."""
        target = np.asarray(target, float)
        (weight,) = map(numbers, network.parameters())
        variances = np.broadcast_to(variances, len(target))
        rates = np.broadcast_to(variances.reshape(-1, *[1] * (target.ndim - 1)), target.shape)
        return linear_strengths(times, target, rates, weight.T.reshape(target.shape))

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """θ, of the shape of `target`."""
        (weight,) = map(numbers, network.parameters())
        return weight.T.reshape(np.shape(target))

    def solved(
        self, network: nn.Module, time: float, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> list[np.ndarray]:
        """θᵀ. Arguments as in `Solvable.solved`."""
        (weight,) = map(numbers, network.parameters())
        found = self.solution(network, time, target, variances)
        return [found.reshape(weight.T.shape).T]


class _Table(nn.Module):
    def __init__(self, codes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(codes))

    def forward(self, codes: Tensor) -> Tensor:
        return F.pad(self.weight, (1, 0)).gather(0, codes[:, 0])[:, None]


def linear_strengths(times: ArrayLike, scales: ArrayLike, variances: ArrayLike, initial: ArrayLike = 0.0) -> np.ndarray:
    """θ_i(t) = S_i + (θ_i(0) − S_i) exp(−E[x_i²] t), `[*times, *modes]` (Nam eq. 3.10).

    Args:
        times: t ≥ 0, of any shape; learning rate times steps.
        scales: S_i, what each mode has to learn.
        variances: E[x_i²]; of features, the intensities ρ_k (eq. 1.26).
        initial: θ_i(0).
    """
    scales, variances, initial = np.broadcast_arrays(*(np.asarray(v, float) for v in (scales, variances, initial)))
    return exponential(initial, scales, over(times, variances))


def least_norm(features: ArrayLike, targets: ArrayLike) -> np.ndarray:
    """Weights of least norm among those of least squared error: where gradient flow from zero ends (Nam app. A.2).

    Args:
        features: Φ, `[n, p]`, any rank; singular values below n or p times the rounding error count as 0.
        targets: `[n]` or `[n, outputs]`.

    Returns:
        ŵ = Φ⁺Y, `[p]` or `[p, outputs]`, float64: ridgeless regression.
    """
    return np.linalg.lstsq(np.asarray(features, float), np.asarray(targets, float), rcond=None)[0]
