"""Kernels of draws of points are those of the points drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from kernel_brute_force import TREATMENTS, block, count, least_memory, take
from kernel_cases import CASE, Case
from kernel_graphs import Net
from kernel_networks import mlp
from torch import nn
from turns import in_turns

from tangentscope.probes import draw_indices, draw_kernels, draw_kernels_and_traces, tangent_kernel
from tangentscope.probes.kernels import computation
from tangentscope.probes.kernels.engine import block as engine_block
from tangentscope.probes.kernels.gradients import observation
from tangentscope.probes.network.batch import TensorBatch


@pytest.mark.parametrize(("case", "outputs"), in_turns("draws", CASE, TREATMENTS))
def test_each_is_the_kernel_of_its_points(case: Case, outputs: str):
    model, inputs = case.make(torch.float64)
    whole, N = case.kernel(outputs), count(inputs)
    draws = torch.randint(N, (4, 3))  # draws share points, and hold some twice
    kernels = draw_kernels(model, inputs, draws, outputs)
    rows = len(whole) // N
    assert kernels.shape == (4, 3 * rows, 3 * rows)
    assert kernels.dtype == torch.float64
    for draw, kernel in zip(draws.tolist(), kernels, strict=True):
        assert torch.equal(kernel, kernel.T)
        assert ((kernel - block(whole, N, draw, draw)).abs() <= 1e-10 * whole.abs().max()).all()


@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "lstm", "gine"])
def test_agrees_with_one_call_a_draw(name: str):
    model, inputs = CASE[name].make(torch.float32)
    draws = draw_indices(count(inputs), draws=5, size=2, seed=3)
    kernels = draw_kernels(model, inputs, draws, "traced")
    assert kernels.dtype == torch.float32
    for draw, kernel in zip(draws.tolist(), kernels, strict=True):
        torch.testing.assert_close(kernel, tangent_kernel(model, take(inputs, draw), "traced"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "at_once"), [(2, False), (30, True)])
def test_the_union_is_taken_where_it_is_cheaper(size: int, at_once: bool, monkeypatch: pytest.MonkeyPatch):
    """Also of a network without a rule: 8 draws of 2 out of 40 points share little, draws of 30 nearly all."""
    model = nn.Sequential(nn.GRU(3, 4, batch_first=True), Net(lambda net, states: states[0][:, -1]))
    sides: list[int] = []
    add = engine_block.add_jacobian_kernel

    def watched(block: object, model: nn.Module, parameters: object, inputs: TensorBatch, *rest: object) -> None:
        sides.append(len(inputs))
        add(block, model, parameters, inputs, *rest)

    monkeypatch.setattr(observation, "shares_of", lambda *_: [])
    monkeypatch.setattr(engine_block, "add_jacobian_kernel", watched)
    draw_kernels(model, torch.randn(40, 5, 3), draw_indices(40, draws=8, size=size, seed=0), "summed")
    assert (max(sides) > size) == at_once


def test_many_draws_of_few_points_of_a_large_population():
    """20,000 points in all, of which only 40 count: a kernel of them all would take gigabytes."""
    model, inputs = mlp(3, 4, 1), torch.randn(20_000, 3)
    draws = draw_indices(len(inputs), draws=20, size=2, seed=0)
    kernels = draw_kernels(model, inputs, draws)
    torch.testing.assert_close(kernels[-1], tangent_kernel(model, inputs[draws[-1]]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_few_points_that_draws_share_are_passed_twice(name: str, monkeypatch: pytest.MonkeyPatch):
    """20 draws of 2 points, 20 points at once, of which one stands in two draws: all pass in the order of the draws."""
    recurrent = nn.Sequential(nn.GRU(6, 4, batch_first=True), Net(lambda net, states: states[0][:, -1]))
    model, shape = (mlp(6, 4, 3), (1000, 6)) if name == "mlp" else (recurrent, (1000, 2, 6))
    model, inputs = model.double(), torch.randn(shape, dtype=torch.float64)
    draws = torch.randperm(1000)[:40].view(20, 2)
    draws[8, 0] = draws[3, 1]
    passed: list[torch.Tensor] = []
    look = computation.observe

    def watched(network: nn.Module, batch: TensorBatch, **rest: Any) -> Any:
        passed.append(batch.data)
        return look(network, batch, **rest)

    monkeypatch.setattr(computation, "observe", watched)
    monkeypatch.setattr(computation.Run, "points_at_once", lambda self, free, points: 20)
    kernels, traces = draw_kernels_and_traces(model, inputs, draws)
    assert torch.equal(torch.cat(passed[-2:]), inputs[draws.flatten()])
    monkeypatch.undo()
    for number, draw in enumerate(draws):
        expected = tangent_kernel(model, inputs[draw])
        torch.testing.assert_close(kernels[number], expected, rtol=1e-10, atol=1e-12)
        assert float(sum(found[number] for found in traces.values())) == pytest.approx(
            float(expected.trace()), rel=1e-10
        )


def test_points_outside_a_draw_leave_it_alone():
    model, inputs = mlp(6, 4, 3), torch.randn(4, 6)
    inputs[2] = float("nan")
    kernels = draw_kernels(model, inputs, torch.tensor([[0, 1], [1, 2], [3, 0]]), "traced")
    assert torch.isfinite(kernels).flatten(1).all(1).tolist() == [True, False, True]


def test_outputs_without_a_value_spoil_their_own_rows():
    """The gradients of an output that overflowed can be as finite as ever."""
    model = Net(lambda net, x: net.layer(x) + torch.where(x[:, :1] > 5, torch.inf, 0), layer=nn.Linear(6, 3))
    inputs = torch.zeros(4, 6)
    inputs[2] = 9
    kernels, traces = draw_kernels_and_traces(model, inputs, torch.tensor([[0, 1], [1, 2], [3, 0]]), "traced")
    assert torch.isfinite(traces["layer"]).tolist() == [True, False, True]
    assert torch.isfinite(kernels).tolist() == [[[True, True]] * 2, [[True, False], [False, False]], [[True, True]] * 2]


@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "bare parameter", "gine"])
def test_memory_does_not_change_the_kernels(name: str):
    model, inputs = CASE[name].make(torch.float64)
    draws = torch.randint(count(inputs), (6, 3))

    def kernels(memory_bytes: int | None = None) -> torch.Tensor:
        return draw_kernels(model, inputs, draws, memory_bytes=memory_bytes)

    torch.testing.assert_close(kernels(least_memory(kernels)), kernels(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (torch.tensor([[0, 4]]), "draws hold indices from 0 to 4, expected 0 … 3"),
        (torch.tensor([[0, -1]]), "draws hold indices from -1 to 0, expected 0 … 3"),
        (torch.tensor([0, 1]), r"draws .*shape \[2\], expected integers \[draws, size\]"),
        (torch.zeros(0, 2, dtype=torch.int64), r"draws .*shape \[0, 2\], expected"),
        (torch.zeros(2, 0, dtype=torch.int64), r"draws .*shape \[2, 0\], expected"),
        (torch.ones(2, 4, dtype=torch.bool), "draws are torch.bool.*, expected integers"),
        (np.zeros((2, 2)), "draws are .*float64.*, expected integers"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(draws: object, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        draw_kernels(nn.Linear(6, 3), torch.randn(4, 6), draws)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "outputs", "message"),
    [
        (nn.Linear(6, 3), "trace", "outputs='trace'"),
        (nn.Linear(6, 3).requires_grad_(False), "full", "no trainable parameters"),
        (Net(lambda net, x: net.layer(x) - net.layer(x).mean(0), layer=nn.Linear(6, 3)), "full", "other points"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("unchecked")
def test_refuses_what_has_no_kernel(model: nn.Module, outputs: str, message: str):
    with pytest.raises(ValueError, match=message):
        draw_kernels(model, torch.randn(4, 6), torch.tensor([[0, 1, 2], [1, 2, 3]]), outputs)
