"""Normalisations: J_na = Σ_t B_nat ⊙ x̂_nt for the scale, Σ_t B_nat for the shift, few enough to be written down."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from tangentscope.probes.kernels.gradients.per_sample import Direct, Part, Use, joined
from tangentscope.probes.kernels.gradients.rules.rule import Rule

WEIGHT, BIAS = 1, 2

Rows = tuple[Callable[[Tensor], Tensor], Callable[[], Tensor]]
"""What arranges a tensor like the output as [N, T, width], and what gives the normalised numbers so arranged."""


def _rule(rows_of: Callable[[Use], Rows | None]) -> Rule:
    def part(use: Use, place: int) -> Direct | None:
        if place not in (WEIGHT, BIAS) or (rows := rows_of(use)) is None:
            return None
        entries, normalised = rows

        def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
            if place == BIAS:
                return lambda gradients: entries(gradients).sum(1)
            x = normalised()
            return lambda gradients: (entries(gradients) * x).sum(1)

        return Direct(use.shapes[place].numel(), prepare)

    def joint(use: Use) -> Part | None:
        parts = [found for place in (WEIGHT, BIAS) if (found := part(use, place))]
        return joined(parts) if len(parts) == 2 else None

    return Rule(part, weight=WEIGHT, bias=BIAS, joint=joint)


def _trailing(use: Use) -> Rows | None:
    """Over the trailing dimensions, of which every entry has its own scale."""
    layout, normalised = use.layout, use.node._saved_normalized_shape
    if layout.dim >= len(use.shape) - len(normalised):
        return None
    width = math.prod(normalised)

    def entries(values: Tensor) -> Tensor:
        return layout.arrange(values).reshape(layout.points, -1, width)

    x, mean, scale = (use.saved(name) for name in ("input", "result1", "result2"))
    return entries, lambda: entries(((x - mean) * scale).view(use.shape))


def _channels(use: Use, normalised: Callable[[], Tensor]) -> Rows | None:
    """Of [n, channels, ...], where every channel has its own scale."""
    layout = use.along(0)
    if layout is None:
        return None

    def entries(values: Tensor) -> Tensor:
        rows = layout.arrange(values)  # [N, each, width, ...]
        rows = rows.flatten(3) if rows.dim() > 3 else rows.unsqueeze(3)
        return rows.transpose(2, 3).flatten(1, 2)

    return entries, lambda: entries(normalised())


def _groups(use: Use) -> Rows | None:
    x, mean, scale = (use.saved(name) for name in ("input", "result1", "result2"))

    def normalised() -> Tensor:
        grouped = x.reshape(*mean.shape, -1)
        return ((grouped - mean[..., None]) * scale[..., None]).view(x.shape)

    return _channels(use, normalised)


def _statistics(use: Use) -> Rows | None:
    """By running statistics."""
    node = use.node
    if node._saved_training or node._saved_running_mean is None:
        return None
    x, mean, variance = (use.saved(name) for name in ("input", "running_mean", "running_var"))

    return _channels(use, lambda: batch_norm(x, mean, variance, eps=node._saved_eps))


LAYER = _rule(_trailing)
GROUP = _rule(_groups)
BATCH = _rule(_statistics)
