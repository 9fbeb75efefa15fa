"""Diagonal linear nets: two layers that feed each other learn one mode after another (Nam eq. 3.3, 3.6–3.14)."""

from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.solvable.base import Solvable, draw, numbers, single_output
from tangentscope.models.solvable.modes import grown, log_growth, over, sigmoidal


class DiagonalLinear(Solvable, frozen=True):
    """f(x) = Σ_i a_i b_i x_i: what one layer has learned sets the pace of the other.

    Args:
        init: `equal` starts at a_i = b_i = `size`; `normal` draws both from N(0, `size`²).
        size: of the parameters at the start. Modes wait for ln(S_i/size²)/(2 S_i E[x_i²]) or so.
    """

    name: Literal["diagonal_linear"] = "diagonal_linear"
    init: Literal["equal", "normal"] = "equal"
    size: float = Field(default=0.01, gt=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 3.9, A.20; from unequal layers: Saxe et al. 2014, app. A, and Nam eq. 6.10–6.12"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From `[n, *input_shape]` to `[n, 1]`; the parameters are `a` and `b`, `[inputs]` each.

        Raises:
            ModelError: if there are several outputs.
        """
        single_output(self.name, outputs)
        network = _Diagonal(prod(input_shape))
        for layer in network.parameters():
            draw(layer, self.size) if self.init == "normal" else nn.init.constant_(layer, self.size)
        return network

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """a_i b_i(t), `[*times, inputs]`, from any start. Arguments as in `Solvable.solution`."""
        a, b = self._layers(network, times, target, variances)
        return a * b

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """a_i b_i, `[inputs]`."""
        a, b = map(numbers, network.parameters())
        return a * b

    def solved(
        self, network: nn.Module, time: float, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> list[np.ndarray]:
        """a and b. Arguments as in `Solvable.solved`."""
        return list(self._layers(network, time, target, variances))

    def _layers(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        a, b = map(numbers, network.parameters())
        return diagonal_layers(times, a, b, np.asarray(target, float).reshape(len(a)), variances)


class _Diagonal(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(inputs)), nn.Parameter(torch.empty(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) * self.a * self.b).sum(1, keepdim=True)


def diagonal_strengths(times: ArrayLike, scales: ArrayLike, variances: ArrayLike, initial: ArrayLike) -> np.ndarray:
    """a_i b_i(t) = S_i/(1 + (S_i/(a_i b_i)(0) − 1) exp(−2 S_i E[x_i²] t)), `[*times, *modes]` (Nam eq. 3.9).

    Args:
        times: t ≥ 0, of any shape; learning rate times steps.
        scales: S_i.
        variances: E[x_i²].
        initial: (a_i b_i)(0), of layers that are equal there: above 0 and not beyond S_i.

    Raises:
        ValueError: for another start; `diagonal_layers` takes any.
    """
    scales, variances, initial = np.broadcast_arrays(*(np.asarray(v, float) for v in (scales, variances, initial)))
    return sigmoidal(initial, scales, over(times, 2 * scales * variances))


def diagonal_layers(
    times: ArrayLike, a: ArrayLike, b: ArrayLike, scales: ArrayLike, variances: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """a_i(t) and b_i(t), `[*times, *modes]` each, from any start: `scalar_net.py`'s solution, mode by mode.

    a_i + b_i grows by γ_i^½ and a_i − b_i falls by it, so that a_i² − b_i² is conserved (Nam eq. 3.8).

    Args:
        times: t ≥ 0, of any shape; learning rate times steps.
        a, b: the layers at the start.
        scales: S_i, of either sign.
        variances: E[x_i²].
    """
    a, b, scales, variances = np.broadcast_arrays(*(np.asarray(v, float) for v in (a, b, scales, variances)))
    half = log_growth((a + b) ** 2 / 4, (a - b) ** 2 / 4, scales, over(times, variances)) / 2
    along, across = grown((a + b) / 2, half), grown((a - b) / 2, -half)
    return along + across, along - across


def emergent_times(level: ArrayLike, scales: ArrayLike, variances: ArrayLike, initial: ArrayLike) -> np.ndarray:
    """τ_i^(e): when a_i b_i/S_i reaches `level`, in (0, 1) (Nam eq. 3.12). Arguments as in `diagonal_strengths`."""
    scales, level = np.asarray(scales, float), np.asarray(level, float)
    return (np.log(scales / initial - 1) - np.log(1 / level - 1)) / (2 * np.asarray(variances) * scales)


def saturation_times(level: ArrayLike, scales: ArrayLike, variances: ArrayLike) -> np.ndarray:
    """τ_i^(s): how long a_i b_i/S_i takes from `level` to 1 − `level`, for `level` below ½ (Nam eq. 3.12)."""
    return np.log(1 / np.asarray(level, float) - 1) / (np.asarray(variances) * np.asarray(scales, float))


def stage_overlap(scale: ArrayLike, initial: ArrayLike, faster: ArrayLike, slower: ArrayLike) -> np.ndarray:
    """ε at which a mode saturates just when the next one emerges: ε = 1/(1 + (S/(ab)(0) − 1)^q).

    q = (E_i − E_{i+1})/(E_i + E_{i+1}) for variances E_i > E_{i+1}: from τ_i^(s)(ε) = τ_{i+1}^(e)(ε) − τ_i^(e)(ε).
    Training is stage-like where ε ≪ 1. `printed_stage_overlap` has Nam eq. 3.13 as printed.

    Args:
        scale: S, of both modes.
        initial: (ab)(0), of both.
        faster, slower: E_i and E_{i+1}.

    Raises:
        ValueError: if the first variance is not the greater one.
    """
    faster, slower = np.asarray(faster, float), np.asarray(slower, float)
    if not (faster > slower).all():
        raise ValueError(f"expected a faster mode and a slower one, got variances {faster} and {slower}: swap them")
    return _overlap(scale, initial, (faster - slower) / (faster + slower))


def printed_stage_overlap(scale: ArrayLike, initial: ArrayLike, faster: ArrayLike, slower: ArrayLike) -> np.ndarray:
    """Nam eq. 3.13 with the exponent as printed, E_{i+1} − E_i above the line: 1 − ε, which no small start makes small.

    Arguments as in `stage_overlap`.
    """
    faster, slower = np.asarray(faster, float), np.asarray(slower, float)
    return _overlap(scale, initial, (slower - faster) / (faster + slower))


def _overlap(scale: ArrayLike, initial: ArrayLike, power: np.ndarray) -> np.ndarray:
    return 1 / (1 + (np.asarray(scale, float) / initial - 1) ** power)
