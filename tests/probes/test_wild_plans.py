"""What is planned for a layer is what happens to it, also where one point looks like any layout of rows."""

import logging
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_brute_force import TREATMENTS, count, take
from kernel_cases import CASE, CASES
from kernel_cases import Case as Tame
from kernel_graphs import Net
from test_wild import CASES as WILD_CASES
from torch import Tensor, nn
from wild_case import Wild

from tangentscope.probes import kernel_plan, tangent_kernel

FALLBACK = "per-sample jacobian"


def words(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(9, shape)


def bert(net: Net, t: Tensor) -> Tensor:
    """Places of [1, T] indices, as BERT, GPT-2, CLIP and T5 embed them, and kinds of sentences beside them."""
    places = torch.arange(t.shape[1])[None]
    return net.head(net.norm(net.words(t) + net.places(places) + net.kinds(torch.zeros_like(places))).tanh().mean(1))


def mixed(net: Net, x: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    q, k, v = (layer(x).unflatten(2, (2, 2)).transpose(1, 2) for layer in (net.q, net.k, net.v))
    return net.out(((q @ k.mT / 2**0.5 + bias).softmax(3) @ v).transpose(1, 2).flatten(2))


def clip(net: Net, t: Tensor) -> Tensor:
    """The text tower: causal, read out where the last word stands."""
    x = net.words(t) + net.places(torch.arange(t.shape[1])[None])
    x = x + mixed(net, net.norm(x), torch.full((t.shape[1],) * 2, -1e9, dtype=x.dtype).triu(1))
    return net.head(x[torch.arange(len(x)), t.argmax(1)])


def t5(net: Net, t: Tensor) -> Tensor:
    """A bias of relative places, embedded once for all points."""
    places = torch.arange(t.shape[1])
    bias = net.bias((places[None] - places[:, None]).abs()).permute(2, 0, 1)[None]
    x = net.words(t)
    return net.head((x + mixed(net, x, bias)).tanh().mean(1))


def swin(net: Net, x: Tensor) -> Tensor:
    """A bare table of relative places."""
    places = torch.arange(x.shape[1])
    index = places[:, None] - places + x.shape[1] - 1
    return net.head(mixed(net, x, net.table[index.flatten()].view(*index.shape, 2).permute(2, 0, 1)).tanh().mean(1))


def swin_v2(net: Net, x: Tensor) -> Tensor:
    """Biases that a small network makes of coordinates."""
    places = torch.arange(x.shape[1], dtype=x.dtype)
    coordinates = (places[:, None] - places).unsqueeze(-1)
    bias = 4 * net.second(net.first(coordinates[None]).relu())[0].permute(2, 0, 1).sigmoid()
    return net.head(mixed(net, x, bias).tanh().mean(1))


def queries(net: Net, x: Tensor) -> Tensor:
    """Objects asked for by embedded queries, the same for every image."""
    asked = net.queries.weight[None].expand(len(x), -1, -1)
    return net.head(((asked @ net.k(x).mT).softmax(2) @ net.v(x)).tanh().mean(1))


def constant_rows(net: Net, x: Tensor) -> Tensor:
    """A layer on a constant of one row, and one on as many rows as there are tokens."""
    codes = torch.eye(x.shape[1], 6, dtype=x.dtype)
    return net.head((x * net.gate(torch.ones_like(x[:1, :1])) + net.codes(codes)).tanh().mean(1))


def patches(net: Net, x: Tensor) -> Tensor:
    """Coordinates passed through a convolution that every image shares."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(4, dtype=x.dtype)] * 2, indexing="ij"))[None]
    return net.head((net.body(x) + net.places(grid)).tanh().mean((2, 3)))


def attention(**more: nn.Module | nn.Parameter) -> dict[str, nn.Module | nn.Parameter]:
    return {name: nn.Linear(4, 4) for name in ("q", "k", "v", "out")} | {"head": nn.Linear(4, 2), **more}


NETWORKS = [
    Wild("words and places", lambda: Net(bert, words=nn.Embedding(9, 4), places=nn.Embedding(5, 4),
        kinds=nn.Embedding(2, 4), norm=nn.LayerNorm(4), head=nn.Linear(4, 2)), words(4, 5)),
    Wild("words and places, as many as points", lambda: Net(bert, words=nn.Embedding(9, 4), places=nn.Embedding(5, 4),
        kinds=nn.Embedding(2, 4), norm=nn.LayerNorm(4), head=nn.Linear(4, 2)), words(5, 5)),
    Wild("tower of words", lambda: Net(clip, **attention(words=nn.Embedding(9, 4), places=nn.Embedding(5, 4),
        norm=nn.LayerNorm(4))), words(4, 5)),
    Wild("bias of relative places, embedded", lambda: Net(t5, **attention(words=nn.Embedding(9, 4),
        bias=nn.Embedding(5, 2))), words(4, 5)),
    Wild("bias of relative places, a table", lambda: Net(swin, **attention(table=nn.Parameter(torch.randn(5, 2)))),
        (4, 3, 4)),
    Wild("bias of relative places, a network", lambda: Net(swin_v2, **attention(first=nn.Linear(1, 5),
        second=nn.Linear(5, 2, bias=False))), (4, 3, 4)),
    Wild("queries", lambda: Net(queries, queries=nn.Embedding(3, 4), k=nn.Linear(4, 4), v=nn.Linear(4, 4),
        head=nn.Linear(4, 2)), (4, 3, 4)),
    Wild("layers on constants", lambda: Net(constant_rows, gate=nn.Linear(6, 6), codes=nn.Linear(6, 6),
        head=nn.Linear(6, 2)), (4, 3, 6)),
    Wild("convolution of coordinates", lambda: Net(patches, body=nn.Conv2d(1, 3, 1), places=nn.Conv2d(2, 3, 1),
        head=nn.Linear(3, 2)), (3, 1, 4, 4)),
    Wild("keys without gradients", lambda: Net(lambda net, x: net.head(F.scaled_dot_product_attention(
        net.q(x), net.k(x), net.v(x)).mean(1)), **attention()), (4, 1, 4)),
    *(CASE[name] for name in ("embedded places, as many as points", "layer on a constant row", "transformer block",
        "layer on as many constant rows as points", "vision transformer", "tokens first", "permuted rows", "lstm")),
]  # fmt: skip

ANOTHER_WAY = {"branching on values", "experts routed", "experts of one tensor routed"}
"""Networks whose way depends on the numbers: few points do not tell which layers the others use, and how."""

EVERYTHING = [
    pytest.param(case, id=case.name, marks=() if case in NETWORKS else (pytest.mark.slow,))
    for case in [*NETWORKS, *(case for case in [*CASES, *WILD_CASES] if case not in NETWORKS)]
    if case.name not in ANOTHER_WAY
]


def planned(case: Tame | Wild, outputs: str, between: bool = False) -> set[str]:
    """Layers that per-sample Jacobians are planned for."""
    model, inputs = case.make(torch.float32)
    others = take(inputs, range(count(inputs) // 2)) if between and count(inputs) > 1 else None
    return {layer.name for layer in kernel_plan(model, inputs, outputs, others=others).layers if layer.path == FALLBACK}


def happened(case: Tame | Wild, outputs: str, caplog: pytest.LogCaptureFixture, between: bool = False) -> set[str]:
    """Layers that are said to go by per-sample Jacobians while the kernel is computed."""
    model, inputs = case.make(torch.float32)
    others = take(inputs, range(count(inputs) // 2)) if between and count(inputs) > 1 else None
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="tangentscope.probes"):
        tangent_kernel(model, inputs, outputs, others=others)
    said = " ".join(message for message in caplog.messages if "vmap" not in message)  # why vmap failed, in words
    found = [name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", said)]
    return {name.rpartition(".")[0] for name in found}


@pytest.mark.parametrize("case", EVERYTHING)
def test_layers_go_as_planned(case: Tame | Wild, caplog: pytest.LogCaptureFixture):
    around = case.around if isinstance(case, Wild) else None
    with around() if around else torch.no_grad():
        for number, outputs in enumerate(TREATMENTS):
            between = number == 2
            assert planned(case, outputs, between) == happened(case, outputs, caplog, between)


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case.name)
def test_the_plan_is_that_of_the_points_and_not_of_one(case: Tame | Wild):
    """The same for all points as for two of them."""
    model, inputs = case.make(torch.float32)
    paths = [
        [(layer.name, layer.kind, layer.uses) for layer in kernel_plan(model, take(inputs, range(n))).layers]
        for n in (2, count(inputs))
    ]
    assert paths[0] == paths[1]
