"""Data points in a batch: rows of a tensor, or graphs of a mini-batch of graphs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class TensorBatch:
    """Points are the rows of a tensor [N, ...]."""

    def __init__(self, data: Tensor):
        self.data = data

    @property
    def device(self) -> torch.device:
        """Where the tensor lies."""
        return self.data.device

    def __len__(self) -> int:
        return len(self.data)

    def run(self, model: nn.Module) -> Any:
        """``model(inputs)``, of a copy: a model may work on its inputs in place."""
        return model(self.data.clone())

    def take(self, indices: Tensor) -> "TensorBatch":
        """Rows of the tensor."""
        return TensorBatch(self.data[indices.to(self.data.device)])

    def sample(self) -> "TensorBatch":
        """One point that costs as much as any: the last one."""
        return TensorBatch(self.data[-1:])

    def owners(self, rows: int) -> Iterator[Tensor]:
        """None: rows of a tensor keep their places, see ``layouts.Grid``."""
        return iter(())


class GraphBatch:
    """Points are the graphs of a PyTorch Geometric ``Batch``; rows inside the network are graphs, nodes or edges."""

    def __init__(self, data: Any):
        self.data = data

    @property
    def device(self) -> torch.device:
        """Where the nodes lie."""
        return self.data.batch.device

    def __len__(self) -> int:
        return int(self.data.num_graphs)

    def run(self, model: nn.Module) -> Any:
        """``model(batch)``, of a copy: a model may put its features into the batch."""
        return model(self.data.clone())

    def take(self, indices: Tensor) -> "GraphBatch":
        """A mini-batch of some of the graphs."""
        chosen = [self.data.get_example(index) for index in indices.tolist()]
        return GraphBatch(type(self.data).from_data_list(chosen))

    def sample(self) -> "GraphBatch":
        """The graph that has most nodes."""
        return self.take(torch.bincount(self.data.batch).argmax()[None])

    def owners(self, rows: int) -> Iterator[Tensor]:
        """By their number, rows can be graphs, nodes or edges (an edge belongs to the graph of its source)."""
        node_owner = self.data.batch
        edges = self.data.edge_index
        if rows == len(self):
            yield torch.arange(rows, device=node_owner.device)
        if rows == len(node_owner):
            yield node_owner
        if edges is not None and rows == edges.shape[1]:
            yield node_owner[edges[0]]


Batch = TensorBatch | GraphBatch
"""N data points that a network takes at once."""


def as_batch(inputs: Any, name: str = "inputs") -> Batch:
    """The data points behind ``inputs``.

    Raises:
        TypeError: neither a tensor nor a mini-batch of graphs.
        ValueError: no batch dimension, or no data points.
    """
    if isinstance(inputs, Tensor):
        if inputs.dim() == 0:
            raise ValueError(
                f"{name} have no batch dimension (shape []), expected [N, ...]: add one with {name}.unsqueeze(0)"
            )
        if len(inputs) == 0:
            raise ValueError(
                f"{name} hold no data points (shape {list(inputs.shape)}), expected N ≥ 1: pass at least one"
            )
        with torch.inference_mode(False):  # tensors made in it cannot be saved for a backward pass
            return TensorBatch(inputs.clone() if inputs.is_inference() else inputs.detach())
    if all(hasattr(inputs, part) for part in ("num_graphs", "get_example", "edge_index")):
        if inputs.num_graphs == 0:
            raise ValueError(f"{name} hold no graphs, expected at least one: pass a mini-batch with some")
        return GraphBatch(inputs)
    raise TypeError(
        f"{name} are a {type(inputs).__name__}, expected a tensor [N, ...] or a torch_geometric Batch: convert them "
        "with torch.as_tensor or Batch.from_data_list"
    )


def checked_draws(draws: Any, points: int) -> Tensor:
    """Indices [draws, size] into ``points`` points, on the CPU.

    Raises:
        ValueError: they are not whole numbers [draws, size] with both at least 1, or out of range.
    """
    index = torch.as_tensor(draws)
    if index.dim() != 2 or index.numel() == 0 or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"draws are {index.dtype} of shape {list(index.shape)}, expected integers [draws, size]: see draw_indices"
        )
    index = index.long().cpu()
    if int(index.min()) < 0 or int(index.max()) >= points:
        raise ValueError(
            f"draws hold indices from {int(index.min())} to {int(index.max())}, expected 0 … {points - 1}: "
            "draw out of these inputs"
        )
    return index
