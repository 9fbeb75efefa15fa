"""One input, one output, two layers of any width and any start: from lazy to rich (Nam §6.2–6.3)."""

from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import ModelError
from tangentscope.models.solvable.base import Solvable, draw, numbers, single_output
from tangentscope.models.solvable.modes import grown, log_growth, over


class ScalarNet(Solvable, frozen=True):
    """f(x) = x/Z Σ_i a_i b_i. Whether features move is a matter of the start, of Z and of the target's scale.

    Args:
        width: how many pairs a_i, b_i.
        normalisation: Z. √width with `size` 1 is the NTK's; 1 with a small `size` is rich.
        init: `normal` draws from N(0, `size`²); `signs` draws ±`size`.
        size: of the parameters at the start.
    """

    name: Literal["scalar_net"] = "scalar_net"
    width: int = Field(ge=1)
    normalisation: float = Field(default=1.0, gt=0)
    init: Literal["normal", "signs"] = "normal"
    size: float = Field(default=1.0, gt=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 6.10–6.14, with the exponent of 6.12 put right"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From `[n, *input_shape]`, one number each, to `[n, 1]`; the parameters are `a` and `b`, `[width]` each.

        Raises:
            ModelError: if there are several inputs or outputs.
        """
        single_output(self.name, outputs)
        if prod(input_shape) != 1:
            raise ModelError(
                f"{self.name} takes one number, got inputs of shape {list(input_shape)}: choose another task or model"
            )
        network = _Scalar(self.width, self.normalisation)
        for layer in network.parameters():
            draw(layer, self.size)
            if self.init == "signs":
                layer.data = torch.sign(layer.data) * self.size
        return network

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """θ(t) = Σ_i a_i b_i(t)/Z, `[*times, 1]`. Arguments as in `Solvable.solution`."""
        a, b = self.solved(network, times, target, variances)
        return (a * b).sum(-1, keepdims=True) / self.normalisation

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """θ, `[1]`."""
        a, b = map(numbers, network.parameters())
        return (a * b).sum(keepdims=True) / self.normalisation

    def solved(
        self, network: nn.Module, time: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> list[np.ndarray]:
        """a and b, `[*time, width]` each. Arguments as in `Solvable.solution`."""
        a, b = map(numbers, network.parameters())
        elapsed = np.asarray(time, float) * np.asarray(variances, float).item()
        return list(scalar_layers(elapsed, a, b, np.asarray(target, float).item(), self.normalisation))


class _Scalar(nn.Module):
    def __init__(self, width: int, normalisation: float):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.normalisation = normalisation

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) / self.normalisation * self.a * self.b).sum(1, keepdim=True)


def scalar_layers(
    times: ArrayLike, a: ArrayLike, b: ArrayLike, target: float, normalisation: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """a_i(t) and b_i(t), `[*times, width]` each, for E[x²] = 1 (Nam eq. 6.10–6.11).

    a_i + b_i grows by γ^½ and a_i − b_i falls by it, so that every a_i² − b_i² is conserved.

    Args:
        times: t ≥ 0, of any shape; learning rate times steps, times E[x²] where that is not 1.
        a, b: the layers at the start, `[width]`.
        target: S.
        normalisation: Z.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    half = scalar_log_growth(times, a, b, target, normalisation)[..., None] / 2
    along, across = grown((a + b) / 2, half), grown((a - b) / 2, -half)
    return along + across, along - across


def scalar_log_growth(
    times: ArrayLike, a: ArrayLike, b: ArrayLike, target: float, normalisation: float = 1.0
) -> np.ndarray:
    """ln γ(t), `[*times]`: Nam eq. 6.12 with the exponent −2 √(Σ0² − S0² + S²) t/Z. Arguments as in `scalar_layers`."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    p, q = ((a + b) ** 2).sum() / 4 / normalisation, ((a - b) ** 2).sum() / 4 / normalisation
    return log_growth(p, q, target, over(times, 1 / normalisation))


def printed_scalar_log_growth(
    times: ArrayLike, a: ArrayLike, b: ArrayLike, target: float, normalisation: float = 1.0
) -> np.ndarray:
    """ln γ(t) with the exponent that Nam eq. 6.12 prints, −4 √(…) t/Z: learning at twice its speed."""
    return scalar_log_growth(2 * np.asarray(times, float), a, b, target, normalisation)


def final_growth(a: ArrayLike, b: ArrayLike, target: float, normalisation: float = 1.0) -> float:
    """γ_+ = (S + √(Σ0² − S0² + S²))/(Σ0 + S0), γ at the end (Nam eq. 6.14): about 1 if lazy, large if rich.

    Infinite where no pair has a part along the target. Arguments as in `scalar_layers`.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    p, q = ((a + b) ** 2).sum() / 4 / normalisation, ((a - b) ** 2).sum() / 4 / normalisation
    root = np.sqrt(target**2 + 4 * p * q)
    with np.errstate(divide="ignore"):
        # Of the two equal forms the one in which nothing cancels.
        return float((target + root) / (2 * p) if target >= 0 else 2 * q / (root - target))
