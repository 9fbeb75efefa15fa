"""Skills that take several basis functions: emergence over data and over width (Nam §5.2.2–5.2.3, B.1.4–B.1.7)."""

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import ModelError
from tangentscope.models.solvable.base import Solvable, numbers, single_output
from tangentscope.models.solvable.modes import grown, log_growth, over

DATA_SHOTS = 800
"""D_c: samples of a skill that a two-layer ReLU net of width 1000 needs, fitted on a single skill (Nam fig. 5.2)."""

WIDTH_NODES = 4
"""N_c: hidden units that a two-layer ReLU net needs for a skill, fitted on a single skill (Nam fig. 5.2)."""


class SkillBases(Solvable, frozen=True):
    """f = Σ_k a_k Σ_l B_kl e_kl over basis functions that together make up a skill, g_k = Σ_l e_kl/√c.

    The task must give basis functions as inputs, as `sparse_parity` does with `inputs: bases`, c of each skill. With
    all of them and few data this is the D_c-shot learner (eq. 5.3, D_c = c); with the first N of them and data without
    end it needs N_c = c nodes a skill (eq. 5.6).

    Args:
        functions: N, how many basis functions the model has, all those of a skill before the next skill's; all that
            there are if not given.
        size: a_k at the start, and the norm of (B_k1, …), whose entries are equal.
    """

    name: Literal["skill_bases"] = "skill_bases"
    functions: int | None = Field(default=None, ge=1)
    size: float = Field(default=0.01, gt=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 5.3, 5.6, B.21; over time from B.46–B.47"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From basis functions `[n, skills, c]` to `[n, 1]`; the parameters are `a`, `[q]`, and `b`, `[N]`.

        Raises:
            ModelError: if there are several outputs, no basis functions, or fewer of them than asked for.
        """
        single_output(self.name, outputs)
        if len(input_shape) != 2:
            raise ModelError(
                f"{self.name} takes basis functions [skills, functions of each], got inputs of shape "
                f"{list(input_shape)}: choose another task or model"
            )
        skills, each = input_shape
        functions = self.functions or skills * each
        if functions > skills * each:
            raise ModelError(f"{self.name} is to have {functions} basis functions, got {skills * each}: ask for fewer")
        network = _Bases(functions, each)
        nn.init.constant_(network.a, self.size)
        for part in network.b.data.split(each):
            part.fill_(self.size / len(part) ** 0.5)
        return network

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """R_k(t), `[*times, q]`, over data without end. Arguments as in `Solvable.solution`.

        The target is S/√c for each basis function of a skill, `[skills, c]`; the variance of a skill's basis functions
        is its frequency, `[skills]`.

        Raises:
            ValueError: if a skill's basis functions do not start in proportion to the target.
        """
        target = np.asarray(target, float)
        a, rows = _layers(network, target.shape[1])
        q, each = rows.shape
        there = list(network.parameters())[1].numel()
        wanted = target[:q] * (np.arange(q * each) < there).reshape(q, each)
        scales = np.linalg.norm(wanted, axis=1)
        lengths = (rows * wanted).sum(1) / scales
        if not np.allclose(rows, lengths[:, None] * wanted / scales[:, None], rtol=0, atol=1e-5 * np.abs(rows).max()):
            raise ValueError("basis functions must start in proportion to the target, got others: build the model anew")
        along, across = (a + lengths) ** 2 / 4, (a - lengths) ** 2 / 4
        frequencies = np.broadcast_to(np.asarray(variances, float), len(target))[: len(a)]
        growth = log_growth(along, across, scales, over(times, frequencies))
        return (grown(along, growth) - grown(across, -growth)) * scales / np.linalg.norm(target[: len(a)], axis=1)

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """R_k, `[q]`: a_k times the part of (B_k1, …) along the target."""
        target = np.asarray(target, float)
        a, rows = _layers(network, target.shape[1])
        wanted = target[: len(a)]
        return a * (rows * wanted).sum(1) / np.linalg.norm(wanted, axis=1)


def _layers(network: nn.Module, each: int) -> tuple[np.ndarray, np.ndarray]:
    """a, `[q]`, and B, `[q, each]`, with zeros for what is missing."""
    a, b = map(numbers, network.parameters())
    return a, np.concatenate([b, np.zeros(len(a) * each - len(b))]).reshape(len(a), each)


class _Bases(nn.Module):
    def __init__(self, functions: int, each: int):
        super().__init__()
        self.missing = -functions % each  # of the last skill's basis functions
        self.each = each
        self.a = nn.Parameter(torch.empty((functions + self.missing) // each))
        self.b = nn.Parameter(torch.empty(functions))

    def forward(self, x: Tensor) -> Tensor:
        scaled = F.pad(x.flatten(1)[:, : len(self.b)] * self.b, (0, self.missing))
        return (scaled.unflatten(1, (-1, self.each)).sum(2) * self.a).sum(1, keepdim=True)


def strengths_over_data(counts: ArrayLike, scale: float, shots: int = DATA_SHOTS) -> np.ndarray:
    """Mean R_k(∞) = S min(1, d_k/D_c): the least-norm solution's learnability (Nam B.1.6, B.42), of `counts`' shape.

    Eq. 5.5 takes S (1 − √(1 − d_k/D_c)) from the loss of B.42 by eq. 4.10, which holds of multiples of g_k alone: below
    D_c samples the net also has a part across g_k. `printed_strengths_over_data` has that formula.

    Args:
        counts: d_k, how many samples there are of each skill; D times its frequency in the mean.
        scale: S.
        shots: D_c, basis functions of a skill.
    """
    return scale * np.minimum(1, np.asarray(counts, float) / shots)


def printed_strengths_over_data(counts: ArrayLike, scale: float, shots: int = DATA_SHOTS) -> np.ndarray:
    """Nam eq. 5.5 as printed. Arguments as in `strengths_over_data`."""
    return scale * (1 - np.sqrt(1 - np.minimum(1, np.asarray(counts, float) / shots)))


def loss_over_data(counts: ArrayLike, scale: float, shots: int = DATA_SHOTS) -> np.ndarray:
    """Mean loss of a skill, ½ S² (1 − d_k/D_c) (Nam B.42). Arguments as in `strengths_over_data`."""
    return scale**2 / 2 * (1 - np.minimum(1, np.asarray(counts, float) / shots))


def strengths_over_width(functions: ArrayLike, skills: int, scale: float, nodes: int = WIDTH_NODES) -> np.ndarray:
    """R_k(∞), `[*functions, skills]`: S, S r/N_c or 0 as a skill has all, r or none of its functions (Nam eq. 5.9).

    Args:
        functions: N, basis functions in all, of any shape; of a two-layer net, hidden units.
        skills: how many skills there are, the most frequent first.
        scale: S.
        nodes: N_c, basis functions of a skill.
    """
    left = np.subtract.outer(np.asarray(functions, float), nodes * np.arange(skills))
    return scale * np.clip(left / nodes, 0, 1)
