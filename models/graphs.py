"""What networks of molecular graphs share: embedded atoms and bonds, layers between norms, a read-out of each graph."""

# a atoms, b bonds (each counts in both directions), n graphs, w width

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from tangentscope.models.base import Codes, Depth, Model, ModelError

Norm = Literal["batch", "layer", "none"]
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}


class GraphModel(Model, frozen=True):
    """A message-passing network, as the baselines of OGB are built (Hu et al. 2020, arXiv:2005.00687, §B).

    Atoms and, in each layer anew, bonds are embedded: a vector for each code of each of their features, added up. After
    a layer come its norm, a ReLU (but after the last) and dropout; the graph's vector is pooled from its atoms and read
    out by a dense layer.

    Args:
        width: of all vectors; 300 in OGB.
        depth: how many layers.
        norm: `batch` is OGB's; `layer` normalises each atom by itself.
        dropout: share of the entries set to zero after each layer; ½ in OGB.
        pooling: how atoms make a graph; OGB's is `mean`.
        virtual_node: whether each graph has a node that exchanges messages with all atoms (Gilmer et al. 2017).
    """

    width: int = Field(default=300, ge=1)
    depth: Depth = 5
    norm: Norm = "batch"
    dropout: float = Field(default=0.5, ge=0, lt=1)
    pooling: Literal["mean", "sum"] = "mean"
    virtual_node: bool = False

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """From mini-batches of PyTorch Geometric, with `x` and `edge_attr` codes of atoms and bonds, to `[n, outputs]`.

        Raises:
            ModelError: if the codes are not of atoms and bonds.
        """
        if set(codes) != {"atoms", "bonds"}:
            raise ModelError(
                f"{self.name} takes molecules (codes of atoms, bonds), got codes of {', '.join(codes)}: choose another "
                "task or model"
            )
        return _Network(self, codes, outputs)

    @abstractmethod
    def layer(self) -> nn.Module:
        """A layer from atoms `[a, w]`, edges `[2, b]` and their embedded bonds `[b, w]` to atoms `[a, w]`."""

    def normed(self, width: int) -> nn.Module:
        """A new norm of this many entries."""
        return NORMS[self.norm](width)


def added(rows: Tensor, owners: Tensor, count: int) -> Tensor:
    """The sum of the rows of each owner, `[count, w]`; zero where there is none.

    Args:
        rows: `[m, w]`.
        owners: `[m]`, from 0 to `count` - 1.
    """
    return rows.new_zeros(count, rows.shape[1]).index_add(0, owners, rows)


class Embedded(nn.Module):
    """The sum of a vector for each of several features, given by their codes; one table has the vectors of all."""

    first: Tensor

    def __init__(self, counts: Sequence[int], width: int):
        super().__init__()
        self.table = nn.Embedding(sum(counts), width)
        first = list(accumulate(counts, initial=0))
        for start, end in pairwise(first):
            nn.init.xavier_uniform_(self.table.weight.data[start:end])
        self.register_buffer("first", torch.tensor(first[:-1]), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """From codes `[m, features]` to `[m, w]`."""
        return self.table(codes + self.first).sum(1)


class _Network(nn.Module):
    def __init__(self, config: GraphModel, codes: Codes, outputs: int):
        super().__init__()
        width, depth = config.width, config.depth
        self.dropout, self.mean = nn.Dropout(config.dropout), config.pooling == "mean"
        self.atoms = Embedded(codes["atoms"], width)
        self.bonds = nn.ModuleList(Embedded(codes["bonds"], width) for _ in range(depth))
        self.layers = nn.ModuleList(config.layer() for _ in range(depth))
        self.norms = nn.ModuleList(config.normed(width) for _ in range(depth))
        self.virtual = _Virtual(config) if config.virtual_node else None
        self.head = nn.Linear(width, outputs)

    def forward(self, graphs: Any) -> Tensor:
        edges, owners, count = graphs.edge_index, graphs.batch, graphs.num_graphs
        x = self.atoms(graphs.x)
        virtual = self.virtual.start(count) if self.virtual else None
        last = len(self.layers) - 1
        for k, (bonds, layer, norm) in enumerate(zip(self.bonds, self.layers, self.norms, strict=True)):
            if self.virtual is not None and virtual is not None:
                x = x + virtual[owners]
                virtual = self.virtual(k, added(x, owners, count) + virtual) if k < last else None
            x = norm(layer(x, edges, bonds(graphs.edge_attr)))
            x = self.dropout(F.relu(x) if k < last else x)
        x = added(x, owners, count)
        if self.mean:
            x = x / torch.bincount(owners, minlength=count)[:, None]
        return self.head(x)


class _Virtual(nn.Module):
    """A vector for each graph, the same at the start, and what makes the next out of it and the graph's atoms."""

    def __init__(self, config: GraphModel):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(1, config.width))
        wide = 2 * config.width
        self.updates = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.width, wide),
                config.normed(wide),
                nn.ReLU(),
                nn.Linear(wide, config.width),
                config.normed(config.width),
                nn.ReLU(),
                nn.Dropout(config.dropout),
            )
            for _ in range(config.depth - 1)
        )

    def start(self, count: int) -> Tensor:
        return self.vector.expand(count, -1)

    def forward(self, layer: int, x: Tensor) -> Tensor:
        return self.updates[layer](x)
