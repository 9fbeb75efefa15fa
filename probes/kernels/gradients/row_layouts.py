"""Which rows inside the network belong to which data point.

A node of the graph may give its rows as [N, ...], as [T, N, ...], with positions merged into the batch (N·T rows), or
as the nodes and edges of graphs. Rules want them as [N, each, ...]; a layout arranges them so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tangentscope.probes.network.batch import Batch, TensorBatch


@dataclass(frozen=True)
class Grid:
    """Every point has ``each`` rows of the dimension ``dim``.

    before: in how many runs they come. 1: a point's rows lie together. ``each``: the first row of every point comes
    first, then the second of every point. In between: a dimension stands before the points, and one after.
    """

    points: int
    each: int
    dim: int = 0
    before: int = 1

    def arrange(self, rows: Tensor) -> Tensor:
        """[N, each, ...], without a copy unless rows come in runs of several."""
        if self.dim:
            rows = rows.movedim(self.dim, 0)
        if self.before == 1:
            return rows.view(self.points, self.each, *rows.shape[1:])
        runs = rows.view(self.before, self.points, self.each // self.before, *rows.shape[1:]).transpose(0, 1)
        return runs.flatten(1, 2)

    def owners(self, device: torch.device) -> Tensor:
        """[rows]: the point of each row."""
        points = torch.arange(self.points, device=device)
        return points.repeat_interleave(self.each // self.before).repeat(self.before)

    @property
    def blocks(self) -> bool:
        """Whether points have equal blocks of rows of the first dimension, in their order."""
        return self.dim == 0 and self.before == 1


@dataclass(frozen=True)
class Ragged:
    """Points of different size: row r of the first dimension is row ``place[r]`` of N·each; what is over is zero."""

    points: int
    each: int
    place: Tensor
    dim: int = 0

    def arrange(self, rows: Tensor) -> Tensor:
        """[N, each, ...], padded with zeros."""
        padded = rows.new_zeros((self.points * self.each, *rows.shape[1:]))
        return padded.index_copy_(0, self.place, rows).unflatten(0, (self.points, self.each))

    def owners(self, device: torch.device) -> Tensor:
        """[rows]: the point of each row."""
        return self.place // self.each

    @property
    def blocks(self) -> bool:
        """As of a grid."""
        rows = torch.arange(self.points * self.each, device=self.place.device)
        return torch.equal(self.place, rows)


Layout = Grid | Ragged
"""How the rows of a tensor belong to data points: ``dim`` runs over them, ``each`` is how many a point has at most."""


def candidates(shape: torch.Size, batch: Batch) -> Iterator[Layout]:
    """The layouts that rows of this shape may have, the likely ones first."""
    points = len(batch)
    if not isinstance(batch, TensorBatch):
        for owner in batch.owners(shape[0]):
            yield ragged(owner, points)
    for dim, rows in enumerate(shape):
        if rows % points == 0:
            each = rows // points
            for before in dict.fromkeys((1, each, *(n for n in range(2, each) if each % n == 0))):
                if before:
                    yield Grid(points, each, dim, before)


def agree(a: Tensor, b: Tensor, tolerance: float, among: Tensor | None = None) -> bool:
    """Equal up to ``tolerance`` of the largest entry; always true where that cannot be told (non-finite).

    Where these are some of many, `among` are all: a single number may be near zero by chance, and its rounding is not.
    """
    if a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    if not a.is_floating_point():
        return torch.equal(a, b)
    scale = torch.maximum(a.abs().max(), b.abs().max())
    if not torch.isfinite(scale):
        return True
    if among is not None:
        scale = torch.maximum(scale, among.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return bool((a - b).abs().max() <= scale * tolerance)


def ragged(owner: Tensor, points: int) -> Ragged:
    """The layout of rows with the given owners; rows of a point keep their order."""
    counts = torch.bincount(owner, minlength=points)
    each = max(1, int(counts.max()))
    order = torch.argsort(owner, stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(owner)
    rank[order] = torch.arange(len(owner), device=owner.device) - first[owner[order]]
    return Ragged(points, each, owner * each + rank)
