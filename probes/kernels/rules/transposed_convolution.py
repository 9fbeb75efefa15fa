"""Transposed convolutions: a convolution with inputs and gradients in each other's place.

Rows are the positions of the input; the gradient's windows are what each of them was spread over.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from probes.kernels.factors import Dense
from probes.kernels.parts import Call, Outer, Part
from probes.kernels.rules.patches import bias, channels_first, windows


def part(call: Call, names: frozenset[str]) -> Part:
    """A: the inputs; B: windows of the gradient, channel by channel as the weight has them."""
    if names == {"bias"}:
        return bias(call)
    layer, layout = call.module, call.layout
    groups: int = layer.groups  # pyright: ignore[reportAssignmentType]
    kernel: tuple[int, ...] = layer.kernel_size  # pyright: ignore[reportAssignmentType]
    channels, size = call.inputs.shape[1], tuple(call.inputs.shape[2:])

    def gradients(values: Tensor) -> Tensor:
        images = layout.arrange(values).flatten(0, 1)
        images = F.pad(images, [width for width in reversed(layer.padding) for _ in range(2)])  # pyright: ignore
        spread = windows(images, kernel, layer.stride, layer.dilation, size)  # pyright: ignore[reportArgumentType]
        spread = spread.reshape(layout.points, layout.each, -1, math.prod(size))
        return channels_first(spread, groups)

    return Outer(
        groups=groups,
        inputs=channels // groups,
        outputs=call.outputs_shape[1] // groups * math.prod(kernel),
        rows=layout.each * math.prod(size),
        factor=lambda: Dense(channels_first(call.arranged(), groups).transpose(2, 3)),
        gradients=gradients,
        transposed=True,
    )
