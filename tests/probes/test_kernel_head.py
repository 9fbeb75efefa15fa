"""What ends a network: rows times a matrix, and functions of single entries after it.

Gradients start at the rows, where nothing else is missed by that, and the layer itself needs none.
"""

from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import TREATMENTS, brute_force_kernel, relative_error
from kernel_graphs import Net
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint
from turns import in_turns

from tangentscope.probes import draw_kernels, kernel_plan, tangent_kernel
from tangentscope.probes.kernels.engine import block_side
from tangentscope.probes.kernels.engine.block_side import MERGED_BYTES
from tangentscope.probes.kernels.gradients.autograd_graph import Graph
from tangentscope.probes.kernels.gradients.observation import observe
from tangentscope.probes.kernels.plan import PER_SAMPLE
from tangentscope.probes.kernels.treatment import OutputTreatment
from tangentscope.probes.network.batch import as_batch
from tangentscope.probes.network.layers import Anatomy

D, H, TAGS = 4, 5, 3
SCALES = torch.tensor([0.5, -1.5, 2.0])


def first() -> nn.Linear:
    return nn.Linear(D, H)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def tied() -> nn.Module:
    """The head is the first layer again, with its input between the two."""
    layer = nn.Linear(D, D)
    return nn.Sequential(layer, nn.Tanh(), layer)


def frozen_matrix(model: nn.Sequential) -> nn.Module:
    model[2].get_parameter("weight").requires_grad_(False)
    return model


def tied_transposed() -> nn.Module:
    return Net(lambda net, x: torch.tanh(net.layer(x)) @ net.layer.weight, layer=first())


# Networks whose gradients start at the rows of their heads, and those that have no such head.
STARTED: dict[str, Callable[[], nn.Module]] = {
    "bias": lambda: nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS)),
    "no bias": lambda: nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS, bias=False)),
    "two dense layers": lambda: nn.Sequential(first(), nn.Linear(H, TAGS)),
    "frozen head": lambda: nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS).requires_grad_(False)),
    "tied": tied,
    "bare matrix": lambda: Net(lambda net, x: torch.tanh(net.layer(x)) @ net.matrix, layer=first(),
        matrix=parameter(H, TAGS)),
    "beside a residual": lambda: Net(lambda net, x: net.head(x + torch.tanh(net.layer(x))), layer=nn.Linear(D, D),
        head=nn.Linear(D, TAGS)),
    "entry by entry behind it": lambda: nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS), nn.Sigmoid()),
    "several functions behind it": lambda: Net(lambda net, x: torch.tanh(net.head(net.layer(x).tanh())).mul(SCALES) + 2,
        layer=first(), head=nn.Linear(H, TAGS)),
    "tied, functions behind it": lambda: nn.Sequential(tied(), nn.Sigmoid()),
    "frozen matrix": lambda: frozen_matrix(nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS), nn.Sigmoid())),
    "checkpointed": lambda: Net(lambda net, x: checkpoint(net.body, x, use_reentrant=False),
        body=nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS))),
    # What lies behind these goes by per-sample Jacobians.
    "matrix that is computed": lambda: nn.Sequential(first(), nn.Tanh(), weight_norm(nn.Linear(H, TAGS))),
    "matrix from a layer": lambda: Net(
        lambda net, x: torch.tanh(net.layer(x)) @ net.maker(net.seed), layer=first(), maker=nn.Linear(2, TAGS),
        seed=parameter(H, 2)),
    "bias that is computed": lambda: Net(
        lambda net, x: torch.addmm(net.maker(net.seed), torch.tanh(net.layer(x)), net.matrix), layer=first(),
        maker=nn.Linear(2, TAGS), seed=parameter(1, 2), matrix=parameter(H, TAGS)),
    "tied, transposed": tied_transposed,
}  # fmt: skip
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "one layer": lambda: nn.Linear(D, TAGS),
    "one layer, a function behind it": lambda: nn.Sequential(nn.Linear(D, TAGS), nn.Tanh()),
    "a normalisation behind it": lambda: nn.Sequential(first(), nn.Tanh(), nn.Linear(H, TAGS), nn.LogSoftmax(-1)),
    "its own square behind it": lambda: Net(lambda net, x: (u := net.head(net.layer(x).tanh())) * u, layer=first(),
        head=nn.Linear(H, TAGS)),
    "broadcast behind it": lambda: Net(lambda net, x: net.head(net.layer(x).tanh()) * SCALES, layer=first(),
        head=nn.Linear(H, 1)),
    "a parameter behind it": lambda: Net(lambda net, x: torch.sigmoid(net.head(net.layer(x).tanh()) * net.scale),
        layer=first(), head=nn.Linear(H, TAGS), scale=parameter(TAGS)),
    "reshaped": lambda: Net(lambda net, x: net.head(net.layer(x).tanh()).view(len(x), TAGS, 1), layer=first(),
        head=nn.Linear(H, TAGS)),
    "scaled product": lambda: Net(
        lambda net, x: torch.addmm(net.bias, torch.tanh(net.layer(x)), net.matrix, alpha=2), layer=first(),
        matrix=parameter(H, TAGS), bias=parameter(TAGS)),
}  # fmt: skip


def head_of(model: nn.Module, inputs: Tensor) -> object:
    seen = observe(Anatomy.of(model.eval()), as_batch(inputs))[0]
    return seen.graph.head([edge for share in seen.shares for edge, _ in share.uses])


SWEPT = {"in segments": 0, "in one": MERGED_BYTES}


@pytest.mark.parametrize(
    ("build", "outputs", "swept"), in_turns("heads", STARTED | OTHERS, TREATMENTS, SWEPT, at_once=2)
)
def test_kernels_are_right_with_any_head(
    build: Callable[[], nn.Module], outputs: str, swept: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(block_side, "MERGED_BYTES", SWEPT[swept])
    model, inputs = build().double(), torch.randn(6, D, dtype=torch.float64)
    expected = brute_force_kernel(model, inputs, outputs)
    assert relative_error(tangent_kernel(model, inputs, outputs), expected) < 1e-12
    R = len(expected) // 6
    between = tangent_kernel(model, inputs, outputs, others=inputs[:2])
    assert relative_error(between, expected[:, : 2 * R]) < 1e-12
    draws = torch.tensor([[0, 3, 1], [1, 2, 5], [4, 4, 0]])
    for draw, found in zip(draws, draw_kernels(model, inputs, draws, outputs), strict=True):
        rows = (draw[:, None] * R + torch.arange(R)).flatten()
        assert relative_error(found, expected[rows][:, rows]) < 1e-12


@pytest.mark.parametrize("name", STARTED)
def test_a_dense_head_is_seen(name: str):
    assert head_of(STARTED[name](), torch.randn(6, D)) is not None


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_such_head_is_passed_through(name: str):
    assert head_of(OTHERS[name](), torch.randn(6, D)) is None


def test_nothing_behind_the_matrix_may_be_wanted():
    """By the graph alone, whatever the rules make of such parameters."""
    rows, factor = torch.randn(6, H, requires_grad=True).tanh(), torch.randn(H, TAGS, requires_grad=True)
    matrix = factor.tanh()
    graph = Graph(rows @ matrix)
    behind = {"rows": (rows.grad_fn, 0), "matrix": (matrix.grad_fn, 0)}
    assert graph.head([behind["rows"]]) is not None
    assert graph.head([behind["matrix"]]) is None
    assert graph.head([*behind.values()]) is None


def test_hooks_on_the_rows_are_asked():
    """A hook that halves gradients halves what lies behind it, as it does in a backward pass: nothing is left out."""

    def halved(net: Net, x: Tensor) -> Tensor:
        rows = torch.tanh(net.layer(x))
        rows.register_hook(lambda gradient: gradient / 2)
        return net.head(rows)

    model, inputs = Net(halved, layer=first(), head=nn.Linear(H, TAGS)).double(), torch.randn(6, D, dtype=torch.float64)
    assert {layer.path for layer in kernel_plan(model, inputs).layers} == {PER_SAMPLE}
    assert relative_error(tangent_kernel(model, inputs), brute_force_kernel(model, inputs, "full")) < 1e-12


ENDING = {"bias", "no bias", "bare matrix", "bias that is computed", "two dense layers", "entry by entry behind it",
    "several functions behind it", "beside a residual", "checkpointed", "one layer",
    "one layer, a function behind it"}  # fmt: skip


@pytest.mark.parametrize("name", [*STARTED, *OTHERS])
def test_the_layer_that_gives_the_outputs_needs_no_gradients(name: str):
    paths = [layer.path for layer in kernel_plan((STARTED | OTHERS)[name](), torch.randn(6, D)).layers]
    assert paths.count("outputs") == (name in ENDING)


@pytest.mark.parametrize("outputs", TREATMENTS)
def test_padding_has_no_gradient_at_the_end_either(outputs: OutputTreatment):
    model = nn.Sequential(nn.Embedding(5, TAGS, padding_idx=0), nn.Sigmoid()).double()
    model[0].get_parameter("weight").data.normal_()
    tokens = torch.tensor([1, 0, 3, 1, 0])
    assert [layer.path for layer in kernel_plan(model, tokens).layers] == ["outputs"]
    found, expected = tangent_kernel(model, tokens, outputs), brute_force_kernel(model, tokens, outputs)
    assert relative_error(found, expected) < 1e-12


def test_the_plan_counts_what_is_passed():
    """Forward both layers for each point, at the head one row of its matrix for each, and back through no layer."""
    plan = kernel_plan(nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, TAGS)), torch.randn(6, D))
    assert plan.passes == 6 * (D * H + H * TAGS) + 6 * TAGS * H
    deeper = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, H), nn.Tanh(), nn.Linear(H, TAGS))
    assert kernel_plan(deeper, torch.randn(6, D)).passes == plan.passes + 6 * (D * D + TAGS * D * H)
