"""Random molecules, and small message-passing networks on batches of them."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, global_add_pool, global_mean_pool
from torch_geometric.utils import scatter, to_dense_batch


class Net(nn.Module):
    """A network of named parts, and its forward as a function of the network and the inputs."""

    def __init__(self, run: Callable, **parts: nn.Module | nn.Parameter):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs: Tensor | Batch) -> Tensor:
        return self.run(self, inputs)


def molecule(atoms: int) -> Data:
    """A chain of atoms with some bonds across, each bond in both directions; one atom has none."""
    chain = list(pairwise(range(atoms)))
    across = [(i, i + 2) for i in range(atoms - 2) if torch.rand(()) < 0.5]
    pairs = torch.tensor([*chain, *across], dtype=torch.int64).reshape(-1, 2)
    bonds, lengths = torch.randint(4, (len(pairs),)), torch.randn(len(pairs), 3)
    return Data(
        x=torch.randn(atoms, 4),
        atoms=torch.randint(6, (atoms, 2)),
        edge_index=torch.cat([pairs, pairs.flip(1)]).T.contiguous(),
        edge_attr=torch.cat([lengths, lengths]),
        bonds=torch.cat([bonds, bonds]),
        charge=torch.randn(1, 2),
    )


def molecules(*sizes: int) -> Callable[[], Batch]:
    return lambda: Batch.from_data_list([molecule(atoms) for atoms in sizes])


def perceptron(d_in: int, d_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(d_in, 6), nn.ReLU(inplace=True), nn.Linear(6, d_out))


def added(rows: Tensor, g: Batch) -> Tensor:
    return global_add_pool(rows, g.batch, g.num_graphs)


def averaged(rows: Tensor, g: Batch) -> Tensor:
    return global_mean_pool(rows, g.batch, g.num_graphs)


def gin(train_eps: bool = False) -> nn.Module:
    return Net(
        lambda net, g: net.head(added(net.second(net.first(g.x, g.edge_index).tanh(), g.edge_index).tanh(), g)),
        first=GINConv(perceptron(4, 5), train_eps=train_eps),
        second=GINConv(perceptron(5, 4), train_eps=train_eps),
        head=nn.Linear(4, 3),
    )


def gcn() -> nn.Module:
    return Net(
        lambda net, g: net.head(averaged(net.second(net.first(g.x, g.edge_index).tanh(), g.edge_index).tanh(), g)),
        first=GCNConv(4, 5),
        second=GCNConv(5, 4, bias=False),
        head=nn.Linear(4, 2),
    )


def gine() -> nn.Module:
    """Edges and nodes both have rows; the bonds' layer inside GINEConv sees edges."""
    return Net(
        lambda net, g: net.head(added(net.conv(g.x, g.edge_index, g.edge_attr).tanh(), g)),
        conv=GINEConv(perceptron(4, 5), edge_dim=3),
        head=perceptron(5, 2),
    )


def embedded() -> nn.Module:
    """Atoms of two integer columns and bonds of one, as in molecular data sets."""
    return Net(
        lambda net, g: net.head(
            added(
                net.norm(
                    net.conv(
                        net.element(g.atoms[:, 0]) + net.charge(g.atoms[:, 1]), g.edge_index, net.bond(g.bonds)
                    ).tanh()
                ),
                g,
            )
        ),
        element=nn.Embedding(6, 4),
        charge=nn.Embedding(6, 4),
        bond=nn.Embedding(4, 4),
        conv=GINEConv(perceptron(4, 5)),
        norm=nn.BatchNorm1d(5),
        head=nn.Linear(5, 2),
    )


def normed(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Net(
        lambda net, g: net.head(averaged(net.norm(net.body(g.x, g.edge_index)).tanh(), g)),
        body=GINConv(perceptron(4, 6)),
        norm=norm(),
        head=nn.Linear(6, 2),
    )


def gat() -> nn.Module:
    return Net(
        lambda net, g: net.head(averaged(net.conv(g.x, g.edge_index).tanh(), g)),
        conv=GATConv(4, 3, heads=2),
        head=nn.Linear(6, 2),
    )


def message(net: Net, g: Batch) -> Tensor:
    """A layer on edges, one on nodes and one on graphs whose outputs go back to the nodes."""
    source, target = g.edge_index
    messages = net.edges(torch.cat([g.x[source], g.x[target], g.edge_attr], 1)).tanh()
    nodes = net.nodes(g.x) + scatter(messages, target, 0, len(g.x))
    whole = net.graphs(torch.cat([averaged(nodes, g), g.charge], 1)).tanh()
    return net.head(added((nodes + whole[g.batch]).tanh(), g))


def three_levels() -> nn.Module:
    return Net(message, edges=nn.Linear(11, 5), nodes=nn.Linear(4, 5), graphs=nn.Linear(7, 5), head=nn.Linear(5, 2))


def dense_batch() -> nn.Module:
    """Atoms padded to the largest molecule of the batch: how many rows a point has depends on the others."""

    def run(net: Net, g: Batch) -> Tensor:
        padded, mask = to_dense_batch(g.x, g.batch)
        return net.head((net.body(padded).tanh() * mask.unsqueeze(-1)).sum(1))

    return Net(run, body=nn.Linear(4, 5), head=nn.Linear(5, 2))


MIXED = molecules(4, 1, 3, 6)  # the single atom has no bonds

GRAPH_NETWORKS = {
    "gin": (gin, MIXED),
    "gin, learned eps": (lambda: gin(train_eps=True), MIXED),
    "gin, single atoms": (gin, molecules(1, 1, 1, 1)),
    "gin, a single atom last": (gin, molecules(3, 5, 1)),
    "gin, one molecule": (gin, molecules(4)),
    "gcn": (gcn, MIXED),
    "gine": (gine, MIXED),
    "gine, no bonds at all": (gine, molecules(1, 1)),
    "atoms and bonds embedded": (embedded, MIXED),
    "layer norm on nodes": (normed(lambda: nn.LayerNorm(6)), MIXED),
    "batch norm on nodes": (normed(lambda: nn.BatchNorm1d(6)), MIXED),
    "group norm on nodes": (normed(lambda: nn.GroupNorm(2, 6)), MIXED),
    "graph attention": (gat, molecules(3, 1, 2)),
    "edges, nodes and graphs": (three_levels, MIXED),
    "molecules padded": (dense_batch, MIXED),
}
