"""What every solvable model has: a network, and where gradient flow takes it from its first parameters."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from tangentscope.models.base import Codes, Model, ModelError


class Solvable(Model, frozen=True):
    """A model that comes with its solution. `source` says where that is derived."""

    source: ClassVar[str]

    @abstractmethod
    def solution(
        self, network: nn.Module, times: ArrayLike, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> np.ndarray:
        """Strengths of the modes under gradient flow on L = ½ E[|f − f*|²], from `network`'s parameters on.

        Args:
            network: as `build` made it, or at any later time, from which `times` then count.
            times: t ≥ 0, of any shape; learning rate times steps.
            target: S, the map f*(x) = xᵀS: `[inputs]` of a single output, else `[inputs, outputs]`.
            variances: E[x_i²] of inputs that are uncorrelated, `[inputs]`, or one for all.

        Returns:
            `[*times, *modes]`, float64; which modes, the model says.

        Raises:
            ValueError: if there is no solution from these parameters or for this target.
        """

    @abstractmethod
    def strengths(self, network: nn.Module, target: ArrayLike) -> np.ndarray:
        """What `solution` is of, as it is in a network of any parameters, `[modes]`, float64."""

    def solved(
        self, network: nn.Module, time: float, target: ArrayLike, variances: ArrayLike = 1.0
    ) -> list[np.ndarray]:
        """Each parameter of the network at a time, in its order and of its shape. Arguments as in `solution`.

        Raises:
            ModelError: if strengths are solved and not parameters.
            ValueError: as `solution`.
        """
        raise ModelError(f"{self.name}'s parameters have no closed form, only its strengths: take another optimiser")


def single_output(model: str, outputs: int) -> None:
    """Check that a network is to have one output.

    Raises:
        ModelError: if it has several.
    """
    if outputs != 1:
        raise ModelError(f"{model} has one output, got a task with {outputs}: choose another task or model")


def one_code(model: str, input_shape: tuple[int, ...], codes: Codes) -> int:
    """How many codes there are beside 0, of inputs that are a single code.

    Raises:
        ModelError: if inputs are others.
    """
    ((part, counts), *others) = codes.items()
    if others or input_shape != (1,) or len(counts) != 1:
        raise ModelError(
            f"{model} takes numbers or one code, got inputs of shape {list(input_shape)} and codes "
            f"{', '.join([part, *dict(others)])}: choose another task or model"
        )
    return counts[0] - 1


def numbers(parameter: Tensor) -> np.ndarray:
    """A network's parameter in float64."""
    return parameter.detach().cpu().double().numpy()


def draw(parameter: Tensor, std: float) -> None:
    """Draw a new parameter from N(0, std²)."""
    if not parameter.is_meta:  # nothing to draw; torch would import its compiler to do it
        nn.init.normal_(parameter, std=std)
