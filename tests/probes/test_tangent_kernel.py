from collections.abc import Callable
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import CASES, TREATMENTS, Case, brute_force_kernel, mlp, relative_error
from torch import Tensor, nn

from probes import tangent_kernel
from probes.kernels import jacobian as jacobian_module
from probes.kernels import linear, rules

DATA = Path(__file__).parent / "data"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_brute_force(case: Case, outputs: str, dtype: torch.dtype):
    model, inputs = case.make(dtype)
    exact_model, exact_inputs = case.make(torch.float64)
    if dtype == torch.float32:
        # The same numbers on both sides: the error measured is the kernel's, not that of rounding the parameters.
        exact_model = exact_model.float().double()
        exact_inputs = inputs.double() if inputs.is_floating_point() else inputs
    kernel = tangent_kernel(model, inputs, outputs)
    assert kernel.dtype == dtype
    assert not kernel.requires_grad
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel, brute_force_kernel(exact_model, exact_inputs, outputs)) <= TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("file", "build"),
    [
        ("mlp_tanh.npz", lambda: mlp(12, 16, 16, 4)),
        (
            "cnn_relu.npz",
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
            ),
        ),
    ],
)
def test_agrees_with_neural_tangents(file: str, build: Callable[[], nn.Module]):
    with np.load(DATA / file) as stored:
        arrays = {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype == np.float64}
    model = build().double()
    model.load_state_dict({key.removeprefix("param:"): value for key, value in arrays.items() if "param:" in key})
    inputs, theirs = arrays["inputs"], arrays["kernel_nmab"]  # [N, N, O, O]
    torch.testing.assert_close(model(inputs), arrays["outputs"], rtol=1e-10, atol=1e-12)
    side = len(inputs) * theirs.shape[-1]
    assert relative_error(tangent_kernel(model, inputs), theirs.permute(0, 2, 1, 3).reshape(side, side)) < 1e-10
    assert relative_error(tangent_kernel(model, inputs, "traced"), arrays["kernel_traced"]) < 1e-10


def test_linear_network_is_gram_matrix_times_identity():
    model, X = nn.Linear(5, 3, bias=False).double(), torch.randn(4, 5, dtype=torch.float64)
    expected = torch.kron(X @ X.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(tangent_kernel(model, X), expected)


def test_two_layer_network_by_hand():
    # f = vᵀ tanh(W x): Θ[i,j] = Σ_k h_ik h_jk + (x_i·x_j) Σ_k v_k² h'_ik h'_jk
    X = torch.randn(4, 5, dtype=torch.float64)
    model = mlp(5, 7, 1, bias=False).double()
    W, v = model[0].weight.detach(), model[2].weight.detach()[0]
    h = torch.tanh(X @ W.T)
    slope = (1 - h**2) * v
    torch.testing.assert_close(tangent_kernel(model, X), h @ h.T + (X @ X.T) * (slope @ slope.T))


def test_quadratic_form_is_squared_gradient_of_a_plain_backward():
    # ‖Jᵀr‖² = rᵀΘr, with Jᵀr from .backward()
    model, inputs = CASES[2].make(torch.float64)
    r = torch.randn(17, 3, dtype=torch.float64)
    kernel = tangent_kernel(model, inputs)
    (model(inputs) * r).sum().backward()
    squared = sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
    assert squared == pytest.approx(float(r.flatten() @ kernel @ r.flatten()), rel=1e-10)


def test_spectrum_is_that_of_the_dual():
    # 17·3 rows, fewer parameters: JJᵀ and JᵀJ share their non-zero spectrum.
    model = mlp(3, 4, 3).double()
    inputs = torch.randn(17, 3, dtype=torch.float64)
    rows = []
    for i in range(17):
        for a in range(3):
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(model(inputs[i])[a], model.parameters())]))
    J = torch.stack(rows)
    ours = torch.linalg.eigvalsh(tangent_kernel(model, inputs)).flip(0)
    dual = torch.linalg.eigvalsh(J.T @ J).flip(0)
    assert J.shape[1] == 31
    torch.testing.assert_close(ours[:31], dual, atol=1e-10 * float(dual[0]), rtol=0)
    assert ours[31:].abs().max() < 1e-12 * ours[0]


def by_rule(model: nn.Module, inputs: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The layers of ``model`` whose kernel came from the rule."""
    seen: list[nn.Module] = []

    def add_kernel(kernel: Tensor, module: nn.Module, inputs: Tensor, gradients: Tensor) -> None:
        seen.append(module)
        linear.add_kernel(kernel, module, inputs, gradients)

    monkeypatch.setitem(rules.RULES, nn.Linear, rules.Rule(linear.applies, add_kernel))
    tangent_kernel(model, inputs)
    return seen


def test_dense_layers_go_by_the_rule(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jacobian_module, "jacrev", None)  # the fallback would fail
    model = mlp(6, 5, 4, 3, activation=lambda: nn.ReLU(inplace=True))
    assert by_rule(model, torch.randn(4, 6), monkeypatch) == [model[0], model[2], model[4]]


@pytest.mark.parametrize(
    ("network", "shape", "ruled"),
    [
        (kernel_cases.TiedWeights, (5, 6), ["head"]),
        (kernel_cases.UsedTwice, (5, 6), ["head"]),
        (kernel_cases.FunctionalReuse, (5, 6), []),
        (kernel_cases.PermutedRows, (5, 6), ["head"]),
    ],
)
def test_layers_used_in_other_ways_do_not(
    network: Callable[[], nn.Module], shape: tuple[int, ...], ruled: list[str], monkeypatch: pytest.MonkeyPatch
):
    model = network()
    assert by_rule(model, torch.randn(shape), monkeypatch) == [model.get_submodule(name) for name in ruled]


@pytest.mark.parametrize("memory_bytes", [1, 2_000, 7_000, 40_000, 2**29])
@pytest.mark.parametrize("outputs", TREATMENTS)
def test_memory_bound_does_not_change_the_kernel(outputs: str, memory_bytes: int):
    case = next(case for case in CASES if case.name == "conv, group norm")
    model, inputs = case.make(torch.float64)
    kernel = tangent_kernel(model, inputs, outputs, memory_bytes=memory_bytes)
    assert relative_error(kernel, brute_force_kernel(model, inputs, outputs)) < 1e-12


def test_memory_bound_holds_for_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    held: list[int] = []
    add_product = jacobian_module._add_product

    def record(kernel: Tensor, left: dict[str, Tensor], right: dict[str, Tensor], *args: object, **kwargs: bool):
        sides = [left] if left is right else [left, right]
        held.append(sum(value.nbytes for side in sides for value in side.values()))
        add_product(kernel, left, right, *args, **kwargs)

    monkeypatch.setattr(jacobian_module, "_add_product", record)
    model, inputs = (
        nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)),
        torch.randn(6, 2, 4, 4),
    )
    row = 4 * (8 * 2 * 9 + 8)
    whole = 6 * 4 * row
    tangent_kernel(model, inputs, memory_bytes=whole)
    assert len(held) > 2
    assert row <= max(held) <= whole // 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [("kept references", "does not add up to the ordinary gradient"), ("branching on values", "vmap")],
)
def test_loops_over_samples_where_vmap_cannot(name: str, reason: str, caplog: pytest.LogCaptureFixture):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float64)
    with caplog.at_level("INFO", logger="probes"):
        tangent_kernel(model, inputs)
    assert f"per-sample Jacobians of {type(model).__name__} by a loop" in caplog.text
    assert reason in caplog.text.split("vmap failed:")[1]


@pytest.mark.parametrize("name", ["conv, group norm", "attention", "batch norm, dropout", "embedding", "tied weights"])
def test_vmap_serves_ordinary_networks(name: str, caplog: pytest.LogCaptureFixture):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float32)
    with caplog.at_level("INFO", logger="probes"):
        tangent_kernel(model, inputs)
    assert caplog.text == ""


networks = st.tuples(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.integers(1, 9),
    st.sampled_from(TREATMENTS),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=40, deadline=None)
@given(networks)
def test_properties_of_any_dense_network(drawn: tuple[list[int], int, str, bool, int]):
    widths, points, outputs, bias, seed = drawn
    torch.manual_seed(seed)
    model = mlp(*widths, bias=bias).double()
    inputs = torch.randn(points, widths[0], dtype=torch.float64)
    kernel = tangent_kernel(model, inputs, outputs)
    rows = widths[-1] if outputs == "full" else 1
    assert kernel.shape == (points * rows, points * rows)

    # Symmetric, positive semi-definite, right.
    assert torch.equal(kernel, kernel.T)
    assert torch.linalg.eigvalsh(kernel).min() >= -1e-12 * kernel.trace()
    torch.testing.assert_close(kernel, brute_force_kernel(model, inputs, outputs), rtol=1e-10, atol=1e-10)

    # Permuting the points permutes the kernel.
    order = torch.randperm(points)
    blocks = kernel.view(points, rows, points, rows)
    permuted = tangent_kernel(model, inputs[order], outputs).view(points, rows, points, rows)
    torch.testing.assert_close(permuted, blocks[order][:, :, order])

    # Scaling the outputs scales the kernel by the square.
    scaled = nn.Sequential(model, Times(3.0))
    torch.testing.assert_close(tangent_kernel(scaled, inputs, outputs), 9 * kernel)


class Times(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x
