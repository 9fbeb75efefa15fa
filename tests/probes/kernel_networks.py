"""Small networks that use layers in every way, for the table of ``kernel_cases``."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from kernel_graphs import Net
from torch import Tensor, nn

# Building blocks


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.Tanh, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1])


def read_out(body: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    """A network of ``body`` and a dense layer on all that it puts out, so that every position counts differently."""

    def build() -> nn.Module:
        model = nn.Sequential(body(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
        model.eval()(torch.zeros(shape))
        return model.train()

    return build


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def zeroed(norm: nn.Module) -> nn.Module:
    """As the last norm of a residual branch often starts."""
    nn.init.zeros_(norm.weight)
    return norm


def tied(model: nn.Module, name: str, source: str) -> nn.Module:
    """The parameter ``name`` becomes the one called ``source``."""
    owner, _, own = name.rpartition(".")
    setattr(model.get_submodule(owner), own, model.get_parameter(source))
    return model


def hidden(run: Callable[[Net, Tensor], Tensor], d_in: int = 6, d_out: int = 6) -> Callable[[], nn.Module]:
    """A network of one dense layer, used as ``run`` says, and a head on the 6 hidden values that ``run`` returns."""
    return lambda: Net(lambda net, x: net.head(run(net, x).tanh()), layer=nn.Linear(d_in, d_out), head=nn.Linear(6, 2))


# Networks that use layers in unusual ways


class KeepsReferences(nn.Module):
    """Uses its weight through a list, which torch.func does not replace: vmap gives a zero Jacobian for it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.kept = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.kept[0].T)


class Cube(torch.autograd.Function):
    """An operation of which torch.func knows no batching rule."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


def branching() -> nn.Module:
    """Control flow on values: vmap refuses."""
    return Net(
        lambda net, x: torch.cat([net.positive(row) if row.sum() > 0 else net.negative(row) for row in x.split(1)]),
        positive=nn.Linear(6, 2),
        negative=nn.Linear(6, 2),
    )


def sorted_rows(net: Net, x: Tensor) -> Tensor:
    order = x.sum(1).argsort()
    return net.layer(x[order])[order.argsort()]


def overwritten(net: Net, x: Tensor) -> Tensor:
    rows = net.layer(x)
    rows[:, :2] = x[:, :2]
    return rows.mul_(2)


def partly_without_gradient(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        shift = net.layer(x)
    return net.layer((x + shift).tanh())


def unused_layers() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        net.ignored(x)
        return net.used(x) + 0 * net.silenced(x)

    return Net(run, used=nn.Linear(6, 2), ignored=nn.Linear(6, 2), silenced=nn.Linear(6, 2), never=nn.Linear(6, 2))


def weight_norm_net() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 2))


def spectral_norm_net() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv1d(2, 3, 2)), nn.Flatten(), nn.Linear(9, 2))


def pruned_net() -> nn.Module:
    """A plain Linear whose weight is computed from another parameter before every call."""
    model = mlp(6, 5, 2)
    torch.nn.utils.prune.random_unstructured(model[0], "weight", amount=0.3)
    return model


def instance_forward_net() -> nn.Module:
    """A layer whose forward was replaced on the instance, as adapters do."""
    model = mlp(6, 5, 2)
    layer = model[0]
    layer.forward = lambda x: 2 * F.linear(x, layer.weight, layer.bias)  # type: ignore[method-assign]
    return model


def user_hook_net() -> nn.Module:
    model = mlp(6, 5, 2)
    model[0].register_forward_hook(lambda module, args, outputs: 2 * outputs)
    model[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return model


def shared_convolution() -> nn.Module:
    return Net(lambda net, x: net.conv(net.conv(x).tanh()), conv=nn.Conv2d(2, 2, 3, padding=1))


def siamese() -> nn.Module:
    """One layer on 2 tokens, on 3 and on single rows."""
    return Net(
        lambda net, x: net.head(
            net.body(x[:, :2]).tanh().sum(1) * net.body(x[:, 2:]).tanh().mean(1) + net.body(x[:, 0])
        ),
        body=nn.Linear(4, 5),
        head=nn.Linear(5, 2),
    )


def conv_and_norm(channels: int, norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(2, channels, 3), norm())


def dense_and_norm(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(4, 6), norm())
