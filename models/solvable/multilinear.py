"""Skills that a model has built in and only needs to scale: sigmoidal emergence over time (Nam §4.2, §5.2.1)."""

from math import prod
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import Codes, ModelError
from tangentscope.models.solvable.base import Solvable, numbers, one_code, single_output
from tangentscope.models.solvable.modes import grown, log_growth, over, sigmoidal

TIME_GAIN = 1 / 22
"""By how much a two-layer ReLU net of width 1000 is slower, fitted on a single skill: B² of Nam fig. 5.2."""


class Multilinear(Solvable, frozen=True):
    """f = gain · Σ_k a_k b_k g_k over the first of the skills, whose values g_k are the inputs.

    The task must give skills as inputs, as `sparse_parity` does with `inputs: skills`. gain · a_k b_k is the strength
    R_k of a skill.

    Args:
        skills: N, how many of the most frequent skills the model has; all that there are if not given.
        gain: slows learning as in Nam eq. 5.1; 1/22 is what a two-layer net was found to need (`TIME_GAIN`).
        size: a_k = b_k at the start.
    """

    name: Literal["multilinear"] = "multilinear"
    skills: int | None = Field(default=None, ge=1)
    gain: float = Field(default=1.0, gt=0)
    size: float = Field(default=0.01, gt=0)

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Nam eq. 4.11, B.1; gain: eq. 5.1–5.2"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From skills `[n, n_s]` to `[n, 1]`; the parameters are `a` and `b`, `[N]` each.

        Raises:
            ModelError: if there are several outputs, or fewer skills than asked for.
        """
        return self._network(prod(input_shape), outputs, _Skills)

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """The same from codes `[n, 1]`, where code k above 0 stands for g_k = 1 alone and code 0 for no skill.

        Raises:
            ModelError: if inputs are not one code, if there are several outputs, or fewer skills than asked for.
        """
        return self._network(one_code(self.name, input_shape, codes), outputs, _CodedSkills)

    def _network(self, there: int, outputs: int, cls: type["_Skills"]) -> nn.Module:
        single_output(self.name, outputs)
        if self.skills is not None and self.skills > there:
            raise ModelError(f"{self.name} is to have {self.skills} skills, got a task with {there}: ask for fewer")
        network = cls(self.skills or there, self.gain, there)
        for layer in network.parameters():
            nn.init.constant_(layer, self.size)
        return network

    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """R_k(t), `[*times, N]`, from any start; arguments as in `Solvable.solution`.

        The variance of a skill is its frequency, or d_k/D among D samples.
        """
        a, b = self.solved(network, times, target, variances)
        return self.gain * a * b

    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """R_k, `[N]`."""
        a, b = map(numbers, network.parameters())
        return self.gain * a * b

    def solved(
        self, network: nn.Module, time: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> list[np.ndarray]:
        """a and b, `[*time, N]` each. Arguments as in `Solvable.solution`."""
        a, b = map(numbers, network.parameters())
        first = slice(len(a))
        scales = np.asarray(target, float).reshape(-1)[first]
        frequencies = np.broadcast_to(np.asarray(variances, float), np.size(target))[first]
        p, q = self.gain * (a + b) ** 2 / 4, self.gain * (a - b) ** 2 / 4
        half = log_growth(p, q, scales, over(time, self.gain * frequencies)) / 2
        along, across = grown((a + b) / 2, half), grown((a - b) / 2, -half)
        return [along + across, along - across]


class _Skills(nn.Module):
    def __init__(self, skills: int, gain: float, there: int):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(skills)), nn.Parameter(torch.empty(skills))
        self.gain, self.there = gain, there

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain * x.flatten(1)[:, : len(self.a)] * self.a * self.b).sum(1, keepdim=True)


class _CodedSkills(_Skills):
    def forward(self, x: Tensor) -> Tensor:
        strengths = F.pad(self.gain * self.a * self.b, (1, self.there - len(self.a)))
        return strengths.gather(0, x[:, 0])[:, None]  # whose backward is the fastest


def strengths_over_time(
    times: ArrayLike, frequencies: ArrayLike, scale: ArrayLike, initial: ArrayLike, gain: float = 1.0
) -> np.ndarray:
    """R_k(T) = S/(1 + (S/R_k(0) − 1) exp(−2 η P_k gain S T)), `[*times, *skills]` (Nam eq. 4.11, 5.2).

    Eq. 5.1 puts a constant B before a_k b_k, by which the rate becomes B times as large, not B² times as eq. 5.2
    prints. It is the factor of the rate that was fitted, 1/22: pass `gain=TIME_GAIN`.

    Args:
        times: η T ≥ 0, of any shape; learning rate times steps.
        frequencies: P_k of the skills, or d_k/D among D samples.
        scale: S.
        initial: R_k(0), above 0 and not beyond S. To predict a net's skills, of a net that learned one skill alone.
        gain: by how much learning is slower than with built-in skills.

    Raises:
        ValueError: for another start.
    """
    frequencies, scale, initial = np.broadcast_arrays(*(np.asarray(v, float) for v in (frequencies, scale, initial)))
    return sigmoidal(initial, scale, over(times, 2 * gain * scale * frequencies))
