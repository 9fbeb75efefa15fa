from collections.abc import Callable
from pathlib import Path

import kernel_cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import CASES, Case, brute_force_kernel, mlp
from torch import Tensor, nn

from probes import tangent_kernel
from probes.kernels import jacobian as jacobian_module
from probes.kernels import linear, observe, rules

DATA = Path(__file__).parent / "data"
TREATMENTS = ("full", "traced", "summed")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def relative_error(kernel: Tensor, reference: Tensor) -> float:
    reference = reference.double()
    return float((kernel.double() - reference).abs().max() / reference.abs().max())


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


def state_of(model: nn.Module) -> list[object]:
    return [
        [(name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
         for name, m in model.named_modules()],
        [(name, p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist(), p._version)
         for name, p in model.named_parameters()],
        [(name, b.tolist()) for name, b in model.named_buffers()],
        torch.get_rng_state().tolist(),
    ]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["batch norm, dropout", "frozen weight", "conv, group norm", "other hooks"])
def test_leaves_the_model_as_it_was(name: str, training: bool):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float32)
    model.train(training)
    model[0].train(not training)  # flags differ between modules
    model[-1].weight.grad = torch.ones_like(model[-1].weight)
    before = state_of(model)
    inputs.requires_grad_(True)
    tangent_kernel(model, inputs, "traced")
    assert state_of(model) == before
    assert inputs.grad is None


class FailsInForward(nn.Module):
    def __init__(self, calls: int):
        super().__init__()
        self.layer, self.norm, self.calls = nn.Linear(6, 3), nn.LayerNorm(3), calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        outputs = self.norm(self.layer(x))
        if self.calls < 0:
            raise ArithmeticError("broken network")
        return outputs


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_leaves_the_model_as_it_was_after_an_error(calls: int):
    model, inputs = FailsInForward(calls).train(), torch.randn(4, 6)
    before = state_of(model)
    with pytest.raises(ArithmeticError, match="broken network"):
        tangent_kernel(model, inputs)
    assert state_of(model) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("name", ["mlp tanh", "conv, group norm"])
def test_surrounding_modes_do_not_matter(name: str, mode: Callable):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float32)
    expected = tangent_kernel(model, inputs)
    with mode():
        kernel = tangent_kernel(model, inputs.clone())
    torch.testing.assert_close(kernel, expected, rtol=1e-6, atol=1e-6)


class OverwritesItsInput(nn.Module):
    """A layer and an in-place operation on its inputs, hidden from autograd, after the layer has used them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = 2 * x
        outputs = self.layer(hidden)
        hidden.data.zero_()
        return outputs


def test_inputs_overwritten_after_use_do_not_matter():
    inputs = torch.randn(4, 6, dtype=torch.float64)
    expected = torch.kron(4 * inputs @ inputs.T + 1, torch.eye(3))
    torch.testing.assert_close(tangent_kernel(OverwritesItsInput().double(), inputs), expected)


def test_compiled_networks_run_eagerly():
    """A fused graph would hide which layer used which parameter."""

    def refuse(*args: object) -> None:
        raise AssertionError("compiled")

    model, inputs = CASES[2].make(torch.float32)
    expected = tangent_kernel(model, inputs)
    assert torch.equal(tangent_kernel(torch.compile(model, backend=refuse), inputs), expected)
    model.compile(backend=refuse)
    assert torch.equal(tangent_kernel(model, inputs), expected)


def test_half_precision_networks_get_a_float32_kernel():
    model, inputs = CASES[0].make(torch.bfloat16)
    kernel = tangent_kernel(model, inputs)
    assert kernel.dtype == torch.float32
    assert relative_error(kernel, torch.kron(inputs.float() @ inputs.float().T + 1, torch.eye(3))) < 1e-6


@pytest.mark.parametrize("name", ["mlp tanh", "conv, group norm"])
def test_broken_networks_give_a_kernel_that_shows_it(name: str):
    model, inputs = next(case for case in CASES if case.name == name).make(torch.float32)
    inputs[0, 0] = float("nan")
    assert not torch.isfinite(tangent_kernel(model, inputs)).all()


@pytest.mark.parametrize("outputs", TREATMENTS)
def test_outputs_without_a_value_have_no_kernel(outputs: str):
    """The gradients of a bias that overflowed are as finite as ever; a kernel made of them would hide it."""
    model, inputs = mlp(6, 4, 3), torch.randn(2, 6)
    whole = tangent_kernel(model, inputs, outputs)
    with torch.no_grad():
        model[2].bias[1] = float("inf")
    kernel = tangent_kernel(model, inputs, outputs)
    good = torch.tensor([True, False, True] * 2 if outputs == "full" else [False] * 2)
    assert torch.equal(torch.isfinite(kernel), torch.outer(good, good))
    torch.testing.assert_close(kernel[good][:, good], whole[good][:, good])


class Wrapped(nn.Module):
    def __init__(self, change: Callable[[Tensor], object]):
        super().__init__()
        self.layer, self.change = nn.Linear(6, 3), change

    def forward(self, x: Tensor) -> object:
        return self.change(self.layer(x))


GOOD = torch.zeros(4, 6)


@pytest.mark.parametrize(
    ("model", "inputs", "outputs", "error", "message"),
    [
        (nn.ReLU(), GOOD, "full", ValueError, "ReLU has no trainable parameters.*set requires_grad"),
        (nn.Linear(6, 3).requires_grad_(False), GOOD, "full", ValueError, "no trainable parameters"),
        (nn.Linear(6, 3), GOOD[:0], "full", ValueError, r"no data points \(shape \[0, 6\]\).*at least one"),
        (nn.Linear(6, 3), GOOD, "trace", ValueError, "outputs='trace'.*'full', 'traced', 'summed'"),
        (nn.Linear(6, 3), torch.tensor(1.0), "full", ValueError, "no batch dimension.*unsqueeze"),
        (
            nn.Linear(6, 3),
            GOOD[0],
            "full",
            ValueError,
            r"shape \[3\] for 6 inputs.*expected \[6, ...\].*batch dimension",
        ),
        (Wrapped(lambda f: f.T), GOOD, "full", ValueError, r"shape \[3, 4\] for 4 inputs"),
        (Wrapped(lambda f: f.sum()), GOOD, "full", ValueError, r"shape \[\] for 4 inputs"),
        (Wrapped(lambda f: (f, f)), GOOD, "full", TypeError, "returned a tuple, expected a floating-point tensor"),
        (Wrapped(lambda f: f.argmax(1)), GOOD, "full", TypeError, "returned a torch.int64 tensor"),
        (Wrapped(lambda f: f.detach()), GOOD, "full", ValueError, "do not depend on any trainable parameter.*detach"),
        (
            nn.Linear(6, 3),
            GOOD.to("meta"),
            "full",
            ValueError,
            r"inputs are on meta and Linear on cpu.*inputs.to\('cpu'\)",
        ),
        (nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3).to("meta")), GOOD, "full", ValueError, "lies on cpu, meta"),
        (nn.Linear(6, 3), GOOD.numpy(), "full", TypeError, "inputs are a ndarray, expected a tensor.*as_tensor"),
        (nn.Linear(6, 3, dtype=torch.complex64), GOOD, "full", TypeError, "parameter weight is not real"),
        (Wrapped(lambda f: f - f.mean(0)), torch.randn(4, 6), "full", ValueError, "change with the other points"),
        (Wrapped(lambda f: f.cumsum(0)), torch.randn(4, 6), "full", ValueError, "change with the other points"),
        (Wrapped(lambda f: f + torch.rand_like(f)), GOOD, "full", ValueError, "eval mode deterministic"),
        (
            nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            GOOD,
            "full",
            ValueError,
            "BatchNorm1d '1' has no running statistics.*track_running_stats=True",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(model: nn.Module, inputs: Tensor, outputs: str, error: type[Exception], message: str):
    model.train()
    with pytest.raises(error, match=message) as caught:
        tangent_kernel(model, inputs, outputs)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert model.training


def test_memory_bound_must_be_positive():
    with pytest.raises(ValueError, match="memory_bytes=0 is not positive"):
        tangent_kernel(nn.Linear(6, 3), GOOD, memory_bytes=0)


def test_an_edge_is_needed_for_gradients():
    with torch.no_grad():
        layer = nn.Linear(6, 3)
        outputs, calls = observe.watch(layer, [layer], GOOD)
    with pytest.raises(ValueError, match="outside the autograd graph"):
        observe.gradients_at(outputs, calls[layer])


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
