"""How the outputs of a network enter its kernel: ``full``, ``traced`` or ``summed``."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

OutputTreatment = Literal["full", "traced", "summed"]


@dataclass(frozen=True)
class OutputRows:
    """What is differentiated: K = R·C scalar functions per data point, and how they make rows of the kernel.

    ``kept`` (R) functions get a kernel row of their own, ``contracted`` (C) ones are summed over within an entry:
    full R = O, C = 1; traced R = 1, C = O; summed R = 1, C = 1. One of the two is always 1.
    """

    treatment: OutputTreatment
    outputs: int  # O

    @property
    def kept(self) -> int:
        """R, the kernel rows of one data point."""
        return self.outputs if self.treatment == "full" else 1

    @property
    def contracted(self) -> int:
        """C, the functions summed over within one kernel entry."""
        return self.outputs if self.treatment == "traced" else 1

    @property
    def functions(self) -> int:
        """K = R·C, the scalar functions to differentiate per data point."""
        return self.kept * self.contracted

    def of(self, outputs: Tensor) -> Tensor:
        """The scalar functions [..., K] of network outputs [..., O]; 1/O enters here, as 1/√O on each factor."""
        if self.treatment == "full":
            return outputs
        if self.treatment == "summed":
            outputs = outputs.sum(-1, keepdim=True)
        return outputs / math.sqrt(self.outputs)

    @property
    def scale(self) -> float:
        """By which an output enters a function."""
        return 1.0 if self.treatment == "full" else 1 / math.sqrt(self.outputs)

    def outputs_of(self, k: int) -> slice:
        """The outputs that enter function k."""
        return slice(None) if self.treatment == "summed" else slice(k, k + 1)

    def cotangent(self, k: int, outputs: Tensor) -> Tensor:
        """Gradients [N, O] of function k of every point with respect to the network's outputs."""
        cotangent = torch.zeros_like(outputs)
        cotangent[:, self.outputs_of(k)] = self.scale
        return cotangent


def check_treatment(treatment: str) -> None:
    """Raise ValueError unless ``treatment`` is one of the three."""
    known = get_args(OutputTreatment)
    if treatment not in known:
        raise ValueError(f"outputs={treatment!r} is not an output treatment: use one of {', '.join(map(repr, known))}")
