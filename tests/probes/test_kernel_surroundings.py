"""A kernel leaves the model as it was, and the caller's modes leave the kernel as it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kernel_brute_force import brute_force_kernel, cast, relative_error
from kernel_cases import CASE
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn

from tangentscope.probes import draw_kernels, kernel_plan, layer_kernels, layer_traces, tangent_kernel

CALLS: dict[str, Callable] = {
    "tangent_kernel": lambda model, inputs: tangent_kernel(model, inputs, "traced"),
    "tangent_kernel, others": lambda model, inputs: tangent_kernel(model, inputs, others=inputs),
    "layer_kernels": layer_kernels,
    "layer_traces": layer_traces,
    "kernel_plan": kernel_plan,
    "draw_kernels": lambda model, inputs: draw_kernels(model, inputs, torch.tensor([[0, 1], [1, 0]])),
}


def state_of(model: nn.Module) -> list[object]:
    return [
        [(name, m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks),
          "forward" in vars(m)) for name, m in model.named_modules()],
        [(name, p.requires_grad, None if p.grad is None else p.grad.tolist(), p.tolist(), p._version, id(p))
         for name, p in model.named_parameters()],
        [(name, b.tolist()) for name, b in model.named_buffers()],
        torch.get_rng_state().tolist(),
    ]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "name",
    ["dropout and batch norm", "frozen weight", "resnet", "other hooks", "lstm", "tied weights", "spectral norm"],
)
def test_leaves_the_model_as_it_was(name: str, call: str, training: bool):
    model, inputs = CASE[name].make(torch.float32)
    model.train(training)
    next(model.children()).train(not training)  # flags differ between modules
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    before = state_of(model)
    inputs.requires_grad_(True)
    CALLS[call](model, inputs)
    assert state_of(model) == before
    assert inputs.grad is None


@pytest.mark.parametrize("call", CALLS)
def test_leaves_graphs_as_they_were(call: str):
    model, inputs = CASE["gine"].make(torch.float32)
    before, model_before = inputs.clone(), state_of(model)
    CALLS[call](model, inputs)
    assert state_of(model) == model_before
    assert inputs.keys() == before.keys()
    assert all(torch.equal(inputs[key], before[key]) for key in before.keys() if isinstance(before[key], Tensor))  # noqa: SIM118


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_leaves_the_model_as_it_was_after_an_error(call: str, calls: int):
    left = [calls]

    def fail(net: Net, x: Tensor) -> Tensor:
        left[0] -= 1
        outputs = net.norm(net.layer(x)) * net.scale
        if left[0] < 0:
            raise ArithmeticError("broken network")
        return outputs

    model = Net(fail, layer=nn.Linear(6, 3), norm=nn.LayerNorm(3), scale=nn.Parameter(torch.ones(3))).train()
    inputs, before = torch.randn(4, 6), state_of(model)
    try:
        CALLS[call](model, inputs)
    except ArithmeticError:
        assert state_of(model) == before
    else:
        assert calls > 0
        assert left[0] >= 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("name", ["mlp tanh", "resnet", "tagger", "lstm", "gine"])
def test_surrounding_modes_do_not_matter(name: str, mode: Callable):
    model, inputs = CASE[name].make(torch.float32)
    expected = tangent_kernel(model, inputs)
    with mode():
        kernel = tangent_kernel(model, inputs.clone())
    torch.testing.assert_close(kernel, expected, rtol=1e-6, atol=1e-6)


def test_a_layer_without_gradient_mode_of_its_own():
    """Attention layers take another, fused way where no gradients are wanted, which hides what they used."""
    case = CASE["transformer encoder layer"]
    expected = case.kernel("full")
    with torch.no_grad():
        assert relative_error(tangent_kernel(*case.make(torch.float32)), expected) < 1e-5


def test_inputs_overwritten_after_use_are_no_silent_mistake():
    """In place, behind autograd's back: the gradient is lost for training too, and says so."""

    def run(net: Net, x: Tensor) -> Tensor:
        doubled = 2 * x
        outputs = net.layer(doubled)
        with torch.no_grad():
            doubled.zero_()
        return outputs

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        tangent_kernel(Net(run, layer=nn.Linear(6, 3)), torch.randn(4, 6))


class FirstOnly(torch.autograd.Function):
    """Takes two tensors and has a gradient for the first."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        return first + second.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def test_uses_without_a_gradient_add_nothing(monkeypatch: pytest.MonkeyPatch):
    """What the backward pass never fills is zero, and not what the memory held before."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)  # with NaN
    torch.use_deterministic_algorithms(True)
    try:
        model = Net(lambda net, x: FirstOnly.apply(net.layer(x), net.layer(x.tanh())), layer=nn.Linear(6, 3))
        inputs = torch.randn(4, 6)
        kernel = tangent_kernel(model, inputs)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(kernel, torch.kron(inputs @ inputs.T + 1, torch.eye(3)))


def test_autocast_inside_a_network_hides_no_use_of_a_weight():
    """It casts a weight once for all its uses, of which the graph then shows one."""

    def run(net: Net, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.linear(net.layer(x).float().tanh(), net.layer.weight).float()

    model, inputs = Net(run, layer=nn.Linear(6, 6)), torch.randn(4, 6)
    uses = {layer.name: layer.uses for layer in kernel_plan(model, inputs).layers if layer.parameters > 6}
    assert uses == {"layer": 2}


class Doubled(torch.autograd.Function):
    """Keeps what it got under a name that leaves of the graph have too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.variable = x
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


def test_functions_of_the_user_are_no_leaves():
    model, inputs = Net(lambda net, x: Doubled.apply(net.layer(x)), layer=nn.Linear(6, 3)), torch.randn(4, 6)
    torch.testing.assert_close(tangent_kernel(model, inputs), 4 * torch.kron(inputs @ inputs.T + 1, torch.eye(3)))


def test_hooks_on_all_modules_count():
    """They come before the engine's own, and may replace what a layer returns."""
    model, inputs = mlp(6, 5, 3), torch.randn(4, 6)
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, args, outputs: 2 * outputs if isinstance(module, nn.Linear) else None
    )
    try:
        kernel = tangent_kernel(model, inputs)
        expected = brute_force_kernel(model, inputs, "full")
    finally:
        hook.remove()
    assert relative_error(kernel, expected) < 1e-5


def test_full_precision_whatever_the_flags():
    flags = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)
    before = [flag.fp32_precision for flag in flags]
    seen: list[str] = []
    model = Net(lambda net, x: (seen.extend(f.fp32_precision for f in flags), net.layer(x))[1], layer=nn.Linear(6, 3))
    try:
        for flag in flags:
            flag.fp32_precision = "tf32"
        tangent_kernel(model, torch.randn(4, 6))
        after = [flag.fp32_precision for flag in flags]
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.fp32_precision = value
    assert set(seen) == {"ieee"}
    assert after == ["tf32"] * 3


def test_compiled_networks_run_eagerly():
    """A fused graph would hide which layer used which parameter."""

    def refuse(*args: object) -> None:
        raise AssertionError("compiled")

    model, inputs = CASE["mlp tanh"].make(torch.float32)
    expected = tangent_kernel(model, inputs)
    assert torch.equal(tangent_kernel(torch.compile(model, backend=refuse), inputs), expected)
    model.compile(backend=refuse)
    assert torch.equal(tangent_kernel(model, inputs), expected)


@pytest.mark.parametrize("name", ["linear", "conv2d", "layer norm on tokens", "bare parameter", "gin"])
def test_half_precision_networks_get_a_float32_kernel(name: str):
    model, inputs = CASE[name].make(torch.float32)
    model.bfloat16()
    kernel = tangent_kernel(model, cast(inputs, torch.bfloat16))
    assert kernel.dtype == torch.float32
    assert relative_error(kernel, CASE[name].kernel("full")) < 0.05


def test_half_precision_is_summed_in_float32():
    model, inputs = CASE["linear"].make(torch.bfloat16)
    expected = torch.kron(inputs.float() @ inputs.float().T + 1, torch.eye(3))
    assert relative_error(tangent_kernel(model, inputs), expected) < 1e-6
