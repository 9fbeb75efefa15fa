"""The graph cell, apart because torch_geometric takes seconds to import."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINConv, global_mean_pool


class GIN(nn.Module):
    """Graph isomorphism network on kinds of atoms: layer norm after every layer, mean over nodes, linear head."""

    def __init__(self, kinds: int, width: int, layers: int, outputs: int):
        super().__init__()
        self.atoms = nn.Embedding(kinds, width)
        self.convs = nn.ModuleList(
            GINConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(width, outputs)

    def forward(self, graphs: Batch) -> Tensor:
        x = self.atoms(graphs.x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, graphs.edge_index)))
        return self.head(global_mean_pool(x, graphs.batch, graphs.num_graphs))


def molecule(atoms: int, kinds: int) -> Data:
    """A random tree with a ring or two, bonds in both directions."""
    bonds = {(int(torch.randint(max(0, i - 3), i, ())), i) for i in range(1, atoms)}
    bonds |= {(i, i + 5) for i in torch.randint(atoms - 5, (2,)).tolist()}
    pairs = torch.tensor(sorted(bonds | {(j, i) for i, j in bonds})).T
    return Data(x=torch.randint(kinds, (atoms,)), edge_index=pairs)


def gin(points: int, atoms: int, width: int, layers: int, outputs: int) -> tuple[nn.Module, Batch]:
    kinds = 16
    sizes = torch.randint(atoms // 3, atoms + 1, (points,)).clamp(min=6).tolist()
    graphs = [molecule(size, kinds) for size in sizes]
    return GIN(kinds, width, layers, outputs), Batch.from_data_list(graphs)
