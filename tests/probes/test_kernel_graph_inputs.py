"""Batches of graphs of several kinds of nodes and edges, and with vectors that follow an attribute."""

from typing import Any

import torch
from kernel_brute_force import TREATMENTS, block, brute_force_kernel, least_memory, relative_error, take
from kernel_graphs import Net, molecule
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv, global_add_pool

from tangentscope.probes import draw_kernels, kernel_plan, layer_kernels, tangent_kernel
from tangentscope.probes.network.batch import as_batch


def equal(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def library(papers: int, authors: int) -> HeteroData:
    """Papers, their authors and who wrote and cites what; one author has written nothing."""
    data = HeteroData()
    data["paper"].x, data["author"].x = torch.randn(papers, 3), torch.randn(authors, 2)
    wrote = torch.stack([torch.randint(max(1, authors - 1), (papers,)), torch.arange(papers)])
    data["author", "wrote", "paper"].edge_index = wrote
    data["paper", "by", "author"].edge_index = wrote.flip(0)
    data["paper", "cites", "paper"].edge_index = torch.randint(papers, (2, 2 * papers))
    data["paper", "cites", "paper"].weight = torch.randn(2 * papers, 2)
    return data


def libraries() -> Batch:
    return Batch.from_data_list([library(3, 2), library(1, 1), library(5, 2), library(2, 4)])


class Library(nn.Module):
    """Rows of two types of nodes, of one type of edges, and of graphs."""

    def __init__(self) -> None:
        super().__init__()
        kinds = {("author", "wrote", "paper"): (2, 3), ("paper", "by", "author"): (3, 2)}
        self.convolution = HeteroConv({kind: SAGEConv(sizes, 4) for kind, sizes in kinds.items()}, aggr="sum")
        self.citation, self.paper, self.head = nn.Linear(2, 4), nn.Linear(4, 3), nn.Linear(7, 2)

    def forward(self, data: Any) -> Tensor:
        rows = self.convolution(data.x_dict, data.edge_index_dict)
        cites = data["paper", "cites", "paper"]
        papers = rows["paper"].index_add(0, cites.edge_index[1], self.citation(cites.weight).tanh())
        pooled = [
            global_add_pool(self.paper(papers.tanh()).tanh(), data["paper"].batch, data.num_graphs),
            global_add_pool(rows["author"].tanh(), data["author"].batch, data.num_graphs),
        ]
        return self.head(torch.cat(pooled, 1))


def test_graphs_of_several_kinds_of_nodes_and_edges():
    model, inputs = Library().double(), libraries().apply(lambda t: t.double() if t.is_floating_point() else t)
    for outputs in TREATMENTS:
        whole = brute_force_kernel(model, inputs, outputs)
        assert relative_error(tangent_kernel(model, inputs, outputs), whole) < 1e-10
    assert {layer.path for layer in kernel_plan(model, inputs).layers}.isdisjoint({"per-sample jacobian"})
    whole = brute_force_kernel(model, inputs, "full")
    equal(sum(layer_kernels(model, inputs).values()), whole)
    equal(tangent_kernel(model, inputs, others=take(inputs, [2, 0])), block(whole, 4, range(4), [2, 0]))
    for draw, kernel in zip([[0, 2], [3, 1]], draw_kernels(model, inputs, torch.tensor([[0, 2], [3, 1]])), strict=True):
        equal(kernel, block(whole, 4, draw, draw))
    least = least_memory(lambda memory_bytes: tangent_kernel(model, inputs, memory_bytes=memory_bytes))
    equal(tangent_kernel(model, inputs, memory_bytes=least), whole)


def test_rows_of_every_type_have_owners():
    batch = as_batch(libraries())
    assert [owner.tolist() for owner in batch.owners(4)] == [[0, 1, 2, 3]]
    assert [owner.tolist() for owner in batch.owners(11)] == [[0] * 3 + [1] + [2] * 5 + [3] * 2]  # papers, and edges
    assert [owner.tolist() for owner in batch.owners(9)] == [[0] * 2 + [1] + [2] * 2 + [3] * 4]
    assert [owner.tolist() for owner in batch.owners(22)] == [[0] * 6 + [1] * 2 + [2] * 10 + [3] * 4]
    assert len(as_batch(Batch.from_data_list([library(3, 9), library(4, 1)])).sample(1).data["paper"].x) == 3
    assert (batch.level(4), batch.level(11), batch.level(22), batch.level(7)) == (None, "node", "edge", None)


def test_types_with_as_many_rows_each_have_their_owners():
    first, second = library(2, 1), library(1, 2)
    assert [owner.tolist() for owner in as_batch(Batch.from_data_list([first, second])).owners(3)] == [
        [0, 0, 1],
        [0, 1, 1],
    ]


def test_vectors_that_follow_an_attribute_come_along():
    """``follow_batch`` makes them while collating; a mini-batch of some of the graphs needs them as well."""
    graphs = [molecule(3), molecule(2), molecule(5)]
    for graph in graphs:
        graph.parts = torch.randn(len(graph.x) - 1, 4, dtype=torch.float64)
    inputs = Batch.from_data_list(graphs, follow_batch=["parts"])
    model = Net(lambda net, g: global_add_pool(net.layer(g.parts), g.parts_batch, g.num_graphs), layer=nn.Linear(4, 2))
    model.double()
    sums = torch.stack([torch.cat([graph.parts.sum(0), torch.tensor([len(graph.parts)])]) for graph in graphs])
    equal(tangent_kernel(model, inputs), torch.kron(sums @ sums.T, torch.eye(2, dtype=torch.float64)))
