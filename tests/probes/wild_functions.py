"""Networks that call compiled functions, and parameters of sizes that nobody expects."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from wild_case import Wild

ROWS, TOKENS = (4, 3), (4, 3, 4)
WORDS = lambda: torch.randint(20, (4, 5))  # noqa: E731


# Compiled functions: without code of its own, so that no compiler is needed.


@torch.compile(backend="aot_eager")
def scaled(h: Tensor, w: Tensor) -> Tensor:
    return h.tanh() * w


@torch.compile(backend="aot_eager")
def gated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    a, b = F.linear(x, weight, bias).chunk(2, -1)
    return a.sigmoid() * b


@torch.compile(backend="eager")
def traced_only(h: Tensor) -> Tensor:
    return F.gelu(h)


class Method(nn.Module):
    """One method compiled, not forward."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(3, 2)

    @torch.compile(backend="aot_eager")
    def mix(self, x: Tensor) -> Tensor:
        a, b = self.first(x).chunk(2, 1)
        return a.tanh() * b

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(x))


def compiled_part(model: nn.Module) -> nn.Module:
    model[0] = torch.compile(model[0], backend="aot_eager")
    return model


def compiled_in_place(model: nn.Module) -> nn.Module:
    model[0].compile(backend="aot_eager")
    return model


# Sizes


def grown(words: int, more: int, padding: int | None = None) -> Callable[[], nn.Module]:
    """A vocabulary that was made longer by hand."""

    def build() -> nn.Module:
        embedding = nn.Embedding(words, 4)
        embedding.weight = nn.Parameter(torch.cat([embedding.weight.detach(), torch.randn(more, 4)]))
        embedding.padding_idx = padding
        return nn.Sequential(embedding, nn.Tanh(), nn.Flatten(), nn.Linear(20, 2))

    return build


def shrunk() -> nn.Module:
    model = nn.Sequential(nn.Embedding(40, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2))
    model[0].weight = nn.Parameter(torch.randn(20, 4))
    return model


def widened() -> nn.Module:
    """An embedding, and a dense layer, of more columns than they were built with."""
    model = nn.Sequential(nn.Embedding(20, 2), nn.Tanh(), nn.Flatten(), nn.Linear(10, 2))
    model[0].weight, model[3].weight = nn.Parameter(torch.randn(20, 4)), nn.Parameter(torch.randn(2, 20))
    return model


def more_outputs() -> nn.Module:
    model = mlp(3, 4, 2)
    model[2].weight, model[2].bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))
    return model


def regrouped() -> nn.Module:
    model = nn.Sequential(nn.Conv1d(3, 4, 2), nn.GroupNorm(2, 4, eps=0.1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    model[1].num_groups = 4
    return model


def renormed() -> nn.Module:
    """Norms of another width put in."""
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(4), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2))
    norm = model[1]
    norm.weight, norm.bias, norm.normalized_shape = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6)), (6,)
    norm.eps = 0.1
    return model


def prompts(count: int) -> Callable[[], nn.Module]:
    """Before the tokens, as many prompts as wanted: none here and there."""

    def run(net: Net, x: Tensor) -> Tensor:
        return net.f(torch.cat([net.prompts.repeat(len(x), 1, 1), x[:, None]], 1)).sum(1)

    return lambda: Net(run, prompts=nn.Parameter(torch.randn(1, count, 3)), f=mlp(3, 8, 1))


def no_hidden(net: Net, x: Tensor) -> Tensor:
    return net.head(x) + net.up(net.down(x))


# fmt: off
FUNCTIONS = [
    Wild("compiled function of rows and a bias", lambda: Net(lambda net,
        x: net.head(scaled(net.layer(x), net.layer.bias)),
        layer=nn.Linear(3, 4), head=nn.Linear(4, 2)), ROWS, once=True),
    Wild("compiled function that only is traced", lambda: Net(lambda net, x: net.head(traced_only(net.layer(x))),
        layer=nn.Linear(3, 4), head=nn.Linear(4, 2)), ROWS, slow=True),
    Wild("compiled function of weights", lambda: Net(lambda net, x: net.head(gated(x, net.layer.weight,
        net.layer.bias)),
        layer=nn.Linear(3, 8), head=nn.Linear(4, 2)), ROWS, once=True, slow=True),
    Wild("compiled method", Method, ROWS, once=True, slow=True),
    Wild("compiled layer", lambda: mlp(3, 4, 2), ROWS, finish=compiled_part, slow=True),
    Wild("layer compiled in place", lambda: mlp(3, 4, 2), ROWS, finish=compiled_in_place, slow=True),
    Wild("compiled function on tokens", lambda: Net(lambda net, x: net.head(scaled(net.layer(x), net.scale).mean(1)),
        layer=nn.Linear(4, 4), scale=nn.Parameter(torch.ones(4)), head=nn.Linear(4, 2)), TOKENS, once=True, slow=True),
    Wild("no prompts", prompts(0), ROWS),
    Wild("two prompts", prompts(2), ROWS),
    Wild("empty shift", lambda: Net(lambda net, x: torch.cat([net.f(x), x[:, :0] + net.shift], 1), f=mlp(3, 4, 2),
        shift=nn.Parameter(torch.zeros(0))), ROWS),
    Wild("adapter of rank zero", lambda: Net(no_hidden, head=nn.Linear(3, 2), down=nn.Linear(3, 0), up=nn.Linear(0, 2)),
        ROWS),
    Wild("layer on no rows", lambda: Net(lambda net, x: net.f(x) + net.extra(x[:, None][:, :0]).sum(1), f=mlp(3, 4, 2),
        extra=nn.Linear(3, 2)), ROWS),
    Wild("vocabulary grown by hand", grown(5, 15), WORDS),
    Wild("vocabulary shrunk by hand", shrunk, WORDS),
    Wild("embedding and layer widened", widened, WORDS),
    Wild("vocabulary grown, with padding", grown(5, 15, padding=3), WORDS),
    Wild("head of more outputs", more_outputs, ROWS),
    Wild("groups of a norm changed", regrouped, (3, 3, 4)),
    Wild("norm of another width", renormed, (3, 3, 4)),
]
# fmt: on
