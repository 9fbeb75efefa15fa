"""Networks of molecules against what their papers write, computed here atom by atom."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

from tangentscope.models import GCN, GIN, ModelError
from tangentscope.models.graphs import Embedded, GraphModel

CODES = {"atoms": (5, 3), "bonds": (4, 2)}


def molecules() -> Batch:
    """A triangle with a tail, a single atom and a pair."""
    graphs = []
    for atoms, pairs in [(4, [[0, 1], [1, 2], [2, 0], [2, 3]]), (1, []), (2, [[0, 1]])]:
        ends = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        features = torch.stack([torch.randint(n, (len(ends),)) for n in CODES["bonds"]], 1)
        graphs.append(
            Data(
                x=torch.stack([torch.randint(n, (atoms,)) for n in CODES["atoms"]], 1),
                edge_index=torch.cat([ends, ends.flip(1)]).T,
                edge_attr=features.repeat(2, 1),
            )
        )
    return Batch.from_data_list(graphs)


def built(model: GraphModel) -> nn.Module:
    network = model.build_for_codes((2,), 3, CODES).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network


def embedded(table: Embedded, codes: Tensor, counts: tuple[int, ...]) -> Tensor:
    """The sum of one-hot codes times the rows that are each feature's own."""
    tables = table.table.weight.split(counts)
    parts = [F.one_hot(column.long(), n).double() @ own for column, own, n in zip(codes.T, tables, counts, strict=True)]
    return sum(parts, torch.zeros(()))


def neighbours(graph: Data, bonds: Tensor, atom: int) -> list[tuple[int, Tensor]]:
    pairs = graph.edge_index.T.tolist()
    return [(source, bonds[k]) for k, (source, target) in enumerate(pairs) if target == atom]


def gin_layer(layer: nn.Module, x: Tensor, graph: Data, bonds: Tensor) -> Tensor:
    rows = []
    for atom in range(len(x)):
        messages = [torch.relu(x[source] + bond) for source, bond in neighbours(graph, bonds, atom)]
        rows.append((1 + layer.eps) * x[atom] + sum(messages, torch.zeros(x.shape[1])))
    return layer.nn(torch.stack(rows))


def gcn_layer(layer: nn.Module, x: Tensor, graph: Data, bonds: Tensor) -> Tensor:
    x = x @ layer.linear.weight.T + layer.linear.bias
    degree = [1 + len(neighbours(graph, bonds, atom)) for atom in range(len(x))]
    rows = []
    for atom in range(len(x)):
        everyone = [*neighbours(graph, bonds, atom), (atom, layer.own[0])]
        rows.append(sum(torch.relu(x[j] + bond) / (degree[j] * degree[atom]) ** 0.5 for j, bond in everyone))
    return torch.stack(rows)


LAYERS = {"gin": gin_layer, "gcn": gcn_layer}
MODELS = [
    GIN(width=4, depth=3, virtual_node=True),
    GIN(width=3, depth=1, pooling="sum", norm="none"),
    GCN(width=4, depth=2, norm="layer", virtual_node=True, pooling="sum"),
    GCN(width=3, depth=3),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_a_network_is_what_its_paper_says(model: GIN | GCN):
    torch.manual_seed(0)
    network, batch = built(model), molecules()
    found = network(batch)
    for number in range(batch.num_graphs):
        graph = batch.get_example(number)
        x = embedded(network.atoms, graph.x, CODES["atoms"])
        virtual = network.virtual.vector[0] if model.virtual_node else 0
        for k in range(model.depth):
            x = x + virtual
            if model.virtual_node and k < model.depth - 1:
                virtual = network.virtual.updates[k]((x.sum(0) + virtual)[None])[0]
            bonds = embedded(network.bonds[k], graph.edge_attr, CODES["bonds"])
            x = network.norms[k](LAYERS[model.name](network.layers[k], x, graph, bonds))
            x = x.relu() if k < model.depth - 1 else x
        pooled = x.mean(0) if model.pooling == "mean" else x.sum(0)
        torch.testing.assert_close(found[number], network.head(pooled), rtol=1e-9, atol=1e-9)


def test_published_sizes():
    """Of OGB's leaderboard for ogbg-molpcba, whose chirality had four codes then."""
    codes = {"atoms": (119, 4, 12, 12, 10, 6, 6, 2, 2), "bonds": (5, 6, 2)}
    counts = {}
    for name, model in {"gcn": GCN(), "gin": GIN(), "gin-virtual": GIN(virtual_node=True)}.items():
        counts[name] = sum(p.numel() for p in model.build_for_codes((9,), 128, codes).parameters())
    assert counts == {"gcn": 565_928, "gin": 1_923_433, "gin-virtual": 3_374_533}


def test_dropout_is_in_training_only():
    torch.manual_seed(0)
    network, batch = GIN(width=8, depth=2, norm="none").build_for_codes((2,), 3, CODES), molecules()
    network.eval()
    assert torch.equal(network(batch), network(batch))
    network.train()
    assert not torch.equal(network(batch), network(batch))


@pytest.mark.parametrize("model", [GIN(), GCN()], ids=["gin", "gcn"])
def test_other_codes_are_refused(model: GIN | GCN):
    with pytest.raises(
        ModelError, match=rf"{model.name} takes molecules \(codes of atoms, bonds\), got codes of words"
    ):
        model.network((4,), 3, {"words": (9,)})
    with pytest.raises(ModelError, match=f"{model.name} takes codes, such as words, got numbers"):
        model.network((4,), 3, {})
