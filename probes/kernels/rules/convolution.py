"""Convolutions: rows are the positions of the output, inputs the window that each of them sees."""

import math

import torch.nn.functional as F
from torch import Tensor

from probes.kernels.factors import EVEN, Dense
from probes.kernels.parts import Call, Outer, Part
from probes.kernels.rules.patches import bias, channels_first, windows


def joins(call: Call) -> bool:
    """Windows of an uneven number of numbers take the one that stands for the bias at no cost."""
    return bool(_window(call) % EVEN)


def part(call: Call, names: frozenset[str]) -> Part:
    """A: windows, channel by channel as the weight has them; B: gradients at the output's positions."""
    if names == {"bias"}:
        return bias(call)
    layer, layout = call.module, call.layout
    groups: int = layer.groups  # pyright: ignore[reportAssignmentType]
    kernel: tuple[int, ...] = layer.kernel_size  # pyright: ignore[reportAssignmentType]
    channels, positions = call.outputs_shape[1], math.prod(call.outputs_shape[2:])

    def gradients(values: Tensor) -> Tensor:
        return channels_first(layout.arrange(values), groups)

    def factor() -> Dense:
        images = call.arranged().flatten(0, 1)
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        images = F.pad(images, layer._reversed_padding_repeated_twice, mode=mode)  # pyright: ignore
        seen = windows(images, kernel, layer.stride, layer.dilation)  # pyright: ignore[reportArgumentType]
        seen = seen.unflatten(0, (layout.points, layout.each)).unflatten(2, (groups, -1))
        columns = seen.new_empty(layout.points, layout.each, groups, inputs, positions)
        columns[..., :window, :].view(seen.shape).copy_(seen)
        columns[..., window:, :] = 1  # the bias's
        return Dense(columns.permute(0, 2, 3, 1, 4).flatten(3).transpose(2, 3))

    window = _window(call)
    inputs = window + ("bias" in names)
    return Outer(
        groups=groups,
        inputs=inputs,
        outputs=channels // groups,
        rows=layout.each * positions,
        factor=factor,
        gradients=gradients,
    )


def _window(call: Call) -> int:
    """Numbers of one group's channels that a position of the output sees."""
    layer = call.module
    return call.inputs.shape[1] // layer.groups * math.prod(layer.kernel_size)  # pyright: ignore
