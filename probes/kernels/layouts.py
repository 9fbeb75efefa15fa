"""Which rows inside the network belong to which data point.

A layer may see its rows as [N, ...], as [T, N, ...], with positions merged into the batch (N·T rows), or as the nodes
and edges of graphs. Rules want them as [N, each, ...]; a layout arranges them so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from probes.kernels.batch import Batch, TensorBatch


@dataclass(frozen=True)
class Grid:
    """Every point has ``each`` rows: a point's together or, ``interleaved``, the first row of every point first."""

    points: int
    each: int
    dim: int = 0
    interleaved: bool = False

    def arrange(self, rows: Tensor) -> Tensor:
        """[N, each, ...], without a copy."""
        if self.dim:
            rows = rows.movedim(self.dim, 0)
        if self.interleaved:
            return rows.view(self.each, self.points, *rows.shape[1:]).transpose(0, 1)
        return rows.view(self.points, self.each, *rows.shape[1:])

    @property
    def blocks(self) -> bool:
        """Whether points have equal blocks of rows of the first dimension, in their order."""
        return self.dim == 0 and not (self.interleaved and self.each > 1)


@dataclass(frozen=True)
class Ragged:
    """Points of different size: row r is row ``place[r]`` of N·each, what is left over is zero."""

    points: int
    each: int
    place: Tensor
    dim: int = 0

    def arrange(self, rows: Tensor) -> Tensor:
        """[N, each, ...], padded with zeros."""
        padded = rows.new_zeros((self.points * self.each, *rows.shape[1:]))
        return padded.index_copy_(0, self.place, rows).unflatten(0, (self.points, self.each))

    @property
    def blocks(self) -> bool:
        """As of a grid."""
        rows = torch.arange(self.points * self.each, device=self.place.device)
        return self.dim == 0 and torch.equal(self.place, rows)


Layout = Grid | Ragged
"""How the rows of a layer's call belong to data points: ``dim`` runs over them, ``each`` is how many a point has."""


def find_layout(
    inputs: Tensor, outputs_shape: tuple[int, ...], alone: Tensor, batch: Batch, tolerance: float
) -> Layout | None:
    """The layout in which the last point's rows of ``inputs`` are what the layer sees when that point comes ``alone``.

    Of several, the first: it is a proposal, for ``ownership.Proof`` to confirm for all points. None where there is
    none, or graphs' rows could be of two kinds.
    """
    points = len(batch)
    if points == 1:
        return Grid(1, inputs.shape[0]) if inputs.dim() else None
    for layout in _grids(inputs, alone, points) if isinstance(batch, TensorBatch) else ():
        if outputs_shape[layout.dim : layout.dim + 1] == inputs.shape[layout.dim : layout.dim + 1] and agree(
            layout.arrange(inputs)[-1], alone.movedim(layout.dim, 0), tolerance
        ):
            return layout
    if inputs.dim() == 0 or outputs_shape[:1] != inputs.shape[:1]:
        return None
    fitting = [
        owner
        for owner in batch.owners(len(inputs))
        if int((owner == points - 1).sum()) == len(alone) and agree(inputs[owner == points - 1], alone, tolerance)
    ]
    if not fitting or any(not torch.equal(owner, fitting[0]) for owner in fitting[1:]):
        return None
    return ragged(fitting[0], points)


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


def _grids(inputs: Tensor, alone: Tensor, points: int) -> Iterator[Grid]:
    if inputs.dim() != alone.dim():
        return
    for dim in range(inputs.dim()):
        each = alone.shape[dim]
        others = (*inputs.shape[:dim], *inputs.shape[dim + 1 :])
        if inputs.shape[dim] == points * each and others == (*alone.shape[:dim], *alone.shape[dim + 1 :]):
            yield Grid(points, each, dim)
            if each > 1:
                yield Grid(points, each, dim, interleaved=True)


def ragged(owner: Tensor, points: int) -> Ragged:
    """The layout of rows with the given owners; rows of a point keep their order."""
    counts = torch.bincount(owner, minlength=points)
    each = max(1, int(counts.max()))
    order = torch.argsort(owner, stable=True)
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(owner)
    rank[order] = torch.arange(len(owner), device=owner.device) - first[owner[order]]
    return Ragged(points, each, owner * each + rank)
