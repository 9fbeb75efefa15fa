"""Data points that are graphs: mini-batches of PyTorch Geometric, of one kind of nodes and edges or of several."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from tangentscope.probes.network.output import Output, picked
from tangentscope.probes.network.state import renew

COLLATED = "before Batch.from_data_list, so that graphs can be taken out of it again"


def is_graph_batch(inputs: Any) -> bool:
    """Whether graphs can be counted and taken out, as of PyTorch Geometric's ``Batch``."""
    return hasattr(inputs, "get_example") and hasattr(inputs, "num_graphs")


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """Points are the graphs of a PyTorch Geometric ``Batch``; rows inside the network are graphs, nodes or edges.

    output: which of what a model returns is meant.
    """

    data: Any
    output: Output = None

    @classmethod
    def of(cls, data: Any, name: str, output: Output) -> "GraphBatch":
        """A batch whose graphs can be taken out.

        Raises:
            ValueError: it has none, was not collated from single graphs, or was changed since.
        """
        if data.num_graphs == 0:
            raise ValueError(f"{name} hold no graphs, expected at least one: pass a mini-batch with some")
        if not hasattr(data, "_slice_dict"):
            raise ValueError(
                f"{name} are a {type(data).__name__} that was not collated from single graphs, expected one that was: "
                "make it with Batch.from_data_list"
            )
        for store in data.stores:
            _check_store(data, store, name)
        batch = cls(data, output)
        if not batch._node_owners:
            raise ValueError(f"{name} hold graphs without nodes, expected some: give each Data x or num_nodes")
        return batch

    @property
    def devices(self) -> dict[str, torch.device]:
        """Where the nodes lie."""
        return {"": next(iter(self._node_owners.values())).device}

    def __len__(self) -> int:
        return int(self.data.num_graphs)

    def run(self, model: nn.Module) -> Tensor:
        """The model's output; it gets a copy: a model may put its features into the batch."""
        renew(model)
        return picked(model(self.data.clone()), self.output, model)

    def take(self, indices: Tensor) -> "GraphBatch":
        """A mini-batch of some of the graphs."""
        chosen = [self.data.get_example(index) for index in indices.tolist()]
        followed = [
            key.removesuffix("_batch")
            for store in self.data.stores
            for key in store.keys()  # noqa: SIM118  iterating a store gives values
            if key in _followed(_slices(self.data, store))
        ]
        return replace(self, data=type(self.data).from_data_list(chosen, follow_batch=followed))

    def sample(self, points: int) -> "GraphBatch":
        """So many graphs, or all: those that have most nodes, the largest one last."""
        counts = [torch.bincount(owner, minlength=len(self)) for owner in self._node_owners.values()]
        return self.take(torch.stack(counts).sum(0).argsort(stable=True)[-points:])

    def owners(self, rows: int) -> Iterator[Tensor]:
        """By their number, rows can be graphs, nodes or edges (an edge belongs to the graph of its source)."""
        graphs = torch.arange(len(self), device=self.devices[""])
        found: list[Tensor] = []
        for owner in (graphs, *self._node_owners.values(), *self._edge_owners.values()):
            if len(owner) == rows and not any(torch.equal(owner, other) for other in found):
                found.append(owner)
                yield owner

    def level(self, rows: int) -> str | None:
        """What rows of that number are instead of graphs."""
        if rows == len(self):
            return None
        levels = (("node", self._node_owners), ("edge", self._edge_owners))
        return next((level for level, owners in levels if rows in map(len, owners.values())), None)

    @cached_property
    def _node_owners(self) -> dict[Any, Tensor]:
        """By type of nodes (one, None, where all are alike), the graph that each belongs to."""
        return {store._key: store.batch for store in self.data.node_stores if "batch" in store}

    @cached_property
    def _edge_owners(self) -> dict[Any, Tensor]:
        """The same of edges."""
        nodes, found = self._node_owners, {}
        for store in self.data.edge_stores:
            source, edges = nodes.get(store._key[0] if store._key else None), store.get("edge_index")
            if source is None or edges is None:
                continue
            if not edges.numel() or int(edges[0].max()) < len(source):  # an index of its own may count other things
                found[store._key] = source[edges[0]]
        return found


def _slices(data: Any, store: Any) -> dict[str, Any]:
    """By attribute, where each graph's part of it begins."""
    return data._slice_dict if store._key is None else data._slice_dict.get(store._key, {})


def _followed(slices: dict[str, Any]) -> set[str]:
    """The names of the vectors that collating makes with ``follow_batch``."""
    return {f"{key}_batch" for key in slices if isinstance(key, str)}


def _check_store(data: Any, store: Any, name: str) -> None:
    """ValueError unless its attributes are what was collated."""
    slices = _slices(data, store)
    made = {"batch", "ptr", "num_nodes"} | _followed(slices) | {f"{key}_ptr" for key in slices if isinstance(key, str)}
    where = "" if store._key is None else f"[{store._key!r}]"
    for key, value in store.items():
        if key in made and key not in slices:
            continue
        told = f"{name}{where}.{key}"
        if key not in slices:
            raise ValueError(
                f"{told} was put on the {type(data).__name__}, expected on its graphs: put it on each Data {COLLATED}"
            )
        if isinstance(value, Tensor) and isinstance(slices[key], Tensor) and slices[key].dim() == 1:
            length = value.shape[data.__cat_dim__(key, value, store) or 0]
            if length != int(slices[key][-1]):
                raise ValueError(
                    f"{told} was changed on the {type(data).__name__} ({length} instead of {int(slices[key][-1])}), "
                    f"expected to be as collated: put it on each Data, or change it there, {COLLATED}"
                )
