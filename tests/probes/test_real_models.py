"""Kernels of networks that people use, against one gradient at a time; and no layer of them goes without a rule."""

import functools
from typing import get_args

import pytest
import torch
from kernel_brute_force import TOLERANCE, block, contract, relative_error, take
from real_models import MODELS
from torch import Tensor

from tangentscope.probes import draw_kernels, kernel_plan, layer_kernels, tangent_kernel
from tangentscope.probes.kernels.treatment import OutputTreatment

POINTS = 3

EXACT = 1e-9
"""Of the largest entry, in float64."""

FLOAT32_INSIDE = {
    "llama": 1e-7,  # norms and rotary angles
    "t5": 1e-7,  # norms
    "mamba": 1e-7,  # norms and the recurrence
}
"""Networks that compute a part in float32 whatever their parameters are: how far that takes two exact ways apart."""

WITHOUT_A_RULE: dict[str, dict[str, str]] = {}
"""By model, layers that may go by per-sample Jacobians, each with the reason."""

pytestmark = pytest.mark.models

# Tests of one model share its brute force, and so a process.
every_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(f"real model {name}")) for name in MODELS]
)


@functools.cache
def by_layer(name: str) -> dict[str, dict[OutputTreatment, Tensor]]:
    """Kernels in float64 by the definition, one point and one gradient at a time.

    The point is there twice: torch 2.14 takes wrong gradients of some batch norms of a batch of one (XCiT, LeViT).
    """
    model, inputs = MODELS[name].make(POINTS, torch.float64)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    rows: dict[str, list[Tensor]] = {}
    for n in range(POINTS):
        for value in model(take(inputs, [n, n]))[0]:
            gradients = torch.autograd.grad(
                value, list(parameters.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for parameter, gradient in zip(parameters, gradients, strict=True):
                rows.setdefault(parameter, []).append(gradient.flatten())
    layers: dict[str, dict[OutputTreatment, Tensor]] = {}
    for parameter in parameters:
        J = torch.stack(rows.pop(parameter)).unflatten(0, (POINTS, -1))
        layer = layers.setdefault(parameter.rpartition(".")[0], {})
        for outputs in get_args(OutputTreatment):
            layer[outputs] = layer.get(outputs, 0) + contract(J, outputs)
    return layers


def expected(name: str, outputs: OutputTreatment = "full") -> Tensor:
    return torch.stack([kernels[outputs] for kernels in by_layer(name).values()]).sum(0)


def tolerance(name: str) -> float:
    return FLOAT32_INSIDE.get(name, EXACT)


@every_model
@pytest.mark.parametrize("outputs", get_args(OutputTreatment))
def test_agrees_with_brute_force(name: str, outputs: OutputTreatment):
    kernel = tangent_kernel(*MODELS[name].make(POINTS, torch.float64), outputs)
    assert kernel.dtype == torch.float64
    assert torch.equal(kernel, kernel.T)
    assert relative_error(kernel, expected(name, outputs)) <= tolerance(name)


@every_model
def test_agrees_in_float32(name: str):
    kernel = tangent_kernel(*MODELS[name].make(POINTS))
    assert kernel.dtype == torch.float32
    assert relative_error(kernel, expected(name)) <= TOLERANCE[torch.float32]


@every_model
def test_layers_agree_and_add_up(name: str):
    kernels, whole = layer_kernels(*MODELS[name].make(POINTS, torch.float64)), expected(name)
    assert list(kernels) == list(by_layer(name))
    largest = float(whole.abs().max())
    off = {layer: float((kernels[layer] - found["full"]).abs().max()) for layer, found in by_layer(name).items()}
    assert {layer: error for layer, error in off.items() if error > tolerance(name) * largest} == {}
    assert relative_error(torch.stack([*kernels.values()]).sum(0), whole) <= tolerance(name)


@every_model
def test_agrees_between_batches(name: str):
    model, inputs = MODELS[name].make(POINTS, torch.float64)
    rows, columns = [0, 1], [2, 1, 0]
    between = tangent_kernel(model, take(inputs, rows), others=take(inputs, columns))
    whole = expected(name)
    error = (between - block(whole, POINTS, rows, columns)).abs().max() / whole.abs().max()
    assert float(error) <= tolerance(name)


@every_model
def test_draws_agree(name: str):
    model, inputs = MODELS[name].make(POINTS, torch.float64)
    draws = torch.tensor([[0, 2], [1, 1], [2, 1]])
    whole = expected(name)
    for draw, kernel in zip(draws.tolist(), draw_kernels(model, inputs, draws), strict=True):
        error = (kernel - block(whole, POINTS, draw, draw)).abs().max() / whole.abs().max()
        assert float(error) <= tolerance(name), draw


@every_model
def test_every_layer_has_a_rule(name: str):
    plan = kernel_plan(*MODELS[name].make(POINTS))
    without = {layer.name: layer.kind for layer in plan.layers if layer.path == "per-sample jacobian"}
    assert {layer: kind for layer, kind in without.items() if layer not in WITHOUT_A_RULE.get(name, {})} == {}
    assert set(WITHOUT_A_RULE.get(name, {})) <= set(without), "of these, some have a rule now"
