"""Frozen parameters of half precision say how exact some numbers are, and nothing of the others."""

from collections.abc import Callable

import pytest
import torch
from kernel_brute_force import relative_error
from kernel_graphs import Net
from torch import Tensor, nn

from tangentscope.probes import layer_kernels, tangent_kernel

HALVES = [torch.bfloat16, torch.float16]
MIXES = "change with the other points"

Mixing = Callable[[Tensor, float], Tensor]
MIXINGS: dict[str, Mixing] = {
    "mean": lambda f, much: f + much * f.mean(0),
    "first": lambda f, much: f + much * f[:1],
    "neighbour": lambda f, much: f + much * f.roll(1, 0),
    "sums": lambda f, much: f + much * f.cumsum(0),
    "scale": lambda f, much: f * (1 + much * f.square().mean(0)),
}
LITTLE, MUCH = 0.02, 0.3
"""Of what the other points have: far more than rounding in float32, and more than that of half precision."""


def frozen(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    return module.to(dtype).requires_grad_(False)


class Adapted(nn.Module):
    """A dense layer of half precision with a low-rank path beside it, which learns."""

    def __init__(self, d_in: int, d_out: int, dtype: torch.dtype):
        super().__init__()
        self.base = frozen(nn.Linear(d_in, d_out), dtype)
        self.a, self.b = nn.Linear(d_in, 2, bias=False), nn.Linear(2, d_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x.to(self.base.weight.dtype)).to(x.dtype) + self.b(self.a(x))


def unused(mix: Mixing, dtype: torch.dtype) -> nn.Module:
    return Net(lambda net, x: mix(net.layer(x), LITTLE), base=frozen(nn.Linear(6, 8), dtype), layer=nn.Linear(6, 3))


def first_layer(mix: Mixing, dtype: torch.dtype) -> nn.Module:
    return Net(
        lambda net, x: mix(net.layer(net.base(x.to(dtype)).float().tanh()), MUCH),
        base=frozen(nn.Linear(6, 8), dtype),
        layer=nn.Linear(8, 3),
    )


def shift(mix: Mixing, dtype: torch.dtype) -> nn.Module:
    """A bare parameter of half precision added to exact numbers."""
    return Net(
        lambda net, x: mix(net.layer(x) + net.shift.float(), LITTLE),
        shift=nn.Parameter(torch.randn(3, dtype=dtype), requires_grad=False),
        layer=nn.Linear(6, 3),
    )


def norm(mix: Mixing, dtype: torch.dtype) -> nn.Module:
    """A frozen norm whose scale is cast where it is used."""
    return Net(
        lambda net, x: mix(net.layer(x * net.norm.weight.float() + net.norm.bias.float()), LITTLE),
        norm=frozen(nn.LayerNorm(6), dtype),
        layer=nn.Linear(6, 3),
    )


def head(mix: Mixing, dtype: torch.dtype) -> nn.Module:
    """Exact points mixed before a head of half precision has its say."""
    return Net(
        lambda net, x: torch.cat([mix(net.layer(x), MUCH), net.base(net.layer(x).to(dtype)).float()], 1),
        base=frozen(nn.Linear(3, 2), dtype),
        layer=nn.Linear(6, 3),
    )


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("build", [unused, shift, norm, first_layer, head])
def test_points_that_mix_are_refused(build: Callable[..., nn.Module], mixing: str, dtype: torch.dtype):
    with pytest.raises(ValueError, match=MIXES):
        tangent_kernel(build(MIXINGS[mixing], dtype), torch.randn(4, 6))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("mixing", ["mean", "first", "neighbour"])
def test_adapters_do_not_hide_it(mixing: str, dtype: torch.dtype):
    mix = MIXINGS[mixing]
    model = nn.Sequential(Adapted(6, 5, dtype), nn.Tanh(), Adapted(5, 3, dtype))
    with pytest.raises(ValueError, match=MIXES):
        tangent_kernel(Net(lambda net, x: mix(net.body(x), MUCH), body=model), torch.randn(4, 6))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("outputs", ["full", "traced", "summed"])
def test_adapters_have_their_kernel(outputs: str, depth: int, dtype: torch.dtype):
    """Rounding of the frozen path alone differs between one point and many."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [Adapted(6, 6, dtype), nn.Tanh()]
    model, inputs = nn.Sequential(*layers, nn.Linear(6, 3)), torch.randn(5, 6)
    kernel = tangent_kernel(model, inputs, outputs)
    assert kernel.dtype == torch.float32
    exact = tangent_kernel(model.double(), inputs.double(), outputs)
    rounding = torch.finfo(dtype).eps
    assert relative_error(kernel, exact) <= 8 * depth * rounding


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_rows_of_adapters_on_tokens_are_found(dtype: torch.dtype, tokens: int):
    """Wide layers in half precision round by which rows stand together; nothing may be taken for mixing."""
    model = Net(lambda net, x: net.head(net.body(x).mean(1)), body=Adapted(64, 64, dtype), head=nn.Linear(64, 2))
    inputs = torch.randn(6, tokens, 64)
    shares = layer_kernels(model, inputs, "traced")
    assert set(shares) == {"body.a", "body.b", "head"}
    exact = tangent_kernel(model.double(), inputs.double(), "traced")
    assert relative_error(sum(shares.values()), exact) <= 0.05


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_an_exact_network_beside_one_of_half_precision_stays_exact(dtype: torch.dtype):
    """Rows that are permuted are found as exactly as without it."""
    model = Net(
        lambda net, x: net.head(net.layer(x.flip(0)).flip(0).tanh()), base=frozen(nn.Linear(6, 8), dtype),
        layer=nn.Linear(6, 5), head=nn.Linear(5, 2),
    )  # fmt: skip
    inputs = torch.randn(4, 6)
    kernel = tangent_kernel(model, inputs)
    model.base = None
    assert relative_error(kernel, tangent_kernel(model.double(), inputs.double())) <= 1e-5


def test_frozen_layers_of_half_precision_between_layers_that_learn():
    model = Net(
        lambda net, x: net.head(net.base(net.layer(x).tanh().bfloat16()).float()),
        layer=nn.Linear(6, 5), base=frozen(nn.Linear(5, 4), torch.bfloat16), head=nn.Linear(4, 2),
    )  # fmt: skip
    inputs = torch.randn(4, 6)
    kernel = tangent_kernel(model, inputs)
    model.run = lambda net, x: net.head(net.base(net.layer(x).tanh()))
    assert relative_error(kernel, tangent_kernel(model.double(), inputs.double())) <= 0.05
