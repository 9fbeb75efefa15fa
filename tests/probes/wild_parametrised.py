"""Layers whose weights are computed: normed, parametrised, adapted, made by other networks, of each point its own."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import frozen, mlp
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from wild_case import Wild

ROWS, TOKENS, IMAGES, SEQUENCES = (4, 6), (4, 3, 6), (3, 2, 5, 5), (3, 2, 6)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class Positive(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return F.softplus(weight)


class Scaled(nn.Module):
    """With a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.log.exp()


class LowRank(nn.Module):
    """An adapter as a parametrisation."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, d_in)), nn.Parameter(torch.zeros(d_out, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        return gradient * (weight.abs() <= 1)


class Lora(nn.Module):
    """A frozen layer with a low-rank path beside it, as peft's; ``merged`` adds the weights up first."""

    def __init__(self, base: nn.Linear, merged: bool = False):
        super().__init__()
        self.base, self.merged = base.requires_grad_(False), merged
        self.a, self.b = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return F.linear(x, self.base.weight + 0.5 * self.b.weight @ self.a.weight, self.base.bias)
        return self.base(x) + 0.5 * self.b(self.a(x))


class Dora(nn.Module):
    """Direction and magnitude apart."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in), requires_grad=False)
        self.a, self.b = nn.Parameter(torch.randn(2, d_in)), nn.Parameter(torch.zeros(d_out, 2))
        self.magnitude = nn.Parameter(torch.ones(d_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        direction = self.weight + self.b @ self.a
        return F.linear(x, self.magnitude * direction / direction.norm(dim=1, keepdim=True).detach())


class Circulant(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.row = nn.Parameter(torch.randn(width) / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(len(self.row), device=x.device)
        return F.linear(x, self.row[(places[:, None] - places) % len(self.row)])


class Standardised1d(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        mean, scale = self.weight.mean((1, 2), keepdim=True), self.weight.std((1, 2), keepdim=True)
        return F.conv1d(x, (self.weight - mean) / (scale + 1e-3), self.bias, self.stride, self.padding)


class Demodulated(nn.Module):
    """StyleGAN2's: weights of each point its own, the points merged with the channels as groups."""

    def __init__(self):
        super().__init__()
        self.weight, self.style = nn.Parameter(torch.randn(1, 3, 2, 3, 3) / 4), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        styles = self.style(x.mean((2, 3)))[:, None, :, None, None] + 1
        weight = self.weight * styles
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 0.1).rsqrt()
        grouped = F.conv2d(x.flatten(0, 1)[None], weight.flatten(0, 1), padding=1, groups=len(x))
        return grouped.unflatten(1, (len(x), 3))[0]


class Conditional(nn.Module):
    """A convolution mixed of experts for each point, the points as groups."""

    def __init__(self):
        super().__init__()
        self.experts, self.router = nn.Parameter(torch.randn(3, 2 * 2 * 3) / 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.router(x.mean(2)).sigmoid() @ self.experts
        return F.conv1d(x.flatten(0, 1)[None], weight.view(-1, 2, 3), groups=len(x)).unflatten(1, (len(x), 2))[0]


def hyper(net: Net, x: Tensor) -> Tensor:
    """A network that makes another's weights from a code that is learned."""
    weights = net.maker(net.code).split([24, 4])
    return net.head(F.linear(x, weights[0].view(4, 6), weights[1]).tanh())


def hyper_of_points(net: Net, x: Tensor) -> Tensor:
    weights = net.maker(x[:, :2]).view(-1, 3, 4)
    return (weights @ x[:, 2:, None])[:, :, 0] + net.layer(x)


def stateless(net: Net, x: Tensor) -> Tensor:
    def of_point(row: Tensor) -> Tensor:
        return functional_call(net.layer, {"weight": net.layer.weight * net.maker(row).exp()}, (row,))

    return net.head(torch.vmap(of_point)(x).tanh())


def ensemble(net: Net, x: Tensor) -> Tensor:
    """One matrix for several members, each with vectors of its own."""
    members = net.layer(x[None] * net.first[:, None]) * net.second[:, None]
    return members.tanh().mean(0)


def cached(net: Net, x: Tensor) -> Tensor:
    with parametrize.cached():
        return net.body(net.body(x).tanh()).mean(1)


def parametrised(layer: nn.Module, *parametrisations: nn.Module, name: str = "weight") -> nn.Module:
    for parametrisation in parametrisations:
        parametrize.register_parametrization(layer, name, parametrisation)
    return layer


def with_head(layer: Callable[[], nn.Module], width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(layer(), nn.Tanh(), nn.Flatten(), nn.Linear(width, 2))


def shared() -> nn.Module:
    """Two layers that share the parameter which their weights are computed from."""
    first, second = (parametrizations.weight_norm(nn.Linear(6, 6)) for _ in range(2))
    second.parametrizations.weight.original1 = first.parametrizations.weight.original1
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, 2))


def one_parametrisation() -> nn.Module:
    """Two layers with one parametrisation, which has a parameter."""
    scaled = Scaled()
    return nn.Sequential(parametrised(nn.Linear(6, 5), scaled), nn.Tanh(), parametrised(nn.Linear(5, 2), scaled))


def one_layer() -> nn.Module:
    layer = parametrised(nn.Linear(6, 6), Symmetric())
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Flatten(), nn.Linear(18, 2))


def pruned() -> nn.Module:
    layer = nn.Conv2d(2, 3, 3)
    prune.ln_structured(layer, "weight", amount=0.4, n=2, dim=0)
    prune.random_unstructured(layer, "bias", amount=0.4)
    return layer


def parts(run: Callable, **made: Callable[[], nn.Module | nn.Parameter]) -> Callable[[], nn.Module]:
    return lambda: Net(run, **{name: make() for name, make in made.items()})


def bare(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(0.5 * torch.randn(shape))


weight_norm, spectral_norm = parametrizations.weight_norm, parametrizations.spectral_norm

# fmt: off
PARAMETRISED = [
    Wild("weight norm of a convolution", with_head(lambda: weight_norm(nn.Conv2d(2, 3, 3)), 27), IMAGES),
    Wild("weight norm of a transposed convolution", with_head(lambda: weight_norm(nn.ConvTranspose1d(2, 3, 3), dim=1),
        24),
        SEQUENCES),
    Wild("weight norm of tokens", with_head(lambda: weight_norm(nn.Linear(6, 4)), 12), TOKENS),
    Wild("weight norm of everything at once", with_head(lambda: weight_norm(nn.Linear(6, 4), dim=None), 4), ROWS),
    Wild("weight norm, two layers of one direction", shared, ROWS),
    Wild("weight norm of the old kind", with_head(lambda: nn.utils.weight_norm(nn.Linear(6, 4)), 4), ROWS),
    Wild("spectral norm of a convolution", with_head(lambda: spectral_norm(nn.Conv2d(2, 3, 3)), 27), IMAGES),
    Wild("spectral norm of a dense layer", with_head(lambda: spectral_norm(nn.Linear(6, 4)), 12), TOKENS),
    Wild("spectral norm of an embedding", with_head(lambda: spectral_norm(nn.Embedding(5, 4)), 12),
        lambda: torch.randint(5, (4, 3))),
    Wild("spectral norm of the old kind", with_head(lambda: nn.utils.spectral_norm(nn.Linear(6, 4)), 4), ROWS),
    Wild("orthogonal weight", with_head(lambda: parametrizations.orthogonal(nn.Linear(6, 6)), 6), ROWS),
    Wild("symmetric weight", with_head(lambda: parametrised(nn.Linear(6, 6), Symmetric()), 6), ROWS),
    Wild("positive weight on tokens", with_head(lambda: parametrised(nn.Linear(6, 4), Positive()), 12), TOKENS),
    Wild("positive bias", with_head(lambda: parametrised(nn.Linear(6, 4), Positive(), name="bias"), 4), ROWS),
    Wild("parametrisation with a parameter", with_head(lambda: parametrised(nn.Conv1d(2, 3, 3), Scaled()), 12),
        SEQUENCES),
    Wild("parametrisation of two layers", one_parametrisation, ROWS),
    Wild("one parametrised layer at two places", one_layer, TOKENS),
    Wild("parametrisations one after another", with_head(lambda: parametrised(nn.Linear(6, 6), Symmetric(), Scaled()),
        6), ROWS),
    Wild("parametrised norm", lambda: nn.Sequential(nn.Linear(6, 4), parametrised(nn.LayerNorm(4), Positive()),
        nn.Tanh(),
        nn.Linear(4, 2)), ROWS),
    Wild("parametrised weight kept during a call", parts(cached, body=lambda: parametrised(nn.Linear(6, 6),
        Symmetric())), TOKENS),
    Wild("parametrised weight, frozen original", with_head(lambda: frozen(parametrised(nn.Linear(6, 4), LowRank(6, 4)),
        "parametrizations.weight.original"), 4), ROWS),
    Wild("parametrised recurrent layer", parts(lambda net, x: net.cell(x[:, 0], net.cell(x[:, 1])),
        cell=lambda: parametrised(nn.RNNCell(6, 3), Scaled(), name="weight_hh")), TOKENS),
    Wild("pruned convolution", with_head(pruned, 27), IMAGES),
    Wild("low-rank adapter beside a layer", lambda: nn.Sequential(Lora(nn.Linear(6, 5)), nn.Tanh(),
        Lora(nn.Linear(5, 2))), ROWS),
    Wild("low-rank adapter merged with a layer",
        lambda: nn.Sequential(Lora(nn.Linear(6, 5), True), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2)), TOKENS),
    Wild("adapter of direction and magnitude", with_head(lambda: Dora(6, 4), 4), ROWS),
    Wild("low-rank weight", parts(lambda net, x: net.head((F.linear(x, net.u @ net.v)).tanh()), u=bare(4, 2),
        v=bare(2, 6),
        head=lambda: nn.Linear(4, 2)), ROWS),
    Wild("kronecker product as weight", parts(lambda net, x: F.linear(x, torch.kron(net.u, net.v)).tanh(), u=bare(2, 3),
        v=bare(2, 2)), TOKENS),
    Wild("circulant weight", with_head(lambda: Circulant(6), 6), ROWS),
    Wild("binary weight", parts(lambda net, x: net.head(F.linear(x, Sign.apply(net.w)).tanh()), w=bare(4, 6),
        head=lambda: nn.Linear(4, 2)), ROWS),
    Wild("weight mixed with its own transpose", parts(lambda net, x: F.linear(x, net.w.weight - net.w.weight.T,
        net.w.bias).tanh(),
        w=lambda: nn.Linear(6, 6)), ROWS),
    Wild("weights averaged over layers", parts(lambda net, x: F.linear(net.a(x).tanh(),
        (net.a.weight + net.b.weight) / 2),
        a=lambda: nn.Linear(6, 6), b=lambda: nn.Linear(6, 6, bias=False)), ROWS),
    Wild("weight standardised", with_head(lambda: Standardised1d(2, 3, 3, padding=1), 18), SEQUENCES),
    Wild("weight of directions", parts(lambda net, x: 3 * F.linear(F.normalize(x, dim=1), F.normalize(net.w, dim=1)),
        w=bare(3, 6)),
        ROWS),
    Wild("demodulated convolution", with_head(Demodulated, 75), IMAGES),
    Wild("convolution mixed of experts", with_head(Conditional, 8), SEQUENCES),
    Wild("weights made by a network", parts(hyper, code=bare(3), maker=lambda: mlp(3, 5, 28),
        head=lambda: nn.Linear(4, 2)), ROWS),
    Wild("weights made of each point", parts(hyper_of_points, maker=lambda: mlp(2, 5, 12),
        layer=lambda: nn.Linear(6, 3)), ROWS),
    Wild("weights changed for each point", parts(stateless, layer=lambda: nn.Linear(6, 4),
        maker=lambda: nn.Linear(6, 1),
        head=lambda: nn.Linear(4, 2)), ROWS),
    Wild("ensemble of one matrix", parts(ensemble, layer=lambda: nn.Linear(6, 3), first=bare(2, 6), second=bare(2, 3)),
        ROWS),
]
# fmt: on
