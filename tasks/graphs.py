"""Graphs as data points: many small ones in memory, taken out by number, batched for a network, flat for storage."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data


class Graphs:
    """Graphs that have the same tensors each: features of nodes and edges, and which nodes an edge joins.

    Args:
        graphs: of PyTorch Geometric, with at least `x` `[nodes, …]` and `edge_index` `[2, edges]`.
    """

    def __init__(self, graphs: Sequence[Data]):
        self._graphs = list(graphs)

    def __len__(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __getitem__(self, indices: Tensor) -> Batch:
        """A mini-batch of the graphs at `indices` (integers, `[m]`), in that order."""
        return Batch.from_data_list([self._graphs[index] for index in indices.tolist()])

    def take(self, indices: Tensor) -> Graphs:
        """The graphs at `indices` (integers, `[m]`), in that order."""
        return Graphs([self._graphs[index] for index in indices.tolist()])

    def to(self, device: torch.device | str) -> Graphs:
        """The same graphs on another device."""
        return Graphs([copy.copy(graph).to(str(device)) for graph in self._graphs])  # to() changes what it is called on

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Each tensor of all graphs, one after another along its own axis, and `….counts`: how long each graph's is."""
        found: dict[str, Tensor] = {}
        for key in sorted(self._graphs[0].keys()) if self._graphs else ():
            parts = [graph[key] for graph in self._graphs]
            axis = _axis(key)
            found[prefix + key] = torch.cat(parts, axis)
            found[f"{prefix}{key}.counts"] = torch.tensor([part.shape[axis] for part in parts])
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Graphs:
        """What `tensors` was called on; further tensors that are no part of it do not disturb."""
        parts = {
            key: tensors[key].split(tensors[f"{key}.counts"].tolist(), _axis(key))
            for key in tensors
            if f"{key}.counts" in tensors
        }
        return cls([Data(**dict(zip(parts, graph, strict=True))) for graph in zip(*parts.values(), strict=True)])


def _axis(key: str) -> int:
    return -1 if "index" in key else 0  # as PyTorch Geometric joins them
