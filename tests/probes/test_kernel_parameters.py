"""Kernels of some of the parameters are those of a network whose other ones are frozen."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from kernel_brute_force import TREATMENTS, brute_force_kernel, relative_error
from kernel_cases import CASE
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from turns import in_turns

from tangentscope.probes import (
    draw_kernels,
    draw_kernels_and_traces,
    kernel_plan,
    layer_kernels,
    layer_names,
    layer_traces,
    measure,
    tangent_kernel,
)
from tangentscope.probes.network.checks import trainable_parameters


def network() -> nn.Module:
    """A layer with a rule, one without, tied layers, and a bare parameter."""

    def run(net: Net, x: Tensor) -> Tensor:
        hidden = net.memory(net.first(x).tanh() * net.scale)
        return net.tied(net.second(hidden).tanh())

    model = Net(
        run, first=nn.Linear(3, 4), memory=nn.GRUCell(4, 4), second=nn.Linear(4, 4), tied=nn.Linear(4, 4),
        scale=nn.Parameter(torch.randn(4)),
    ).double()  # fmt: skip
    model.tied.weight = model.second.weight
    return model


WHOLE = ["scale", "first.weight", "first.bias", "memory.weight_ih", "memory.weight_hh", "memory.bias_ih",
         "memory.bias_hh", "second.weight", "second.bias", "tied.bias"]  # fmt: skip
CHOICES: dict[str, tuple[Any, list[str]]] = {
    "a glob": ("first.*", ["first.weight", "first.bias"]),
    "a name": ("scale", ["scale"]),
    "weights": ("*.weight", ["first.weight", "second.weight"]),
    "biases alone": ("*bias*", ["first.bias", "memory.bias_ih", "memory.bias_hh", "second.bias", "tied.bias"]),
    "part of a layer without a rule": ("memory.*_ih", ["memory.weight_ih", "memory.bias_ih"]),
    "several globs": (["tied.*", "scale"], ["scale", "tied.bias"]),
    "a tuple": (("second.weight",), ["second.weight"]),
    "by name": (lambda name, p: name.startswith("m"), [name for name in WHOLE if name.startswith("m")]),
    "by dimensions": (lambda name, p: p.dim() == 1, [name for name in WHOLE if "weight" not in name]),
    "all": ("*", WHOLE),
}


def kernel_of(model: nn.Module, inputs: Tensor, names: list[str], outputs: str) -> Tensor:
    """By brute force, of parameters under these names."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        return brute_force_kernel(model, inputs, outputs)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])


@pytest.mark.parametrize(("name", "outputs"), in_turns("parameters", {name: name for name in CHOICES}, TREATMENTS))
def test_all_kernels_are_of_the_parameters_that_are_chosen(name: str, outputs: str):
    chosen, names = CHOICES[name]
    model, inputs = network(), torch.randn(5, 3).double()
    expected = kernel_of(model, inputs, names, outputs)
    assert list(trainable_parameters(model, chosen)) == names
    assert relative_error(tangent_kernel(model, inputs, outputs, parameters=chosen), expected) < 1e-10
    shares = layer_kernels(model, inputs, outputs, parameters=chosen)
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    assert (list(shares), list(layer_names(model, parameters=chosen))) == (owners, owners)
    for owner, share in shares.items():
        own = [name for name in names if name.rpartition(".")[0] == owner]
        torch.testing.assert_close(share, kernel_of(model, inputs, own, outputs), rtol=1e-10, atol=1e-12)
    traces = layer_traces(model, inputs, outputs, parameters=chosen)
    assert traces == {owner: pytest.approx(float(share.trace()), rel=1e-10) for owner, share in shares.items()}
    draws = torch.tensor([[0, 3, 1, 2, 4]])
    order = draws[0] if outputs != "full" else (4 * draws[0][:, None] + torch.arange(4)).flatten()
    kernels, _ = draw_kernels_and_traces(model, inputs, draws, outputs, parameters=chosen)
    torch.testing.assert_close(kernels[0], expected[order][:, order], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(draw_kernels(model, inputs, draws, outputs, parameters=chosen), kernels)
    plan = kernel_plan(model, inputs, outputs, parameters=chosen)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(layer.parameters for layer in plan.layers) == sum(sizes[name] for name in names)


@pytest.mark.parametrize("name", ["resnet", "vision transformer", "lstm", "gine", "tied weights"])
def test_of_many_networks_each_parameter_alone(name: str):
    """The kernels of single parameters, whatever their layers, add up to that of all."""
    model, inputs = CASE[name].make(torch.float64)
    parts = [tangent_kernel(model, inputs, "traced", parameters=each) for each in CASE[name].jacobian()]
    for each, part in zip(CASE[name].jacobian(), parts, strict=True):
        expected = CASE[name].kernel("traced", each)
        assert ((part - expected).abs() <= 1e-10 * CASE[name].kernel("traced").abs().max()).all()
    assert relative_error(sum(parts), CASE[name].kernel("traced")) < 1e-10


def test_the_flags_of_parameters_stay_and_frozen_ones_do_not_count():
    model, inputs = mlp(3, 4, 2), torch.randn(5, 3)
    model[0].bias.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    first = tangent_kernel(model, inputs, parameters="0.*")
    torch.testing.assert_close(first, tangent_kernel(model, inputs, parameters="0.weight"))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_measurements_are_of_the_parameters_that_are_chosen():
    model, initial, inputs = network(), network(), torch.randn(6, 3).double()
    draws = np.array([[0, 3, 2], [1, 4, 5]])
    wanted = ("trace", "kernel_distance", "layer_traces")
    found = measure(model, inputs, draws, "traced", wanted, initial=initial, parameters=["second.*", "first.bias"])
    names = ["second.weight", "second.bias", "first.bias"]
    for number, draw in enumerate(draws):
        now, then = (kernel_of(each, inputs[draw], names, "traced") for each in (model, initial))
        assert found.values["trace"][number] == pytest.approx(float(now.trace()), rel=1e-9)
        alike = float((now * then).sum() / now.norm() / then.norm())
        assert found.values["kernel_distance"][number] == pytest.approx(1 - alike, rel=1e-6)
        layers = [kernel_of(model, inputs[draw], own, "traced").trace() for own in (["first.bias"], names[:2])]
        np.testing.assert_allclose(found.profiles["layer_traces"][number], layers, rtol=1e-9)


class Prompted(nn.Module):
    """No prompts, and a layer without inputs: parameters that are used and have no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts, self.layer, self.none = nn.Parameter(torch.empty(0, 3)), nn.Linear(3, 4), nn.Linear(0, 4)
        self.none.bias = None

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([self.prompts.expand(len(x), 0, 3), x[:, None]], 1)
        return (self.layer(rows).tanh() + self.none(x.new_empty(len(x), 1, 0))).sum(1)


@pytest.mark.parametrize("outputs", TREATMENTS)
def test_parameters_without_numbers_add_nothing(outputs: str):
    model, inputs = Prompted().double(), torch.randn(5, 3).double()
    expected = kernel_of(model, inputs, ["layer.weight", "layer.bias"], outputs)
    assert relative_error(tangent_kernel(model, inputs, outputs), expected) < 1e-10
    torch.testing.assert_close(layer_kernels(model, inputs, outputs)["layer"], expected)
    assert layer_traces(model, inputs, outputs)["layer"] == pytest.approx(float(expected.trace()))
    draws = torch.tensor([[0, 1], [4, 2]])
    assert draw_kernels(model, inputs, draws, outputs).shape[0] == 2
    kernel_plan(model, inputs, outputs)


FROZEN = mlp(3, 4, 2)
FROZEN[0].requires_grad_(False)
TIED = network()
TRIES: dict[str, tuple[nn.Module, Any, type[Exception], str]] = {
    "no match": (TIED, "secnd.weight", ValueError,
                 "parameters='secnd.weight' matches no trainable parameter, expected names such as second.weight"),
    "nothing near": (TIED, "zzz", ValueError, "'zzz' matches no .* such as scale, first.weight, .*named_parameters"),
    "one of several": (TIED, ["first.*", "frist.*"], ValueError, "parameters='frist.\\*' matches no"),
    "a module": (TIED, "memory", ValueError, "expected names of parameters: pass 'memory.\\*'"),
    "frozen": (FROZEN, "0.weight", ValueError, "expected one with requires_grad, which 0.weight lacks"),
    "the second name of tied ones": (TIED, "tied.weight", ValueError, "pass 'second.weight' for tied.weight"),
    "a function that takes none": (TIED, lambda name, p: False, ValueError, "a function that takes none of Net's"),
    "no globs": (TIED, [], TypeError, r"parameters=\[\], expected a glob"),
    "no names": (TIED, [0], TypeError, r"parameters=\[0\], expected a glob"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIES)
@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(name: str):
    model, chosen, error, message = TRIES[name]
    inputs = torch.randn(4, 3).double()
    refusals: list[Callable[[], object]] = [
        lambda: tangent_kernel(model, inputs, parameters=chosen),
        lambda: kernel_plan(model, inputs, parameters=chosen),
        lambda: layer_names(model, parameters=chosen),
        lambda: measure(model, inputs, np.array([[0, 1]]), parameters=chosen),
    ]
    for refuse in refusals:
        with pytest.raises(error, match=message) as caught:
            refuse()
        assert "\n" not in str(caught.value)
