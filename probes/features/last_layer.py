"""What enters the last linear layer: the feature map Φ of a network, f(x) = W Φ(x) + b (Nam ch. 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from tangentscope.probes.features.head import Head, NoLastLayerError, find_head
from tangentscope.probes.features.passes import checked_batch, deterministic_with, few_outputs, outputs_of
from tangentscope.probes.kernels.engine.memory import ceiling, saved_bytes
from tangentscope.probes.kernels.gradients.autograd_graph import Graph
from tangentscope.probes.network.batch import Batch
from tangentscope.probes.network.layers import Anatomy
from tangentscope.probes.network.output import Output

PASS_BYTES = 2**29
"""A forward pass takes no more points than would save so much for a backward pass: more make it no faster."""

ROUNDINGS = 16
"""So many roundings of the largest number that is summed for any data point may be in the bias."""


@dataclass(frozen=True)
class Features:
    """The last hidden layer of a network at some data points, and the linear layer that makes the outputs of it.

    values: Φ, [N, p], in the network's own precision. outputs: f, [N, O], each O further dimensions flattened.
    weight, bias: W and b of f = Φ Wᵀ + b, fixed scales included. layer: the name of the last layer's module.
    """

    values: Float[Tensor, "N p"]
    outputs: Float[Tensor, "N O"]
    weight: Float64[Tensor, "O p"]
    bias: Float64[Tensor, " O"]
    layer: str

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class FeatureMap:
    """Φ of a network: call it with data points, see ``feature_map``."""

    model: nn.Module
    output: Output = None
    memory_bytes: int | None = None

    def __call__(self, inputs: Any) -> Features:
        """Features and outputs of N data points, in one forward pass of each.

        Args:
            inputs: as for ``tangent_kernel``.

        Raises:
            ValueError: the network has no last linear layer, or several (``NoLastLayerError``); its outputs are no
                function of each data point alone; inputs that do not fit.
            TypeError: as for ``tangent_kernel``.
        """
        batch, device = checked_batch(self.model, inputs, self.output)
        bound = ceiling(self.memory_bytes, device)
        with deterministic_with(self.model, device, lambda _: True) as anatomy:
            few, outputs = few_outputs(anatomy, batch)
            head = find_head(anatomy, few, outputs)
            at_once = max(1, min(bound, PASS_BYTES) // (saved_bytes(self.model, batch.sample(1)) + 1))
        wanted = _least_wanted(self.model, device, head, few)
        with deterministic_with(self.model, device, wanted) as anatomy:
            if at_once >= len(batch):
                return _joined(head, anatomy, [_pass(anatomy, head, batch)])
            chunks = torch.arange(len(batch)).split(at_once)
            return _joined(head, anatomy, [_pass(anatomy, head, batch.take(chunk)) for chunk in chunks])


def feature_map(model: nn.Module, *, output: Output = None, memory_bytes: int | None = None) -> FeatureMap:
    """The map Φ from data points to what enters a network's last linear layer (Nam fig. 2.1, eq. D.1).

    The layer is found by its use, whatever the classes of the modules: the product of features and a weight that makes
    the outputs, up to views, selections, a bias and a fixed scale. The network is taken as a deterministic function
    and left as it was, as ``tangent_kernel`` does.

    Args:
        model: any module whose outputs are [N, ...], row i a function of data point i alone.
        output: which of what the model returns is its output, as for ``tangent_kernel``.
        memory_bytes: bound on what a forward pass takes, beyond the features; by default a quarter of what is free.

    Returns:
        A function of data points; see ``FeatureMap.__call__`` for what it raises.
    """
    return FeatureMap(model, output, memory_bytes)


def _least_wanted(model: nn.Module, device: torch.device, head: Head, few: Batch) -> Callable[[nn.Parameter], bool]:
    """The parameters that have to need gradients for features to be read.

    Mostly those of the last layer: its graph is then all that a pass keeps. A network that differentiates itself may
    need more.
    """

    def of_the_head(parameter: nn.Parameter) -> bool:
        return id(parameter) in head.parameters

    try:
        with deterministic_with(model, device, of_the_head) as anatomy:
            _pass(anatomy, head, few)
    except (RuntimeError, ValueError):
        return lambda _: True
    return of_the_head


def _pass(anatomy: Anatomy, head: Head, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Features [N, p], outputs [N, O] and the weight [O, p] between them."""
    outputs = outputs_of(anatomy, batch)
    features, weight = head.read(Graph(outputs, anatomy.trainable.values()), outputs)
    return features.clone(), outputs.detach().clone(), weight.double()


def _joined(head: Head, anatomy: Anatomy, passes: list[tuple[Tensor, Tensor, Tensor]]) -> Features:
    """All points together, once it is proved that the layer makes their outputs.

    Raises:
        NoLastLayerError: outputs less features times weight are not the same for all data points.
    """
    weight = passes[0][2]
    offsets = [outputs.double() - features.double() @ weight.T for features, outputs, _ in passes]
    finite = torch.cat([torch.isfinite(offset).all(1) for offset in offsets])
    bias = torch.cat(offsets)[finite].mean(0)  # NaN where no point has a finite output
    sizes = [(features.double().abs() @ weight.abs().T).amax(1) + bias.abs().max() for features, _, _ in passes]
    off = (torch.cat(offsets) - bias).abs().amax(1)[finite]
    size = torch.cat(sizes)[finite]  # of what is summed, to which rounding is relative; that of the bias to any point's
    if len(off) and bool((off > anatomy.rounding * size + ROUNDINGS * anatomy.rounding**2 * size.max()).any()):
        raise NoLastLayerError(
            f"the outputs of {type(anatomy.model).__name__} are not what its last linear layer {head.name!r} makes of "
            "its inputs and a bias, expected nothing else to be added that depends on the data: pick the layer's own "
            "outputs with output="
        )
    values = torch.cat([features for features, _, _ in passes])
    return Features(values, torch.cat([outputs for _, outputs, _ in passes]), weight, bias, head.name)
