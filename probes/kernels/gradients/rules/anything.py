"""Any node at all: it is asked itself, for the gradients of one point's rows at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tangentscope.probes.kernels.gradients.autograd_graph import dense
from tangentscope.probes.kernels.gradients.per_sample import Direct, Use


def part(use: Use, place: int) -> Direct:
    """∂/∂what is taken at ``place``, by N calls of the node's own backward function for each function."""
    layout = use.layout
    width = use.shapes[place].numel()

    def prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        def jacobian(gradients: Tensor) -> Tensor:
            owners = layout.owners(gradients.device)
            owners = owners.view(-1, *[1] * (gradients.dim() - layout.dim - 1))
            rows = []
            for point in range(layout.points):
                alone = gradients if layout.points == 1 else torch.where(owners == point, gradients, 0)
                found = _backward(use, alone)[place]
                rows.append(gradients.new_zeros(width) if found is None else _as_taken(found, use, place))
            return torch.stack(rows)

        return jacobian

    return Direct(width, prepare, late=True)


def _as_taken(gradient: Tensor, use: Use, place: int) -> Tensor:
    """As the engine of autograd makes it: summed over what was broadcast, real where the tensor is, and flat."""
    gradient = dense(gradient)
    if gradient.is_complex() and not use.takes_complex(place):
        gradient = gradient.real
    return gradient.sum_to_size(use.shapes[place]).flatten()


def _backward(use: Use, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of all that a node takes, of the gradient at one of its outputs."""
    node: Any = use.node
    meant = [metadata.dtype for metadata in node._input_metadata][use.number]
    given: list[Tensor | None] = [None] * len(node._input_metadata)
    given[use.number] = gradient.to(meant)
    with torch.no_grad():
        # Functions written in Python are no callables, those of torch have no `apply`.
        found: Any = node(*given) if callable(node) else node.apply(*_materialised(node, given))
    return found if isinstance(found, tuple) else (found,)


def _materialised(node: Any, given: list[Tensor | None]) -> list[Tensor | None]:
    """Zeros instead of nothing, which functions in Python may expect."""
    return [
        torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device) if one is None else one
        for one, metadata in zip(given, node._input_metadata, strict=True)
    ]
