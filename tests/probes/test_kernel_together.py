"""Gradients of all functions in one backward pass: the same ones as one by one, and only where that is known."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tangentscope.probes import tangent_kernel
from tangentscope.probes.kernels.engine.backward_sweep import sweep
from tangentscope.probes.kernels.gradients.autograd_graph import BATCHED, Graph, Segment
from tangentscope.probes.kernels.treatment import OutputRows

POINTS, WIDTH = 3, 4
WEIGHT = torch.linspace(-1, 1, WIDTH * WIDTH).view(WIDTH, WIDTH)

# A function [N, d] → [N, d] for every node in the table.
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Addmm": lambda x: F.linear(x, WEIGHT, torch.ones(WIDTH)),
    "Mm": lambda x: x @ WEIGHT,
    "T": lambda x: x.t().t(),
    "Transpose": lambda x: x.transpose(0, 1).transpose(0, 1),
    "View": lambda x: (x * 1).view(-1).view(x.shape),
    "UnsafeView": lambda x: (x.view(POINTS, 2, 2) @ WEIGHT[:2, :2]).flatten(1),
    "Unsqueeze": lambda x: x.unsqueeze(1).view(x.shape),
    "Add": lambda x: x + x.sin(),
    "Sub": lambda x: x - 2 * x.sin(),
    "Mul": lambda x: x * x.sin(),
    "Div": lambda x: x / (2 + x.sin()),
    "Neg": lambda x: -x,
    "Relu": F.relu,
    "LeakyRelu": F.leaky_relu,
    "Elu": F.elu,
    "Gelu": F.gelu,
    "Silu": F.silu,
    "Softplus": F.softplus,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Sin": torch.sin,
    "NativeLayerNorm": lambda x: F.layer_norm(x, [WIDTH]),
}


def test_every_node_of_the_table_is_tried_here():
    assert {f"{name}Backward0" for name in FUNCTIONS} == BATCHED


@pytest.mark.parametrize("name", FUNCTIONS)
def test_all_functions_at_once_have_the_gradients_that_they_have_one_by_one(name: str):
    inputs = torch.randn(POINTS, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    start = inputs * 2
    outputs = FUNCTIONS[name](start)
    graph = Graph(outputs)
    assert f"{name}Backward0" in {node.name() for node in graph.nodes}
    assert graph.batches
    edge = (start.grad_fn, 0)

    def gradients(together: bool) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        outputs = FUNCTIONS[name](start)
        graph = Graph(outputs)  # a sweep frees it
        about = OutputRows("full", WIDTH), graph.slopes(outputs), [Segment((edge,), None)]
        for _ in sweep(graph, *about, lambda _, k, g: found.update({k: g}), together):
            pass
        return found

    alone, at_once = gradients(False), gradients(True)
    assert alone.keys() == at_once.keys() == set(range(WIDTH))
    for k in alone:
        torch.testing.assert_close(at_once[k], alone[k], rtol=1e-6, atol=1e-7)
    assert any(gradient.abs().max() > 0 for gradient in alone.values())


def test_convolutions_go_one_by_one():
    images = torch.randn(2, 1, 4, 4, requires_grad=True)
    assert not Graph(nn.Conv2d(1, 2, 3)(images).flatten(1)).batches


class _Reads(nn.Module):
    """A hook in the forward pass asks gradients for their numbers, which only gradients of one function have."""

    def __init__(self, note: Callable[[float], None]):
        super().__init__()
        self.first, self.last, self.note = nn.Linear(5, 4), nn.Linear(4, 3), note

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden.register_hook(lambda gradient: self.note(float(gradient.sum())))
        return self.last(hidden.relu())


def test_hooks_that_ask_for_numbers_get_them():
    torch.manual_seed(0)
    sums: list[float] = []
    model, inputs = _Reads(lambda found: sums.append(found)), torch.randn(6, 5)
    plain = nn.Sequential(model.first, nn.ReLU(), model.last)
    torch.testing.assert_close(tangent_kernel(model, inputs), tangent_kernel(plain, inputs), rtol=1e-6, atol=1e-6)
    assert len(sums) >= 3
