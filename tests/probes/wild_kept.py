"""Networks that keep tensors between calls in eval mode, and copies of networks that torch makes in odd ways."""

import copy
import functools
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from kernel_networks import mlp
from torch import Tensor, nn
from wild_case import Wild

ROWS, TOKENS, IMAGES = (4, 3), (4, 3, 4), (3, 2, 5, 5)


# Caches


class Cached(nn.Module):
    """A bias that is indexed once in eval mode, as efficient vision transformers do."""

    def __init__(self):
        super().__init__()
        self.l, self.bias, self.kept = nn.Linear(3, 4), nn.Parameter(torch.randn(9)), None

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.kept is None:
            self.kept = self.bias[torch.arange(4)]
        return self.l(x) * self.kept


class Attention(nn.Module):
    """Its biases of places are kept by device; training empties the cache."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 2)
        self.biases = nn.Parameter(torch.randn(2, 5))
        self.cache: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "Attention":
        super().train(mode)
        if mode:
            self.cache = {}
        return self

    def found(self, device: torch.device) -> Tensor:
        places = torch.arange(3)
        index = places[:, None] - places + 2
        if self.training:
            return self.biases[:, index]
        if str(device) not in self.cache:
            self.cache[str(device)] = self.biases[:, index]
        return self.cache[str(device)]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        rows = (q @ k.mT + self.found(x.device)).softmax(3) @ v
        return self.head(rows.transpose(1, 2).flatten(2).tanh().mean(1))


class Merged(nn.Module):
    """A low-rank adapter that is added to its layer once training is over."""

    def __init__(self):
        super().__init__()
        self.base, self.a, self.b = nn.Linear(3, 4), nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(4, 2))
        self.merged: Tensor | None = None

    def train(self, mode: bool = True) -> "Merged":
        self.merged = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return F.linear(x, self.base.weight + self.b @ self.a, self.base.bias).tanh()
        if self.merged is None:
            self.merged = self.base.weight + self.b @ self.a
        return F.linear(x, self.merged, self.base.bias).tanh()


class Property(nn.Module):
    """A matrix of directions, computed when it is first asked for."""

    def __init__(self):
        super().__init__()
        self.first, self.weight = nn.Linear(3, 4), nn.Parameter(torch.randn(2, 4))

    @functools.cached_property
    def directions(self) -> Tensor:
        return F.normalize(self.weight, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.first(x).tanh(), self.directions)


@functools.lru_cache(maxsize=8)
def scale_of(module: nn.Module) -> Tensor:
    return module.scale.exp()


TABLES: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def kept_elsewhere(net: Net, x: Tensor) -> Tensor:
    if net not in TABLES:
        TABLES[net] = net.table.cumsum(0)
    return net.head((x + TABLES[net][: x.shape[1]]).tanh().mean(1))


def by_length(net: Net, x: Tensor) -> Tensor:
    """Rotary places of learned frequencies, kept for every length."""
    kept = net.__dict__.setdefault("kept", {})
    if x.shape[1] not in kept:
        places = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * net.frequencies
        kept[x.shape[1]] = places.cos(), places.sin()
    cos, sin = kept[x.shape[1]]
    a, b = x.chunk(2, 2)
    return net.head(torch.cat([a * cos - b * sin, a * sin + b * cos], 2).tanh().mean(1))


def counted(net: Net, x: Tensor) -> Tensor:
    """Counts its calls, and keeps the last outputs for somebody to look at."""
    net.calls = getattr(net, "calls", 0) + 1
    net.last = net.first(x).tanh()
    return net.head(net.last)


def computed_when_built(model: Net) -> Net:
    model.kept = model.base.exp()
    return model


# Copies


def scripted(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A network whose layers with parameters are scripted."""
    return lambda: nn.Sequential(
        *(torch.jit.script(layer) if [*layer.parameters()] else layer for layer in (make() for make in layers))
    )


def scripted_copy(model: nn.Module) -> nn.Module:
    """Of the whole network."""
    return copy.deepcopy(torch.jit.script(model))


def traced_copy(shape: tuple[int, ...]) -> Callable[[nn.Module], nn.Module]:
    def finish(model: nn.Module) -> nn.Module:
        dtype = next(model.parameters()).dtype
        return copy.deepcopy(torch.jit.trace(model.eval(), torch.ones(shape, dtype=dtype), check_trace=False))

    return finish


def no_leaf(*names: str) -> Callable[[nn.Module], nn.Module]:
    """Parameters that were computed, as copies and conversions by hand leave them."""

    def finish(model: nn.Module) -> nn.Module:
        for name in names:
            owner, _, own = name.rpartition(".")
            module = model.get_submodule(owner)
            module._parameters[own] = module._parameters[own].detach().requires_grad_() * 1.0
        return model

    return finish


def linear(*sizes: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(*sizes)


# fmt: off
KEPT = [
    Wild("kept in an attribute", Cached, ROWS),
    Wild("kept by device", Attention, TOKENS),
    Wild("adapter merged in eval mode", Merged, ROWS),
    Wild("kept as a property", Property, ROWS),
    Wild("kept by module", lambda: Net(lambda net, x: net.layer(x) * scale_of(net), layer=nn.Linear(3, 2),
        scale=nn.Parameter(torch.ones(2))), ROWS),
    Wild("kept elsewhere", lambda: Net(kept_elsewhere, table=nn.Parameter(torch.randn(5, 4)), head=nn.Linear(4, 2)),
        TOKENS),
    Wild("kept by length", lambda: Net(by_length, frequencies=nn.Parameter(torch.randn(2)), head=nn.Linear(4, 2)),
        TOKENS),
    Wild("computed when built", lambda: Net(lambda net, x: net.head(net.kept * x), base=nn.Parameter(torch.randn(3)),
        head=nn.Linear(3, 2)), ROWS, finish=computed_when_built),
    Wild("calls counted, outputs kept", lambda: Net(counted, first=nn.Linear(3, 4), head=nn.Linear(4, 2)), ROWS),
]

COPIES = [
    Wild("copy of a scripted layer", scripted(linear(6, 8), nn.Tanh, linear(8, 2)), (4, 6), finish=copy.deepcopy),
    Wild("copy of one scripted layer among others", lambda: nn.Sequential(torch.jit.script(nn.Linear(6, 8)), nn.Tanh(),
        nn.Linear(8, 2)), (4, 6), finish=copy.deepcopy),
    Wild("copy of a scripted layer in the middle", lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(),
        torch.jit.script(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 2)), (4, 6), finish=copy.deepcopy),
    Wild("copy of a scripted network", lambda: mlp(6, 5, 2), (4, 6), finish=scripted_copy),
    Wild("copy of a scripted convolution", scripted(lambda: nn.Conv2d(2, 3, 3), nn.Tanh, nn.Flatten, linear(27, 2)),
        IMAGES,
        finish=copy.deepcopy),
    Wild("copy of a scripted recurrent layer", lambda: Net(lambda net, x: net.head(net.cell(x[:, 0],
        net.cell(x[:, 1]))),
        cell=torch.jit.script(nn.GRUCell(4, 3)), head=nn.Linear(3, 2)), TOKENS, finish=copy.deepcopy, slow=True),
    Wild("copy of a copy of a scripted layer", scripted(linear(6, 4), nn.Tanh, linear(4, 2)), (4, 6),
        finish=lambda model: copy.deepcopy(copy.deepcopy(model)), slow=True),
    Wild("copy of a traced network", lambda: mlp(6, 5, 2), (4, 6), finish=traced_copy((2, 6))),
    Wild("scripted network", lambda: mlp(6, 5, 2), (4, 6), finish=torch.jit.script, slow=True),
    Wild("scripted layer", scripted(linear(6, 4), nn.Tanh, linear(4, 2)), (4, 6)),
    Wild("copy of a parametrised layer", lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
        nn.Tanh(), nn.Linear(4, 2)), (4, 6), finish=copy.deepcopy),
    Wild("copy of a layer with weight norm of the old kind", lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(),
        nn.Linear(4, 2)),
        (4, 6), finish=lambda model: (nn.utils.weight_norm(model[0]), model)[1]),
    Wild("weight that is no leaf", lambda: mlp(6, 5, 2), (4, 6), finish=no_leaf("0.weight")),
    Wild("layer whose parameters are no leaves", lambda: mlp(6, 5, 2), (4, 6), finish=no_leaf("0.weight", "0.bias")),
    Wild("network whose parameters are no leaves", lambda: mlp(6, 5, 2), (4, 6),
        finish=no_leaf("0.weight", "0.bias", "2.weight", "2.bias")),
    Wild("norm and embedding that are no leaves", lambda: nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4),
        nn.Flatten(),
        nn.Linear(12, 2)), lambda: torch.randint(5, (4, 3)), finish=no_leaf("0.weight", "1.weight")),
    Wild("bare parameter that is no leaf", lambda: Net(lambda net, x: net.head(x * net.scale),
        scale=nn.Parameter(torch.ones(3)),
        head=nn.Linear(3, 2)), ROWS, finish=no_leaf("scale")),
]
# fmt: on
