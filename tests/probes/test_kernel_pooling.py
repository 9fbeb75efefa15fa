"""Average pooling by windows side by side: our backward pass gives what torch's does, bit for bit."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tangentscope.probes import tangent_kernel
from tangentscope.probes.kernels.gradients.autograd_graph import Graph
from tangentscope.probes.kernels.gradients.graph_ownership import blockwise
from tangentscope.probes.network.pooling import SideBySide

SIDES = st.integers(1, 4)


@settings(deadline=None)  # the first call is a cold one
@given(
    lead=st.sampled_from([(3,), (2, 3)]),
    windows=st.tuples(SIDES, SIDES),
    window=st.tuples(SIDES, SIDES),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    apart=st.booleans(),
)
def test_values_and_gradients_are_torchs(
    lead: tuple[int, ...], windows: tuple[int, int], window: tuple[int, int], dtype: torch.dtype, apart: bool
):
    sides = [number * side for number, side in zip(windows, window, strict=True)]
    inputs = torch.randn(*lead, *sides, dtype=dtype, requires_grad=True)
    given = inputs if not apart else inputs.transpose(-1, -2).contiguous().transpose(-1, -2)
    theirs = F.avg_pool2d(given, window)
    with SideBySide():
        ours = F.avg_pool2d(given, window)
    assert ours.grad_fn is not None
    assert ours.grad_fn.name() == "_PooledBackward"
    assert torch.equal(ours, theirs)
    seed = torch.randn_like(theirs)
    assert torch.equal(*(torch.autograd.grad(each, inputs, seed)[0] for each in (ours, theirs)))


def pooled_of(change: Callable[[Tensor, Tensor], Tensor | None]) -> tuple[str, list[Tensor]]:
    """Of rectified numbers: the node of the pooling that is done by ours, and its gradient after torch's.

    change: what becomes of the numbers before and after the rectifier; gives what is pooled if not the latter.
    """
    torch.manual_seed(1)
    inputs, seed, names, found = torch.randn(2, 3, 4, 4).requires_grad_(), torch.randn(2, 3, 2, 2), [], []
    for mode in (nullcontext(), SideBySide()):
        before = inputs * 1.0
        with mode:
            after = F.relu(before)
            changed = change(before, after)
            pooled = F.avg_pool2d(after if changed is None else changed, 2)
        assert pooled.grad_fn is not None
        names.append(pooled.grad_fn.name())
        # Another way than by the pooling leads to the same numbers.
        found.append(torch.autograd.grad([pooled, after, before], inputs, [seed, after.detach(), before.detach()])[0])
    return names[1], found


def test_rectified_numbers_are_pooled_in_one_step():
    name, gradients = pooled_of(lambda before, after: None)
    assert name == "_RectifiedPooledBackward"
    torch.testing.assert_close(*gradients)


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor | None]] = {
    "inputs written over": lambda before, after: (before.add_(1.0), None)[1],
    "a hook": lambda before, after: (after.register_hook(lambda gradient: 3 * gradient), None)[1],
    "something between": lambda before, after: after * 1.0,
    "not the last": lambda before, after: (F.relu(before), None)[1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_where_something_comes_between_there_are_two_steps(change: Callable[[Tensor, Tensor], Tensor | None]):
    name, gradients = pooled_of(change)
    assert name == "_PooledBackward"
    torch.testing.assert_close(*gradients)


def test_what_was_written_over_is_refused_by_torch_as_ever():
    inputs = torch.randn(2, 3, 4, 4, requires_grad=True)
    with SideBySide():
        pooled = F.avg_pool2d(F.relu(inputs).mul_(2.0), 2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(pooled.sum(), inputs)


@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 2, "stride": 1},
        {"kernel_size": 2, "padding": 1},
        {"kernel_size": 4},  # does not divide 6
        {"kernel_size": 4, "ceil_mode": True},
        {"kernel_size": (2, 3), "stride": (3, 2)},
        {"kernel_size": 2, "divisor_override": 3},
    ],
)
def test_other_pooling_is_left_to_torch(how: dict):
    inputs = torch.randn(2, 3, 6, 6, requires_grad=True)
    with SideBySide():
        found = F.avg_pool2d(inputs, **how)
    assert found.grad_fn is not None
    assert found.grad_fn.name() == "AvgPool2DBackward0"


def test_where_no_gradient_is_wanted_it_is_left_to_torch():
    with SideBySide():
        assert F.avg_pool2d(torch.randn(2, 3, 4, 4), 2).grad_fn is None


def network(window: int | tuple[int, int] = 2) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(window, stride=window, ceil_mode=True), nn.Flatten(),
        nn.LazyLinear(3),
    )  # fmt: skip


def brute_force(model: nn.Module, inputs: Tensor) -> Tensor:
    rows = []
    for output in model(inputs).flatten():
        gradients = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


@pytest.mark.parametrize("window", [2, (3, 2), (6, 6), 4])
def test_kernels_of_pooled_networks(window: int | tuple[int, int]):
    inputs, model = torch.randn(5, 1, 6, 6, dtype=torch.float64), network(window).double()
    model(inputs)  # gives the lazy layer its size
    torch.testing.assert_close(tangent_kernel(model, inputs), brute_force(model, inputs), rtol=1e-10, atol=1e-12)
    pooled = model[:3](inputs)  # outside the engine it is torch's
    assert pooled.grad_fn is not None
    assert pooled.grad_fn.name() == "AvgPool2DBackward0"


def test_the_graph_shows_whose_rows_are_whose():
    inputs = torch.randn(5, 1, 6, 6, requires_grad=True)
    with SideBySide():
        outputs = F.avg_pool2d(inputs * 2.0, 2).flatten(1)
    graph = Graph(outputs)
    known = {node.name() for node, _ in blockwise(graph, 5).rows}
    assert {node.name() for node in graph.nodes} == known >= {"_PooledBackward", "MulBackward0"}
