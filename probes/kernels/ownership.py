"""Proof that rows inside the network belong to the data points that a layout says.

A row belongs to point n exactly if its gradients scale with the weight of point n's outputs. Two backward passes show
this for all rows of all layers at once; values of one point alone could only suggest it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from probes.kernels.graph import Edge, Graph
from probes.kernels.layouts import Layout


class Proof:
    """Gradients at ``edges`` of outputs [N, O], of which every point's are weighted alike or by a weight of its own.

    tolerance: what rounding may make out of a row's gradient.
    """

    def __init__(self, graph: Graph, outputs: Tensor, edges: Sequence[Edge], tolerance: float):
        points = len(outputs)
        random = torch.Generator().manual_seed(0)  # the global one is the caller's
        self.tolerance = tolerance
        self.weights = (1 + torch.randperm(points, generator=random) / points).to(outputs)
        self.gradients: dict[Edge, tuple[Tensor | None, ...]] = {}
        if points == 1 or not edges:
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
        plain, weighted = self.gradients.get(edge, (None, None))
        if plain is None or weighted is None or not plain.numel():
            return True
        plain, weighted = layout.arrange(plain).flatten(1), layout.arrange(weighted).flatten(1)
        if not bool(torch.isfinite(plain).all()):
            return True  # a broken network: the kernel shows it
        weights = self.weights.to(plain)[:, None]
        # Entries of one point come of sums of its own size; rounding is relative to that.
        scale = plain.abs().amax(1, keepdim=True) + torch.finfo(plain.dtype).eps * plain.abs().max()
        return bool(((weighted - weights * plain).abs() <= self.tolerance * scale).all())
