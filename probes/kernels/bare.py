"""Bare parameters: shifts and scales that a network applies itself, without a layer that a rule could know.

A bias of a message-passing layer, a positional or class embedding, a layer scale: the autograd graph shows an
addition, a product or an expansion that takes the parameter to rows of the batch. The gradient there, times the other
factor, summed over what was broadcast, is the per-sample gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probes.kernels.batch import Batch, TensorBatch
from probes.kernels.graph import RESHAPING, Edge, Graph, edge_shape
from probes.kernels.layouts import Grid, Layout, ragged
from probes.kernels.ownership import Proof
from probes.kernels.parts import Direct


def bare_uses(
    graph: Graph, outputs: Tensor, batch: Batch, parameters: dict[str, nn.Parameter], tolerance: float
) -> dict[str, list[tuple[Edge, Direct]]]:
    """By name, all uses of those ``parameters`` for which the graph tells the per-sample gradient."""
    entries = {name: found for name, p in parameters.items() if (found := _entries(graph, p))}
    edges = list(dict.fromkeys(entry.edge for found in entries.values() for entry in found))
    if not edges:
        return {}
    proof = Proof(graph, outputs, edges, tolerance)
    layouts = {edge: _layout(edge, batch, proof) for edge in edges}
    uses = {}
    for name, found in entries.items():
        parts = [(entry.edge, _part(entry, layout)) for entry in found if (layout := layouts[entry.edge])]
        if len(parts) == len(found):
            uses[name] = parts
    return uses


@dataclass(frozen=True)
class _Entry:
    """Where a parameter, reshaped to ``shape``, meets the batch, and what it is multiplied by there."""

    edge: Edge
    shape: torch.Size
    factor: Tensor | float


def _entries(graph: Graph, parameter: nn.Parameter) -> list[_Entry]:
    """All uses of a parameter; none if one of them is of another kind."""
    entries = []
    pending = [(*use, parameter.shape) for use in graph.users[id(parameter)]]
    while pending:
        node, place, own = pending.pop()
        kind, shape = node.name(), edge_shape((node, 0))
        if shape.numel() == parameter.numel() and (kind in RESHAPING or _adds_constant(node, place)):
            pending += [(*use, shape) for use in graph.consumers[node]]
            continue
        factor = _factor(node, kind, place)
        # Over the first dimension, that of the batch, the parameter must be broadcast.
        if factor is None or not shape or (len(shape) == len(own) and own[0] != 1):
            return []
        entries.append(_Entry((node, 0), own, factor))
    return entries


def _adds_constant(node: Any, place: int) -> bool:
    """p + 1 has the gradient of p; in 1 + alpha·p, where p comes second, it would be scaled."""
    return node.name() == "AddBackward0" and place == 0 and node.next_functions[1][0] is None


def _factor(node: Any, kind: str, place: int) -> Tensor | float | None:
    """∂output/∂parameter, to be broadcast; None if the node is no shift, scale or expansion."""
    if kind == "AddBackward0":
        return 1.0 if place == 0 else float(node._saved_alpha)
    if kind == "MulBackward0":
        other = node._saved_other if place == 0 else node._saved_self
        return other.detach() if isinstance(other, Tensor) else None
    return 1.0 if kind == "ExpandBackward0" else None


def _layout(edge: Edge, batch: Batch, proof: Proof) -> Layout | None:
    """The layout of the rows at an edge; None if there is none or several would do."""
    points, rows = len(batch), edge_shape(edge)[0]
    candidates: list[Layout] = [Grid(points, rows // points)] if points in (1, rows) else []
    if not isinstance(batch, TensorBatch) and points > 1:
        candidates = [ragged(owner, points) for owner in batch.owners(rows)]
    fitting = [layout for layout in candidates if proof.holds(edge, layout)]
    return fitting[0] if len(fitting) == 1 else None


def _part(entry: _Entry, layout: Layout) -> Direct:
    def prepare() -> Callable[[Tensor], Tensor]:
        def jacobian(gradients: Tensor) -> Tensor:
            arranged = layout.arrange(gradients * entry.factor)  # [N, each, ...]
            rest = arranged.dim() - 2
            own = entry.shape[-rest:] if rest else torch.Size()
            kept = (layout.points, 1, *[1] * (rest - len(own)), *own)
            return arranged.sum_to_size(kept).reshape(layout.points, -1)

        return jacobian

    return Direct(entry.shape.numel(), prepare)
