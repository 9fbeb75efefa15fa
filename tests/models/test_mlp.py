from math import sqrt
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tangentscope.models.base import ACTIVATIONS, Scale
from tangentscope.models.mlp import MLP

INPUT_SHAPE, OUTPUTS = (1, 28, 28), 10
INITS = get_args(MLP.model_fields["init"].annotation)

# name: variance of a weight, given its layer's fan-in and fan-out
VARIANCE = {
    "lecun": lambda fan_in, _: 1 / fan_in,
    "lecun_uniform": lambda fan_in, _: 1 / fan_in,
    "he": lambda fan_in, _: 2 / fan_in,
    "he_uniform": lambda fan_in, _: 2 / fan_in,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "xavier_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "standard": lambda fan_in, _: 1 / (3 * fan_in),
    "ntk": lambda *_: 1.0,
}


def build(seed: int = 0, **fields) -> nn.Sequential:
    torch.manual_seed(seed)
    return MLP(**fields).build(INPUT_SHAPE, OUTPUTS)


def linears(network: nn.Module) -> list[nn.Linear]:
    return [module for module in network.modules() if type(module) is nn.Linear]


@pytest.mark.parametrize(
    ("depth", "sizes"),
    [(1, [(784, 10)]), (2, [(784, 32), (32, 10)]), (4, [(784, 32), (32, 32), (32, 32), (32, 10)])],
)
def test_depth_counts_weight_layers(depth: int, sizes: list[tuple[int, int]]):
    network = build(width=32, depth=depth)
    assert [(layer.in_features, layer.out_features) for layer in linears(network)] == sizes
    assert sum(isinstance(module, nn.ReLU) for module in network) == depth - 1


def test_three_layers_on_mnist_have_the_usual_number_of_parameters():
    w = 128
    with_bias, without_bias = build(width=w), build(width=w, bias=False)
    weights = 784 * w + w * w + w * 10
    assert sum(p.numel() for p in with_bias.parameters()) == weights + 2 * w + 10
    assert sum(p.numel() for p in without_bias.parameters()) == weights


def test_parameters_have_the_same_names_in_both_parameterisations():
    names = [f"linear_{layer}.{kind}" for layer in (1, 2, 3) for kind in ("weight", "bias")]
    assert list(build(width=4).state_dict()) == names
    assert list(build(width=4, init="ntk").state_dict()) == names


def test_every_activation_has_a_module():
    assert set(get_args(MLP.model_fields["activation"].annotation)) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_leave_their_input_alone(activation: str):
    network = build(width=8, activation=activation)
    x = torch.randn(3, *INPUT_SHAPE)
    hidden = network[:2](x)
    before = hidden.clone()
    network[2:](hidden)
    assert torch.equal(hidden, before)


@pytest.mark.parametrize("init", INITS)
def test_weights_have_the_variance_of_their_name(init: str):
    for layer in linears(build(width=1024, init=init)):
        fan_out, fan_in = layer.weight.shape
        expected = VARIANCE[init](fan_in, fan_out)
        # A normal sample's variance strays by √(2/n) of itself; a uniform one's by less.
        assert layer.weight.var().item() == pytest.approx(expected, rel=5 * sqrt(2 / layer.weight.numel()))
        assert abs(layer.weight.mean().item()) < 5 * sqrt(expected / layer.weight.numel())


@pytest.mark.parametrize("init", INITS)
def test_uniform_weights_are_bounded_and_normal_ones_are_not(init: str):
    layer = linears(build(width=1024, init=init))[1]
    deviations = layer.weight.abs().max().item() / layer.weight.std().item()
    if init.endswith("_uniform") or init == "standard":
        assert deviations == pytest.approx(sqrt(3), rel=0.01)
    else:
        assert deviations > 4


@pytest.mark.parametrize("init", INITS)
def test_biases_start_at_zero_except_in_torchs_own_initialisation(init: str):
    biases = [layer.bias for layer in linears(build(width=64, init=init))]
    assert all(bool(bias.any()) == (init == "standard") for bias in biases)


def test_ntk_starts_as_the_function_that_lecun_starts_as():
    x = torch.randn(6, *INPUT_SHAPE)
    lecun, ntk = build(width=64, init="lecun"), build(width=64, init="ntk")  # one seed: the same normals
    torch.testing.assert_close(ntk(x), lecun(x), rtol=1e-4, atol=1e-5)


def test_ntk_computes_what_its_formula_says():
    network = build(width=16, depth=2, activation="tanh", init="ntk")
    first, last = linears(network)
    with torch.no_grad():
        first.bias.normal_()
        last.bias.normal_()
    x = torch.randn(6, *INPUT_SHAPE)
    hidden = torch.tanh(x.flatten(1) @ first.weight.T / sqrt(784) + first.bias)
    torch.testing.assert_close(network(x), hidden @ last.weight.T / sqrt(16) + last.bias, rtol=1e-4, atol=1e-5)


def test_ntk_divides_weight_gradients_by_the_root_of_fan_in_and_leaves_bias_gradients():
    x = torch.randn(6, *INPUT_SHAPE)
    lecun, ntk = build(width=64, init="lecun"), build(width=64, init="ntk")
    lecun(x).square().sum().backward()
    ntk(x).square().sum().backward()
    for plain, scaled in zip(linears(lecun), linears(ntk), strict=True):
        assert plain.weight.grad is not None
        expected = plain.weight.grad / sqrt(plain.in_features)
        torch.testing.assert_close(scaled.weight.grad, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scaled.bias.grad, plain.bias.grad, rtol=1e-3, atol=1e-4)


def test_ntk_scales_the_input_of_plain_linear_layers():
    network = build(width=16, init="ntk")
    kinds = [type(module) for module in network]
    assert kinds == [nn.Flatten, Scale, nn.Linear, nn.ReLU, Scale, nn.Linear, nn.ReLU, Scale, nn.Linear]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({}, "width"),
        ({"width": 0}, "width"),
        ({"width": 8, "depth": 0}, "depth"),
        ({"width": 8, "activation": "rleu"}, "activation"),
        ({"width": 8, "init": "kaiming"}, "init"),
        ({"width": 8, "widht": 8}, "widht"),
    ],
)
def test_an_error_names_the_field(fields: dict, place: str):
    with pytest.raises(ValidationError) as caught:
        MLP(**fields)
    assert [error["loc"] for error in caught.value.errors()] == [(place,)]


def test_scales_multiply_inputs_parameters_and_outputs():
    def built(**scales: float) -> nn.Module:
        torch.manual_seed(0)
        return MLP(width=5, activation="tanh", init="standard", **scales).build((4,), 3)

    plain, x = built(), torch.randn(6, 4)
    torch.testing.assert_close(built(input_scale=0.01)(x), plain(0.01 * x))
    torch.testing.assert_close(built(output_scale=0.1)(x), 0.1 * plain(x))
    for scaled, parameter in zip(built(weight_scale=5).parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(scaled, 5 * parameter)
