"""Bare parameters: shifts and scales that a network applies itself, without a layer that a rule could know.

A bias of a message-passing layer, a positional or class embedding, a layer scale: the autograd graph shows an
addition, a product or an expansion that takes the parameter to rows of the batch. The gradient there, times the other
factor, summed over what was broadcast, is the per-sample gradient.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from probes.kernels.batch import Batch, TensorBatch
from probes.kernels.graph import Edge, Graph, edge_shape
from probes.kernels.layouts import Grid, Layout, ragged
from probes.kernels.parts import Direct

RESHAPING = {"UnsqueezeBackward0", "ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"}
"""Nodes that keep numbers and their order."""


def bare_uses(
    graph: Graph, outputs: Tensor, batch: Batch, parameters: dict[str, nn.Parameter]
) -> dict[str, list[tuple[Edge, Direct]]]:
    """By name, all uses of those ``parameters`` for which the graph tells the per-sample gradient."""
    entries = {name: found for name, p in parameters.items() if (found := _entries(graph, p))}
    edges = list(dict.fromkeys(edge for found in entries.values() for edge, _ in found))
    if not edges:
        return {}
    layouts = dict(zip(edges, _layouts(edges, outputs, batch), strict=True))
    uses = {}
    for name, found in entries.items():
        parts = [(edge, _part(parameters[name], layout, factor)) for edge, factor in found if (layout := layouts[edge])]
        if len(parts) == len(found):
            uses[name] = parts
    return uses


def _entries(graph: Graph, parameter: nn.Parameter) -> list[tuple[Edge, Tensor | float]]:
    """Where a parameter meets the batch, and what it is multiplied by there; none if any use is of another kind."""
    entries = []
    pending: list[tuple[Any, int]] = list(graph.consumers[id(parameter)])
    while pending:
        node, place = pending.pop()
        kind, shape = node.name(), edge_shape((node, 0))
        if shape.numel() == parameter.numel() and (kind in RESHAPING or _adds_constant(node, place)):
            pending += graph.consumers[node]
            continue
        factor = _factor(node, kind, place)
        # Over the first dimension, that of the batch, the parameter must be broadcast.
        if factor is None or not shape or (len(shape) == parameter.dim() and parameter.shape[0] != 1):
            return []
        entries.append(((node, 0), factor))
    return entries


def _adds_constant(node: Any, place: int) -> bool:
    return node.name() == "AddBackward0" and place == 0 and node.next_functions[1][0] is None


def _factor(node: Any, kind: str, place: int) -> Tensor | float | None:
    """∂output/∂parameter, to be broadcast; None if the node is no shift, scale or expansion."""
    if kind == "AddBackward0":
        return 1.0 if place == 0 else float(node._saved_alpha)
    if kind == "MulBackward0":
        other = node._saved_other if place == 0 else node._saved_self
        return other.detach() if isinstance(other, Tensor) else None
    return 1.0 if kind == "ExpandBackward0" else None


def _layouts(edges: list[Edge], outputs: Tensor, batch: Batch) -> Iterator[Layout | None]:
    """The layout of the rows at each edge, if the last point's outputs depend on no row that is not its own."""
    points = len(batch)
    last = torch.zeros_like(outputs)
    last[-1] = torch.linspace(0.5, 1.5, outputs.shape[1])  # no two alike, so that nothing cancels
    found = torch.autograd.grad(
        outputs, [GradientEdge(*edge) for edge in edges], last, retain_graph=True, allow_unused=True
    )
    for edge, gradient in zip(edges, found, strict=True):
        rows = edge_shape(edge)[0]
        candidates: list[Layout] = [Grid(points, rows // points)] if points in (1, rows) else []
        if not isinstance(batch, TensorBatch) and points > 1:
            candidates = [ragged(owner, points) for owner in batch.owners(rows)]
        fitting = [
            layout
            for layout in candidates
            if gradient is None or points == 1 or not bool(layout.arrange(gradient)[:-1].any())
        ]
        yield fitting[0] if len(fitting) == 1 else None


def _part(parameter: nn.Parameter, layout: Layout, factor: Tensor | float) -> Direct:
    def prepare() -> Callable[[Tensor], Tensor]:
        def jacobian(gradients: Tensor) -> Tensor:
            arranged = layout.arrange(gradients * factor)  # [N, each, ...]
            rest = arranged.dim() - 2
            own = parameter.shape[-rest:] if rest else torch.Size()
            kept = (layout.points, 1, *[1] * (rest - len(own)), *own)
            return arranged.sum_to_size(kept).reshape(layout.points, -1)

        return jacobian

    return Direct(parameter.numel(), prepare)
