"""A kernel leaves the model as it was, and the caller's modes leave the kernel as it is."""

from collections.abc import Callable

import pytest
import torch
from kernel_cases import CASES, relative_error
from torch import Tensor, nn

from probes import tangent_kernel


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
