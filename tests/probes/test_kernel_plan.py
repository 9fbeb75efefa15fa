"""What a kernel will cost, told before it is computed."""

from collections.abc import Callable, Iterable
from itertools import combinations_with_replacement

import pytest
import torch
from kernel_brute_force import jacobian, least_memory, relative_error
from kernel_cases import CASE, CASES, Case
from kernel_networks import mlp
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tangentscope.probes import draw_kernels, kernel_plan, tangent_kernel
from tangentscope.probes.kernels.engine.contractions import ROWS_APART
from tangentscope.probes.kernels.gradients import observation
from tangentscope.probes.kernels.plan import PER_SAMPLE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_are_the_layers_and_add_up(case: Case):
    model, inputs = case.make(torch.float32)
    plan = kernel_plan(model, inputs)
    assert plan.multiply_adds == plan.passes + sum(layer.multiply_adds for layer in plan.layers)
    assert plan.bytes >= max(layer.bytes for layer in plan.layers)
    assert {layer.name for layer in plan.layers} <= {name for name, _ in model.named_modules()}
    lines = str(plan).splitlines()
    for layer in plan.layers:
        assert any(layer.name in line and layer.kind in line and layer.path in line for line in lines), layer


def test_shows_the_shape_of_each_layer():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Flatten(), nn.Linear(24, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False),
    )  # fmt: skip
    rows = {layer.name: layer for layer in kernel_plan(model, torch.randn(3, 2, 4, 4)).layers}
    assert list(rows) == ["0", "2", "4", "6"]
    shapes = {name: (row.kind, row.uses, row.rows, row.inputs, row.outputs) for name, row in rows.items()}
    assert shapes == {
        "0": ("Conv2d", 1, 16, 18, 4),
        "2": ("Conv2d", 1, 4, 36, 6),
        "4": ("Linear", 1, 1, 24, 8),
        "6": ("Linear", 1, 1, 8, 3),
    }
    uses = {layer.name: layer.uses for layer in kernel_plan(*CASE["module used twice"].make(torch.float32)).layers}
    assert uses == {"layer": 2, "head": 1}


def network(*body: nn.Module, shape: tuple[int, ...], outputs: int) -> tuple[nn.Module, Tensor]:
    inputs = torch.randn(shape)
    model = nn.Sequential(*body, nn.Tanh(), nn.Flatten())
    return model.append(nn.Linear(model(inputs).shape[1], outputs)), inputs


FEW_CHANNELS = (lambda: network(nn.Conv2d(1, 2, 3, bias=False), shape=(8, 1, 34, 34), outputs=4), {"jacobian"})
MANY_CHANNELS = (
    lambda: network(nn.Conv2d(192, 192, 1, bias=False), shape=(4, 192, 2, 2), outputs=2),
    {"half", "ghost"},
)
DENSE = (lambda: network(nn.Linear(192, 192), shape=(8, 192), outputs=3), {"dense"})


@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
@pytest.mark.parametrize(("build", "paths"), [FEW_CHANNELS, MANY_CHANNELS, DENSE])
def test_the_cheapest_path_is_taken(build: Callable[[], tuple[nn.Module, Tensor]], paths: set[str], outputs: str):
    layers = {layer.name: layer.path for layer in kernel_plan(*build(), outputs).layers}
    assert layers["0"] in paths
    assert layers["3"] == "outputs"


FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}
"""By operation, where its first factor stands among the arguments."""


class Counting(TorchDispatchMode):
    """Multiply-adds of all matrix products inside, or of those by some operations."""

    def __init__(self, operations: Iterable[str] = FACTORS):
        super().__init__()
        self.multiply_adds, self.operations = 0, {*operations}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        first = FACTORS[name] if name in self.operations else None
        if first is not None:
            self.multiply_adds += args[first].numel() * args[first + 1].shape[-1]
        return func(*args, **(kwargs or {}))


def backward_passes(model: nn.Module, inputs: Tensor) -> None:
    outputs = model(inputs)
    for a in range(outputs.shape[1]):
        torch.autograd.grad(outputs[:, a].sum(), list(model.parameters()), retain_graph=True)


@pytest.mark.parametrize("build", [FEW_CHANNELS[0], MANY_CHANNELS[0], DENSE[0]], ids=["few", "many", "dense"])
def test_what_is_done_is_what_was_planned(build: Callable[[], tuple[nn.Module, Tensor]]):
    """Other paths than the cheapest would take ten times as many products and more on these layers."""
    model, inputs = build()
    with Counting() as done:
        tangent_kernel(model, inputs)
    with Counting() as passes:
        backward_passes(model, inputs)
    assert done.multiply_adds <= 2 * passes.multiply_adds + 2 * kernel_plan(model, inputs).multiply_adds


def test_costs_of_dense_layers_by_hand():
    # N²(d_i + O² d_o), of which symmetry may save a half; of the last layer the inputs alone
    plan = kernel_plan(mlp(40, 50, 3), torch.randn(20, 40))
    expected = [20**2 * (40 + 9 * 50), 20**2 * 50]
    for layer, cost in zip(plan.layers, expected, strict=True):
        assert cost / 2 <= layer.multiply_adds <= cost


def test_two_batches_are_planned_as_such():
    model, inputs = mlp(40, 50, 3), torch.randn(30, 40)
    whole, part = kernel_plan(model, inputs), kernel_plan(model, inputs, others=inputs[:5])
    assert part.multiply_adds < whole.multiply_adds


@pytest.mark.parametrize("name", ["resnet", "tagger", "lstm", "gine"])
def test_plans_keep_to_the_ceiling(name: str):
    model, inputs = CASE[name].make(torch.float32)
    least = least_memory(lambda memory_bytes: kernel_plan(model, inputs, memory_bytes=memory_bytes))
    for memory_bytes in (least, least + 1, 2 * least, 2**30):
        assert kernel_plan(model, inputs, memory_bytes=memory_bytes).bytes <= memory_bytes


def test_many_rows_a_point_go_pair_by_pair_by_half():
    """Half of the functions, the first among them, do not depend on the last of a point's rows."""
    wide = nn.Linear(96, 96, dtype=torch.float64)
    model = nn.Sequential(wide, nn.Flatten(), nn.Linear(3 * 96, ROWS_APART, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model[2].weight.view(-1, 3, 96)[: ROWS_APART // 2, 2] = 0
    inputs = torch.randn(4, 3, 96, generator=generator, dtype=torch.float64)
    assert [layer.path for layer in kernel_plan(model, inputs).layers] == ["half", "outputs"]
    for others in (None, inputs[:2]):
        expected = torch.cat([J.flatten(0, 1) for J in jacobian(model, inputs).values()], 1)
        columns = expected if others is None else expected[: 2 * ROWS_APART]
        assert relative_error(tangent_kernel(model, inputs, others=others), expected @ columns.T) < 1e-10


@pytest.mark.parametrize(
    "layer", [nn.Linear(96, 96, bias=False), nn.Conv1d(96, 96, 1, bias=False)], ids=["rows", "channels"]
)
def test_of_points_of_unequal_size_the_smaller_keeps_its_rows(layer: nn.Module):
    """Of points 0 and 3 nothing passes the activation in the last row, or in the last two."""
    layer = layer.double()
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(3 * 96, ROWS_APART, dtype=torch.float64))
    inputs = torch.randn(4, 3, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dead = torch.linalg.solve(layer.weight.detach().view(96, 96), -torch.ones(96, dtype=torch.float64))
    inputs[0, 2:] = inputs[3, 1:] = dead
    if isinstance(layer, nn.Conv1d):
        inputs = inputs.transpose(1, 2).contiguous()
    assert kernel_plan(model, inputs).layers[0].path == "half"
    expected = torch.cat([J.flatten(0, 1) for J in jacobian(model, inputs).values()], 1)
    expected = expected @ expected.T
    with Counting(["addmm_"]) as done:
        assert relative_error(tangent_kernel(model, inputs), expected) < 1e-10
    smaller = [min(T, S) for T, S in combinations_with_replacement([2, 3, 3, 1], 2)]
    assert done.multiply_adds == ROWS_APART**2 * 96 * sum(smaller)
    between = tangent_kernel(model, inputs[:2], others=inputs[1:])
    assert relative_error(between, expected[: 2 * ROWS_APART, ROWS_APART:]) < 1e-10
    draws = draw_kernels(model, inputs, torch.tensor([[0, 1, 3], [2, 3, 0]]))
    chosen = [
        (torch.tensor(draw)[:, None] * ROWS_APART + torch.arange(ROWS_APART)).flatten()
        for draw in ((0, 1, 3), (2, 3, 0))
    ]
    for found, rows in zip(draws, chosen, strict=True):
        assert relative_error(found, expected[rows][:, rows]) < 1e-10


def test_the_share_of_layers_without_a_rule(monkeypatch: pytest.MonkeyPatch):
    """Their own passes through the network count, which layers with a rule do without."""
    model, inputs = mlp(40, 50, 3), torch.randn(20, 40)
    assert kernel_plan(model, inputs).fallback_share == 0
    own = observation.shares_of
    monkeypatch.setattr(observation, "shares_of", lambda *args: [s for s in own(*args) if s.owner != "0"])
    plan = kernel_plan(model, inputs)
    (without,) = [layer for layer in plan.layers if layer.path == PER_SAMPLE]
    forward = 40 * 50 + 50 * 3
    assert without.multiply_adds == 20 * 21 // 2 * 9 * (40 * 50 + 50) + 20 * forward * (1 + 2 * 3)
    assert plan.fallback_share == pytest.approx(without.multiply_adds / plan.multiply_adds)
    assert 0.2 < plan.fallback_share < 1
