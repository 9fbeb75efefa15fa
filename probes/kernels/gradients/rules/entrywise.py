"""Shifts, scales and expansions: what a network does with a parameter itself, without a layer.

A bias of a message-passing layer, a positional or class embedding, a layer scale, the shift behind a product of
matrices. The gradient at the output, times the other factor, summed over what was broadcast, is the per-sample
gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tangentscope.probes.kernels.gradients.per_sample import Direct, Part, Use
from tangentscope.probes.kernels.gradients.rules.rule import Rule


def _part(use: Use, place: int) -> Part | None:
    shape, layout = use.shapes[place], use.layout
    factor = _factor(use.node, place)
    missing = len(use.shape) - len(shape)
    if factor is None or layout.dim >= len(use.shape) or use.takes_complex(place):
        return None
    own = (1,) * missing + tuple(shape)
    if own[layout.dim] != 1 and layout.points > 1:
        return None  # every row has its own
    rest = own[: layout.dim] + own[layout.dim + 1 :]
    real = not use.is_complex
    numbers = torch.Size(own).numel()

    def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        def jacobian(gradients: Tensor) -> Tensor:
            scaled = gradients if isinstance(factor, float) and factor == 1 else gradients * factor
            scaled = scaled if real else scaled.real
            if layout.points == 1:
                return scaled.sum_to_size(own).reshape(1, numbers)
            arranged = layout.arrange(scaled)  # [N, each, ...]
            return arranged.sum_to_size((layout.points, 1, *rest)).reshape(layout.points, numbers)

        return jacobian

    return Direct(numbers, prepare)


def _factor(node: Any, place: int) -> Tensor | float | None:
    """∂output/∂what is taken at ``place``, to be broadcast; of complex numbers its conjugate. None: another node."""
    name = node.name()
    if name == "ExpandBackward0":
        return 1.0
    if name in ("AddBackward0", "SubBackward0"):
        alpha = float(node._saved_alpha)
        return (1.0 if place == 0 else alpha) if name == "AddBackward0" else (1.0 if place == 0 else -alpha)
    if name == "MulBackward0":
        return _conjugate(node._saved_other if place == 0 else node._saved_self)
    if name == "DivBackward0" and place == 0:
        other = _conjugate(node._saved_other)
        return None if other is None else 1 / other
    if name == "PreluKernelBackward0" and place == 1:
        return node._saved_self.detach().clamp(max=0)
    return None


def _conjugate(other: Any) -> Tensor | None:
    return other.detach().conj() if isinstance(other, Tensor) else None


ENTRYWISE = Rule(_part)
