"""Graph networks of torch_geometric on small random graphs of different sizes, each with ten outputs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATv2Conv, GINEConv, SchNet, TransformerConv, global_mean_pool

OUTPUTS, FEATURES, BONDS, WIDTH, LAYERS = 10, 8, 4, 64, 3


class Stack(nn.Module):
    """Convolutions on graphs with norms and skips between them, averaged over nodes; edges have features."""

    def __init__(self, convolution: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, WIDTH)
        self.convolutions = nn.ModuleList([convolution() for _ in range(LAYERS)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(WIDTH) for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, graphs: Batch) -> Tensor:
        x = self.first(graphs.x)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + norm(convolution(x, graphs.edge_index, graphs.edge_attr)).relu()
        return self.head(global_mean_pool(x, graphs.batch, graphs.num_graphs))


def gat() -> nn.Module:
    return Stack(lambda: GATv2Conv(WIDTH, WIDTH // 4, heads=4, edge_dim=BONDS))


def graph_transformer() -> nn.Module:
    return Stack(lambda: TransformerConv(WIDTH, WIDTH // 4, heads=4, edge_dim=BONDS, beta=True))


def gine() -> nn.Module:
    def convolution() -> nn.Module:
        perceptron = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        return GINEConv(perceptron, train_eps=True, edge_dim=BONDS)

    return Stack(convolution)


class Atoms(nn.Module):
    """SchNet with ten properties of a molecule in place of one, on the edges that the graphs come with.

    Its own search for neighbours would need torch-cluster.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = SchNet(WIDTH, WIDTH, LAYERS, num_gaussians=16, cutoff=CUTOFF, interaction_graph=neighbours)
        self.net.lin2 = nn.Linear(WIDTH // 2, OUTPUTS)

    def forward(self, graphs: Batch) -> Tensor:
        return self.net(graphs.z, graphs.pos, graphs.batch)


CUTOFF = 4.0


def neighbours(places: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of atoms of one molecule nearer than the cutoff, in the order of the first; and their distances."""
    distances = (places[:, None] - places).square().sum(2).sqrt()
    near = (distances < CUTOFF) & (owner[:, None] == owner) & ~torch.eye(len(places), dtype=torch.bool)
    pairs = near.nonzero().T
    return pairs, distances[pairs[0], pairs[1]]


def sizes(n: int) -> list[int]:
    return torch.randint(4, 11, (n,)).tolist()


def graphs(n: int) -> Batch:
    """Random edges in both directions, about two a node."""

    def graph(nodes: int) -> Data:
        ends = torch.combinations(torch.arange(nodes))
        pairs = ends[torch.rand(len(ends)) < 2 / nodes]
        edges = torch.cat([pairs, pairs.flip(1)]).T.contiguous()
        return Data(x=torch.randn(nodes, FEATURES), edge_index=edges, edge_attr=torch.randn(edges.shape[1], BONDS))

    return Batch.from_data_list([graph(nodes) for nodes in sizes(n)])


def molecules(n: int) -> Batch:
    def molecule(atoms: int) -> Data:
        places = 1.5 * torch.randn(atoms, 3)
        edges, _ = neighbours(places, torch.zeros(atoms))
        return Data(z=torch.randint(1, 10, (atoms,)), pos=places, edge_index=edges)

    return Batch.from_data_list([molecule(atoms) for atoms in sizes(n)])


GRAPH_MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Batch]]] = {
    "gatv2": (gat, graphs),
    "graph_transformer": (graph_transformer, graphs),
    "gine": (gine, graphs),
    "schnet": (Atoms, molecules),
}
