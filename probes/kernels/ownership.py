"""Proof that rows inside the network belong to the data points that a layout says.

Most often the graph shows it. Else a row belongs to point n exactly if its gradients scale with the weight of point n's
outputs. Two backward passes show this for all rows of all layers at once; values of one point alone could only suggest
it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from probes.kernels.blockwise import blockwise
from probes.kernels.graph import Edge, Graph
from probes.kernels.layouts import Layout

TOGETHER = 2**18
"""Numbers that are compared at a time: temporaries that stay in the cache."""


class Proof:
    """Of whose rows are at ``edges``: the graph, or gradients of outputs [N, O] weighted alike or by point.

    tolerance: what rounding may make out of a row's gradient.
    """

    def __init__(self, graph: Graph, outputs: Tensor, edges: Sequence[Edge], tolerance: float):
        points = len(outputs)
        random = torch.Generator().manual_seed(0)  # the global one is the caller's
        self.tolerance = tolerance
        self.weights = (1 + torch.randperm(points, generator=random) / points).to(outputs)
        self.gradients: dict[Edge, tuple[Tensor | None, ...]] = {}
        self.known = blockwise(graph, points)
        if points == 1 or not (edges := [edge for edge in edges if edge[0] not in self.known]):
            return
        seed = (torch.rand(outputs.shape, generator=random) + 0.5).to(outputs)
        passes = [
            torch.autograd.grad(
                [graph.root], [GradientEdge(*edge) for edge in edges], [cotangent], retain_graph=True, allow_unused=True
            )
            for cotangent in (seed, seed * self.weights[:, None])
        ]
        self.gradients = dict(zip(edges, zip(*passes, strict=True), strict=True))

    def holds(self, edge: Edge, layout: Layout) -> bool:
        """Whether the rows at ``edge`` are those of ``layout``; also where nothing depends on them."""
        if edge[0] in self.known:
            return layout.blocks
        plain, weighted = self.gradients.get(edge, (None, None))
        if plain is None or weighted is None or not plain.numel():
            return True
        plain, weighted = layout.arrange(plain).flatten(1), layout.arrange(weighted).flatten(1)
        # Entries of one point come of sums of its own size; rounding is relative to that.
        own = _largest(plain)
        if not bool(torch.isfinite(own).all()):
            return True  # a broken network: the kernel shows it
        scale = own + torch.finfo(plain.dtype).eps * own.max()
        each = max(1, TOGETHER // plain.shape[1])
        parts = zip(plain.split(each), weighted.split(each), self.weights.to(plain)[:, None].split(each), strict=True)
        off = torch.cat([_largest(torch.addcmul(w, p, weight, value=-1)) for p, w, weight in parts])
        return bool((off <= self.tolerance * scale).all())


def _largest(rows: Tensor) -> Tensor:
    """The largest absolute value of each row; NaN where there is one."""
    return torch.maximum(rows.amax(1), -rows.amin(1))  # many times faster than a norm
