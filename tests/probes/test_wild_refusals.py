"""What has no kernel is refused with the true reason, also where gradients are taken or changed inside."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from wild_case import Wild, right_or_refused
from wild_gradients import slope
from wild_hooks import MIXING, NONLINEAR

from tangentscope.probes import draw_kernels, layer_kernels, layer_traces, tangent_kernel

MIXES = "change with the other points"


def mean_energy(net: Net, x: Tensor) -> Tensor:
    """Forces of the mean of the energies: they shrink with the batch."""
    x = x.requires_grad_(True)
    return torch.autograd.grad(net.f(x).mean(), x, create_graph=True)[0]


def coupled(net: Net, x: Tensor) -> Tensor:
    """Forces between points."""
    x = x.requires_grad_(True)
    return slope(net.f(x - x.mean(0)), x)


def penalty(net: Net, x: Tensor) -> Tensor:
    """The norm of the gradient of all points as a feature of each."""
    x = x.requires_grad_(True)
    return torch.cat([net.f(x), slope(net.f(x), x).square().sum().expand(len(x), 1)], 1)


def fast_weights(net: Net, x: Tensor) -> Tensor:
    """A step of descent on all points at once."""
    weight = net.layer.weight
    return F.linear(x, weight - 0.3 * slope(F.linear(x, weight, net.layer.bias).square(), weight), net.layer.bias)


def functional(net: Net, x: Tensor) -> Tensor:
    return torch.func.grad(lambda z: net.f(z).square().mean())(x)


def without_graph(net: Net, x: Tensor) -> Tensor:
    x = x.requires_grad_(True)
    return torch.autograd.grad(net.f(x).sum(), x)[0]


def spectrum(net: Net, x: Tensor) -> Tensor:
    """A transform over the points in place of the columns."""
    return torch.fft.fft(net.layer(x), dim=0).abs()


def grown_batch(net: Net, x: Tensor) -> Tensor:
    """A cache of what was seen before."""
    seen = getattr(net, "seen", x[:0])
    net.seen = torch.cat([seen, x.detach()])
    return net.layer(x) + net.seen.mean(0)


def noisy_gradient(net: Net, x: Tensor) -> Tensor:
    x = x.requires_grad_(True)
    return slope(net.f(x + 0.1 * torch.randn_like(x)), x)


LAYER, ENERGY = (lambda: nn.Linear(3, 3)), (lambda: mlp(3, 6, 1))


@pytest.mark.parametrize(
    ("run", "parts", "message"),
    [
        (mean_energy, {"f": ENERGY}, MIXES),
        (coupled, {"f": ENERGY}, MIXES),
        (penalty, {"f": ENERGY}, MIXES),
        (fast_weights, {"layer": LAYER}, MIXES),
        (functional, {"f": ENERGY}, MIXES),
        (spectrum, {"layer": LAYER}, MIXES),
        (grown_batch, {"layer": LAYER}, f"{MIXES}|from call to call|deterministic"),
        (noisy_gradient, {"f": ENERGY}, "deterministic|from call to call"),
        (without_graph, {"f": ENERGY}, "do not depend on any trainable parameter"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_refused(run: Callable[[Net, Tensor], Tensor], parts: dict[str, Callable[[], nn.Module]], message: str):
    for call in (
        tangent_kernel,
        layer_kernels,
        layer_traces,
        lambda model, inputs: draw_kernels(model, inputs, torch.tensor([[0, 1], [2, 3]])),
    ):
        model = Net(run, **{name: part() for name, part in parts.items()})
        with pytest.raises(ValueError, match=message) as caught:
            call(model, torch.randn(4, 3))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", [*NONLINEAR, *MIXING], ids=lambda case: case.name)
@pytest.mark.parametrize("outputs", ["full", "traced"])
def test_hooks_that_are_no_linear_map_of_each_point(case: Wild, outputs: str):
    """The gradient of one output at one point is well defined, that of sums of them is another: right, or refused."""
    right_or_refused(case, *case.make(torch.float64), outputs, "hook|gradient")
