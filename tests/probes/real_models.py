"""One table of networks that people use, each with its inputs: random weights of their published structure, smaller.

Nothing is downloaded: timm, torchvision, transformers, peft and torch_geometric build their networks from configs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from kernel_brute_force import Inputs, cast
from real_graphs import GRAPH_MODELS
from real_images import IMAGE_MODELS
from real_sequences import SEQUENCE_MODELS
from torch import nn


@dataclass(frozen=True)
class RealModel:
    """build: the network, [N, ...] → [N, 10] in eval mode. inputs: so many random data points for it."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]

    def make(self, points: int, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Inputs]:
        """In eval mode; the same numbers at every call and in every dtype: those of float32."""
        torch.manual_seed(1)
        model, inputs = self.build(), self.inputs(points)
        randomise(model)
        return model.eval().to(dtype), cast(inputs, dtype)


def randomise(model: nn.Module) -> None:
    """As after training: no parameter is one number throughout, where a mistake could hide, nor any running statistic.

    Biases, scales of norms and layers, and low-rank updates begin at 0 or 1; all else keeps its initial spread, by
    which deep networks stay within reasonable numbers.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter == parameter.flatten()[0]).all():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)


MODELS = {
    name: RealModel(name, build, inputs)
    for table in (IMAGE_MODELS, SEQUENCE_MODELS, GRAPH_MODELS)
    for name, (build, inputs) in table.items()
}
