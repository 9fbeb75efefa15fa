"""Whose rows are whose by the graph alone, against one backward pass for each point."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import CASE, CASES, Case
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from tangentscope.probes.kernels.gradients.autograd_graph import Graph
from tangentscope.probes.kernels.gradients.graph_ownership import blockwise

N = 4


def graph_of(outputs: Tensor) -> Graph:
    return Graph(outputs.reshape(len(outputs), -1))


def check(graph: Graph, outputs: Tensor) -> None:
    """The gradients of a point's outputs at a known edge lie in that point's rows."""
    points = len(outputs)
    known = blockwise(graph, points).rows
    for point in range(points):
        seed = torch.zeros_like(outputs.reshape(points, -1))
        seed[point] = torch.rand(seed[point].shape, dtype=seed.dtype) + 0.5
        places = [GradientEdge(*edge) for edge in known]
        found = torch.autograd.grad([graph.root], places, [seed], retain_graph=True, allow_unused=True)
        for (edge, layout), gradient in zip(known.items(), found, strict=True):
            if gradient is not None:
                others = torch.arange(points) != point
                assert not layout.arrange(gradient)[others].count_nonzero(), edge[0].name()


def known_at(hidden: Tensor, graph: Graph, points: int) -> bool:
    return (hidden.grad_fn, 0) in blockwise(graph, points).rows


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_known_rows_are_their_points_own(case: Case):
    model, inputs = case.make(torch.float64)
    outputs = model.eval()(inputs)
    outputs = outputs.reshape(len(outputs), -1)
    check(Graph(outputs), outputs)


@pytest.mark.parametrize("name", ["resnet", "vgg", "variational autoencoder"])
def test_everything_in_usual_networks_is_known(name: str):
    model, inputs = CASE[name].make(torch.float32)
    outputs = model.eval()(inputs)
    graph = graph_of(outputs)
    known = blockwise(graph, len(outputs)).rows
    wanted = {(node, 0) for node in graph.nodes if node.name() in ("ConvolutionBackward0", "AddmmBackward0")}
    assert wanted
    assert wanted <= set(known)


X = torch.randn(N, N)


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda h: h.softmax(0),
    "mean": lambda h: h.mean((0, 1), keepdim=True).expand(N, N),
    "sum of all": lambda h: h.sum(-2, keepdim=True).expand(N, N),
    "batch norm in train mode": lambda h: F.batch_norm(h, None, None, training=True),
    "layer norm of all": lambda h: F.layer_norm(h, (N, N)),
    "second factor": lambda h: X @ h,
    "second factor beside a sum": lambda h: torch.addmm(X, X, h),
    "weight": lambda h: F.linear(X, h),
    "bias": lambda h: F.linear(X, X, h[0]),
    "broadcast rows": lambda h: (h + X[:, :, None]).flatten(1),
    "expanded": lambda h: h.expand(N, N, N).flatten(1),
    "gathered": lambda h: h[torch.arange(N).flip(0)],
    "transposed by strides": lambda h: h.as_strided((N, N), (1, N)),
    "first row seen by all": lambda h: h.as_strided((N, N), (0, 1)),
    "first entry seen in another's place": lambda h: h.reshape(1, -1).as_strided((1, N * N), (0, 0)).reshape(N, N),
    "moved on by an entry": lambda h: torch.cat([h, h]).as_strided((N, N), (N, 1), 1),
}


@pytest.mark.parametrize("mix", MIXING.values(), ids=MIXING)
def test_rows_that_points_share_are_not_known(mix: Callable[[Tensor], Tensor]):
    layer = nn.Linear(N, N)
    hidden = layer(torch.randn(N, N))
    graph = graph_of(mix(hidden).relu())
    assert hidden.grad_fn in graph.nodes
    assert not known_at(hidden, graph, N)


TURNED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda h: h.T,
    "transposed from the end": lambda h: h.transpose(-1, -2),
    "permuted": lambda h: h.permute(-1, 0),
    "sum into the points' place": lambda h: h.unflatten(1, (N, 1)).sum(0),
    "stacked": lambda h: torch.stack([h, h.sin()], 2).sum(2).T,
    "selected": lambda h: torch.stack([h.T, h.T.sin()])[0] + h.T,
}


@pytest.mark.parametrize("turn", TURNED.values(), ids=TURNED)
def test_points_are_followed_to_another_dimension(turn: Callable[[Tensor], Tensor]):
    """Row i of the outputs is made of column i of what the layer gives."""
    hidden = nn.Linear(N, N)(torch.randn(N, N))
    outputs = turn(hidden).relu()
    known = blockwise(graph_of(outputs), N).rows
    assert known[hidden.grad_fn, 0].dim == 1
    check(graph_of(outputs), outputs)


def test_strides_that_leave_every_entry_in_its_place_are_seen_through():
    """Pooling to one position gives its output the strides of images whose channels lie together."""
    images = torch.randn(N, 3, 4, 4).to(memory_format=torch.channels_last)
    hidden = nn.Conv2d(3, 5, 3)(images)
    outputs = F.adaptive_avg_pool2d(hidden, 1).flatten(1)
    graph = Graph(outputs)
    assert any(node.name().startswith("AsStrided") for node in graph.nodes)
    assert known_at(hidden, graph, N)
    check(graph, outputs)


def test_a_path_around_what_mixes_does_not_make_rows_known():
    hidden = nn.Linear(N, N)(torch.randn(N, N))
    graph = graph_of(hidden.relu() + hidden.softmax(0))
    assert not known_at(hidden, graph, N)
    assert known_at(hidden, graph_of(hidden.relu() + hidden.softmax(1)), N)


def test_rows_that_do_not_divide_among_points_are_not_known():
    hidden = nn.Linear(3, 4)(torch.randn(3, 3))
    graph = graph_of(hidden.reshape(2, 6).sin())
    assert not known_at(hidden, graph, 2)


def test_what_blocks_are_of_several_rows_is_known():
    hidden = nn.Linear(3, 5)(torch.randn(2 * N, 3))
    outputs = hidden.reshape(N, 2, 5).relu().sum(1)
    graph = Graph(outputs)
    assert known_at(hidden, graph, N)
    check(graph, outputs)


def test_what_gives_the_weights_of_others_is_not_known():
    """A weight that depends on the data is no parameter."""
    hidden = nn.Linear(N, 3)(torch.randn(N, N))
    outputs = F.conv1d(torch.randn(N, 3, 5), hidden[:, :, None])
    assert not known_at(hidden, graph_of(outputs), N)
