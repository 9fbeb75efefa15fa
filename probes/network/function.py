"""The function whose kernel is wanted: a network, which of what it returns, and which of its parameters."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from tangentscope.probes.network.batch import Batch, as_batch
from tangentscope.probes.network.checks import Chosen
from tangentscope.probes.network.layers import Anatomy
from tangentscope.probes.network.output import Output


@dataclass(frozen=True)
class Function:
    """``output`` of what ``model`` returns, as a function of its ``parameters``; see ``tangent_kernel`` for all three.

    What is wrong with one of them shows when it is used.
    """

    model: nn.Module
    output: Output = None
    parameters: Chosen = None

    def anatomy(self) -> Anatomy:
        """What the model is made of now."""
        return Anatomy.of(self.model, self.parameters)

    def batch(self, inputs: Any, name: str = "inputs") -> Batch:
        """Data points that the model takes."""
        return as_batch(inputs, name, self.output)
