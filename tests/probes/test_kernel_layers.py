"""A kernel falls into the shares of its layers."""

from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import TREATMENTS, count, least_memory
from kernel_cases import CASE, Case
from torch import nn
from turns import in_turns

from tangentscope.probes import draw_kernels, draw_kernels_and_traces, layer_kernels, layer_traces, tangent_kernel

DEPTH = {"layer": lambda owner: owner, "block": lambda owner: owner.partition(".")[0]}


def shares(case: Case, by: str) -> dict[str, list[str]]:
    """The trainable parameters of each layer or block, tied ones under their first owner."""
    found: dict[str, list[str]] = {}
    for name in case.jacobian():
        found.setdefault(DEPTH[by](name.rpartition(".")[0]), []).append(name)
    return found


@pytest.mark.parametrize(("case", "by", "outputs"), in_turns("shares", CASE, DEPTH, TREATMENTS))
def test_shares_agree_with_brute_force_and_add_up(case: Case, by: str, outputs: str):
    model, inputs = case.make(torch.float64)
    whole = case.kernel(outputs)
    found = layer_kernels(model, inputs, outputs, by=by)
    traces = layer_traces(model, inputs, outputs, by=by)
    assert set(found) == set(traces) == set(shares(case, by))
    for layer, names in shares(case, by).items():
        expected = case.kernel(outputs, *names)
        assert ((found[layer] - expected).abs() <= 1e-10 * whole.abs().max()).all(), layer
        assert torch.equal(found[layer], found[layer].T), layer
        assert traces[layer] == pytest.approx(float(expected.trace()), rel=1e-10, abs=1e-10 * float(whole.trace()))
    assert ((sum(found.values()) - whole).abs() <= 1e-10 * whole.abs().max()).all()
    assert sum(traces.values()) == pytest.approx(float(whole.trace()), rel=1e-10)


DRAWS: dict[str, Callable[[int], torch.Tensor]] = {
    "that share points": lambda N: torch.randint(N, (4, 3)),
    "apart": lambda N: torch.arange(N)[:, None],
    "of all points": lambda N: torch.randperm(N)[None],
}


@pytest.mark.parametrize(("case", "outputs", "drawn"), in_turns("traces of draws", CASE, TREATMENTS, DRAWS))
def test_traces_of_draws_come_with_their_kernels(case: Case, outputs: str, drawn: str):
    model, inputs = case.make(torch.float64)
    N, whole = count(inputs), float(case.kernel(outputs).trace())
    draws = DRAWS[drawn](N)
    kernels, traces = draw_kernels_and_traces(model, inputs, draws, outputs)
    torch.testing.assert_close(kernels, draw_kernels(model, inputs, draws, outputs), rtol=1e-10, atol=1e-10)
    assert list(traces) == list(shares(case, "layer"))
    for layer, names in shares(case, "layer").items():
        points = case.kernel(outputs, *names).diagonal().unflatten(0, (N, -1)).sum(1)
        torch.testing.assert_close(traces[layer], points[draws].sum(1), rtol=1e-10, atol=1e-10 * whole)


@pytest.mark.parametrize("name", ["resnet", "tagger", "lstm", "gine"])
def test_memory_does_not_change_the_traces_of_draws(name: str):
    """A share that is put together apart needs room of its own, and each draw is computed in blocks."""
    model, inputs = CASE[name].make(torch.float64)
    draws = torch.stack([torch.randperm(count(inputs)) for _ in range(2)])

    def call(memory_bytes: int | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return draw_kernels_and_traces(model, inputs, draws, by="block", memory_bytes=memory_bytes)

    least = least_memory(call)
    assert least > least_memory(lambda memory_bytes: draw_kernels(model, inputs, draws, memory_bytes=memory_bytes))
    torch.testing.assert_close(call(least), call(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mlp tanh", "2"), ("tied weights", "0"), ("tied weights", "2"), ("language model, tied head", "words"),
        ("resnet", "1.body.3"), ("vision transformer", ""), ("vision transformer", "block.mlp.0"),
        ("lstm", "recurrent"), ("tagger", "words"), ("gine", "conv.nn.0"), ("atoms and bonds embedded", "bond"),
    ],
)  # fmt: skip
def test_a_share_is_the_kernel_with_everything_else_frozen(name: str, layer: str):
    model, inputs = CASE[name].make(torch.float64)
    expected = layer_kernels(model, inputs)[layer]
    for parameter, value in model.named_parameters():
        value.requires_grad_(parameter.rpartition(".")[0] == layer)
    torch.testing.assert_close(tangent_kernel(model, inputs), expected, rtol=1e-10, atol=1e-12)


def test_names_are_those_of_the_modules_that_own_the_parameters():
    model, inputs = CASE["vision transformer"].make(torch.float32)
    owners = ["", "patches", "block", "block.first", "block.attention.qkv", "block.attention.out", "block.second",
              "block.mlp.0", "block.mlp.2", "head"]  # fmt: skip
    assert set(layer_kernels(model, inputs)) == set(layer_traces(model, inputs)) == set(owners)
    assert set(layer_kernels(model, inputs, by="block")) == {"", "patches", "block", "head"}
    assert all(type(value) is float for value in layer_traces(model, inputs).values())


def test_a_model_that_is_one_layer():
    found = layer_kernels(nn.Linear(3, 2), torch.randn(4, 3))
    assert list(found) == [""]


def test_traces_need_no_kernel():
    """Σ ‖J_na‖² of far more rows than a kernel could have: their products alone would take over 100 GB."""
    model, inputs = nn.Linear(2, 10), torch.randn(20_000, 2)
    expected = 10 * float((inputs.double() ** 2).sum() + len(inputs))
    assert layer_traces(model, inputs)[""] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", TREATMENTS)
@pytest.mark.parametrize("name", ["resnet", "tagger", "lstm", "gine"])
def test_memory_does_not_change_the_shares(name: str, outputs: str):
    model, inputs = CASE[name].make(torch.float64)

    def call(memory_bytes: int | None = None) -> dict[str, torch.Tensor]:
        return layer_kernels(model, inputs, outputs, memory_bytes=memory_bytes)

    torch.testing.assert_close(call(least_memory(call)), call(), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_grouping_must_be_known():
    with pytest.raises(ValueError, match=r"by='neuron'.*'layer'.*'block'"):
        layer_kernels(nn.Linear(3, 2), torch.randn(4, 3), by="neuron")
