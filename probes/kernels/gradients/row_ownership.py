"""Proof that rows inside the network belong to certain data points.

Most often the graph shows it. Else a row belongs to point n if its gradients scale with the weight of point n's
outputs, and are zero where that point is left out. Three backward passes show this for all rows of many tensors at
once; values of one point alone could only suggest it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from tangentscope.probes.kernels.gradients.autograd_graph import Edge, Graph, edge_shape
from tangentscope.probes.kernels.gradients.graph_ownership import blockwise
from tangentscope.probes.kernels.gradients.row_layouts import Grid, Layout, candidates, ragged
from tangentscope.probes.network.batch import Batch

TOGETHER = 2**18
"""Numbers that are compared at a time: temporaries that stay in the cache."""


class Ownership:
    """Whose rows stand at the edges of a graph with the outputs [N, O] of ``batch``."""

    def __init__(self, graph: Graph, outputs: Tensor, batch: Batch):
        self.graph, self.batch = graph, batch
        self.points = len(batch)
        self._shown = blockwise(graph, self.points)
        self.tolerance = graph.rounding**0.5
        self._like = outputs.detach()

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(self.points, generator=torch.Generator().manual_seed(0))  # the global one is the caller's

    @cached_property
    def _weights(self) -> Tensor:
        """[N], all different."""
        return (1 + self._order / self.points).to(self._like)

    def possible(self, edge: Edge) -> bool:
        """Whether the tensor at ``edge`` may have rows of points at all."""
        return len(edge_shape(edge)) > 0 and (self.points == 1 or edge not in self._shown.shared)

    def shown(self, edge: Edge) -> Layout | None:
        """The layout of the rows at ``edge`` if the graph alone tells it."""
        if self.points > 1:
            return self._shown.rows.get(edge)
        shape = edge_shape(edge)
        return Grid(1, shape[0]) if shape else None

    def proven(self, edges: Sequence[Edge]) -> dict[Edge, Layout]:
        """The layouts of those ``edges`` that three backward passes tell to have rows of points."""
        if not edges:
            return {}
        seed = (torch.rand(self._like.shape, generator=torch.Generator().manual_seed(1)) + 0.5).to(self._like)
        half = self._half[:, None].to(seed.device)
        cotangents = (torch.where(half, seed, 0), torch.where(half, 0, seed), seed * self._weights[:, None])
        wanted = [GradientEdge(*edge) for edge in edges]
        passes = [
            torch.autograd.grad([self.graph.root], wanted, [cotangent], retain_graph=True, allow_unused=True)
            for cotangent in cotangents
        ]
        found = {edge: self._fitting(edge, *three) for edge, *three in zip(edges, *passes, strict=True)}
        return {edge: layout for edge, layout in found.items() if layout is not None}

    @cached_property
    def _half(self) -> Tensor:
        """[N], true for some half of the points."""
        return self._order < self.points // 2

    def _fitting(self, edge: Edge, mine: Tensor | None, others: Tensor | None, all_: Tensor | None) -> Layout | None:
        """Of the layouts that hold, the one that leaves most points with gradients that are finite.

        mine, others, all_: gradients of one half of the points' outputs, of the other, and of all by weight.
        """
        proposed = candidates(edge_shape(edge), self.batch)
        if mine is None or others is None or all_ is None or not mine.numel():
            return next(proposed, None)  # nothing depends on it
        mine, others, weighted = (_real(rows) for rows in (mine, others, all_))
        plain = mine + others
        best: tuple[int, Layout] | None = None
        for layout in self._all(proposed, plain, weighted):
            if not (self._apart(layout, others, self._half) and self._apart(layout, mine, ~self._half)):
                continue
            broken = self._broken(layout, plain, weighted)
            if broken is not None and (best is None or broken < best[0]):
                best = broken, layout
            if best is not None and best[0] == 0:
                break
        return best[1] if best else None

    def _apart(self, layout: Layout, gradients: Tensor, points: Tensor) -> bool:
        """Whether none of the ``points`` has rows on which others' outputs depend, by however little.

        Sizes tell nothing here: of what points share, one may have all but the last digits of the gradient.
        """
        own = layout.arrange(gradients)[points.to(gradients.device)]
        return not bool((own.nan_to_num(0) != 0).any())

    def _all(self, proposed: Iterable[Layout], plain: Tensor, weighted: Tensor) -> Iterator[Layout]:
        """The usual layouts, then the one that the rows' own gradients tell."""
        yield from proposed
        rows, scaled = plain.flatten(1) if plain.dim() > 1 else plain[:, None], weighted.reshape(len(weighted), -1)
        if not rows.shape[1]:
            return
        largest = rows.abs().nan_to_num(0).argmax(1, keepdim=True)
        ratio = (scaled.gather(1, largest) / rows.gather(1, largest))[:, 0].double()
        number = ((ratio - 1) * self.points).round().nan_to_num(0, 0, 0).clamp(0, self.points - 1).long()
        yield ragged(torch.argsort(self._order).to(number.device)[number], self.points)

    def _broken(self, layout: Layout, plain: Tensor, weighted: Tensor) -> int | None:
        """How many points have gradients that are not finite if rows lie so; None if they do not."""
        plain, weighted = layout.arrange(plain).flatten(1), layout.arrange(weighted).flatten(1)
        # Entries of one point come of sums of its own size; rounding is relative to that.
        own = _largest(plain)
        finite = torch.isfinite(own)
        scale = own + torch.finfo(plain.dtype).eps * own[finite].max() if bool(finite.any()) else own
        each = max(1, TOGETHER // max(1, plain.shape[1]))
        parts = zip(plain.split(each), weighted.split(each), self._weights.to(plain)[:, None].split(each), strict=True)
        off = torch.cat([_largest(torch.addcmul(w, p, weight, value=-1)) for p, w, weight in parts])
        holds = (off <= self.tolerance * scale) | ~finite
        return int((~finite).sum()) if bool(holds.all()) else None


def _real(gradient: Tensor) -> Tensor:
    """Dense, and with real numbers."""
    gradient = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient


def _largest(rows: Tensor) -> Tensor:
    """The largest absolute value of each row; NaN where there is one."""
    return torch.maximum(rows.amax(1), -rows.amin(1)) if rows.shape[1] else rows.new_zeros(len(rows))
