"""Graphs in memory, in a mini-batch and as flat tensors are the same graphs."""

import torch
from torch_geometric.data import Batch, Data

from tangentscope.tasks import Split, TaskData
from tangentscope.tasks.graphs import Graphs


def three() -> Graphs:
    """Of two nodes and two edges, of one node without an edge, of three nodes and four edges."""
    joined = [[[0, 1], [1, 0]], [[], []], [[0, 1, 1, 2], [1, 0, 2, 1]]]
    found = []
    for number, edges in enumerate(joined):
        index = torch.tensor(edges, dtype=torch.long).reshape(2, -1)
        nodes = 1 + max(index.flatten().tolist(), default=0)
        x = torch.full((nodes, 2), 10 * number) + torch.arange(nodes)[:, None]
        found.append(Data(x=x, edge_index=index, edge_attr=index.T + number))
    return Graphs(found)


def parts(batch: Batch) -> list[torch.Tensor]:
    return [batch.x, batch.edge_index, batch.edge_attr, batch.batch]


def test_a_mini_batch_has_the_graphs_in_the_order_asked_for():
    batch = three()[torch.tensor([2, 1, 0])]
    assert batch.num_graphs == 3
    assert batch.x[:, 0].tolist() == [20, 21, 22, 10, 0, 1]
    assert batch.batch.tolist() == [0, 0, 0, 1, 2, 2]
    assert batch.edge_index.tolist() == [[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]]


def test_flat_tensors_give_the_same_graphs_back():
    graphs, everything = three(), torch.arange(3)
    flat = {"targets": torch.zeros(3), **graphs.tensors()}
    assert flat["edge_index"].shape == (2, 6)
    assert flat["edge_index.counts"].tolist() == [2, 0, 4]
    again = Graphs.from_tensors(flat)
    assert len(again) == 3
    for one, other in zip(parts(graphs[everything]), parts(again[everything]), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


def test_another_device_leaves_the_graphs_where_they_are():
    graphs = three()
    assert graphs.to("meta")[torch.arange(3)].x.is_meta
    assert not graphs[torch.arange(3)].x.is_meta


def test_graphs_are_points_of_a_split():
    split = Split(three(), torch.tensor([0, 1, 2]))
    some = split.take(torch.tensor([2, 0]))
    assert (len(some), some.targets.tolist()) == (2, [2, 0])
    inputs, targets = some.batch(torch.tensor([1]))
    assert (inputs.x[:, 0].tolist(), targets.tolist()) == ([0, 1], [0])
    assert set(split.tensors()) >= {"inputs.x", "inputs.edge_attr.counts", "targets"}


def test_the_fingerprint_tells_graphs_apart():
    def fingerprint(order: list[int]) -> str:
        split = Split(three().take(torch.tensor(order)), torch.zeros(3))
        return TaskData(split, split, (2,), 1, "three graphs").fingerprint

    assert fingerprint([0, 1, 2]) == fingerprint([0, 1, 2]) != fingerprint([0, 2, 1])
