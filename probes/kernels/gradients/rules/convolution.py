"""Convolutions: rows are the positions of the output, inputs the window that each of them sees.

Of transposed ones rows are the positions of the input, and the gradient's windows are what each was spread over.
"""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

from tangentscope.probes.kernels.gradients.factors import EVEN, Dense
from tangentscope.probes.kernels.gradients.per_sample import Direct, Outer, Part, Use
from tangentscope.probes.kernels.gradients.row_layouts import Layout
from tangentscope.probes.kernels.gradients.rules.rule import Rule

WEIGHT, BIAS = 1, 2


def _part(use: Use, place: int, bias: bool = False) -> Part | None:
    layout = use.along(0)
    if layout is None or use.is_complex:
        return None
    if place == BIAS:
        return Direct(
            use.shape[1],
            lambda dtype: lambda gradients: channels_first(layout.arrange(gradients), 1).sum(-1).flatten(1),
        )
    if place != WEIGHT:
        return None
    return _transposed(use, layout) if use.node._saved_transposed else _plain(use, layout, bias)


def _joint(use: Use) -> Part | None:
    """Windows of an uneven number of numbers take the one that stands for the bias at no cost."""
    if use.node._saved_transposed or use.shapes[WEIGHT][1:].numel() % EVEN == 0:
        return None
    return _part(use, WEIGHT, bias=True)


def _plain(use: Use, layout: Layout, bias: bool) -> Outer:
    """A: windows, channel by channel as the weight has them; B: gradients at the output's positions."""
    node, inputs = use.node, use.saved("input")
    groups, kernel = node._saved_groups, use.shapes[WEIGHT][2:]
    stride, padding, dilation = node._saved_stride, node._saved_padding, node._saved_dilation
    channels, positions = use.shape[1], math.prod(use.shape[2:])
    window = inputs.shape[1] // groups * math.prod(kernel)

    def factor() -> Dense:
        images = layout.arrange(inputs).flatten(0, 1)
        images = pad(images, [width for width in reversed(padding) for _ in range(2)])
        seen = windows(images, kernel, stride, dilation)
        seen = seen.unflatten(0, (layout.points, layout.each)).unflatten(2, (groups, -1))
        columns = seen.new_empty(layout.points, layout.each, groups, window + bias, positions)
        columns[..., :window, :].view(seen.shape).copy_(seen)
        columns[..., window:, :] = 1  # the bias's
        return Dense(columns.permute(0, 2, 3, 1, 4).flatten(3).transpose(2, 3))

    return Outer(
        groups=groups,
        inputs=window + bias,
        outputs=channels // groups,
        rows=layout.each * positions,
        factor=factor,
        gradients=lambda values: channels_first(layout.arrange(values), groups),
    )


def _transposed(use: Use, layout: Layout) -> Outer:
    """A: the inputs; B: windows of the gradient, channel by channel as the weight has them."""
    node, inputs = use.node, use.saved("input")
    groups, kernel = node._saved_groups, use.shapes[WEIGHT][2:]
    stride, padding, dilation = node._saved_stride, node._saved_padding, node._saved_dilation
    channels, size = inputs.shape[1], tuple(inputs.shape[2:])

    def gradients(values: Tensor) -> Tensor:
        images = layout.arrange(values).flatten(0, 1)
        images = pad(images, [width for width in reversed(padding) for _ in range(2)])
        spread = windows(images, kernel, stride, dilation, size)
        spread = spread.reshape(layout.points, layout.each, -1, math.prod(size))
        return channels_first(spread, groups)

    return Outer(
        groups=groups,
        inputs=channels // groups,
        outputs=use.shape[1] // groups * math.prod(kernel),
        rows=layout.each * math.prod(size),
        factor=lambda: Dense(channels_first(layout.arrange(inputs), groups).transpose(2, 3)),
        gradients=gradients,
        transposed=True,
    )


def windows(
    images: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], crop: Sequence[int] = ()
) -> Tensor:
    """Windows of ``images`` [n, channels, *size], already padded: a view [n, channels, *kernel, *positions].

    Neighbouring positions lie beside one another, as in the images: other orders take several times longer to copy.
    crop: keep only so many positions in each dimension.
    """
    dims = len(kernel)
    for dim, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        images = images.unfold(2 + dim, gap * (size - 1) + 1, step)[..., ::gap]
        if crop:
            images = images.narrow(2 + dim, 0, crop[dim])
    return images.movedim(tuple(range(2, 2 + dims)), tuple(range(-dims, 0)))


def channels_first(rows: Tensor, groups: int) -> Tensor:
    """[N, each, channels, *positions] as [N, G, channels/G, each·positions]."""
    rows = rows.flatten(3) if rows.dim() > 3 else rows.unsqueeze(3)
    rows = rows.transpose(1, 2).flatten(2)
    return rows.unflatten(1, (groups, -1))


CONVOLUTION = Rule(_part, weight=WEIGHT, bias=BIAS, joint=_joint)
