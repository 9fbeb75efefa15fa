"""A table of small networks, each with its inputs, and the brute-force kernel they are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import Tensor, nn


def brute_force_kernel(model: nn.Module, inputs: Tensor, outputs: str) -> Tensor:
    """The definition, one gradient at a time: every row ∂f_a(x_i)/∂θ written out, then multiplied."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    model.eval()
    rows = []
    for i in range(len(inputs)):
        f = model(inputs[i : i + 1]).reshape(-1)
        for a in range(len(f)):
            gradients = torch.autograd.grad(f[a], parameters, retain_graph=True, allow_unused=True)
            rows.append(
                torch.cat(
                    [
                        (torch.zeros_like(p) if g is None else g).reshape(-1)
                        for p, g in zip(parameters, gradients, strict=True)
                    ]
                )
            )
    model.train(was_training)
    J = torch.stack(rows)
    N = len(inputs)
    theta = (J @ J.T).reshape(N, len(J) // N, N, len(J) // N)  # [N, O, N, O]
    count = theta.shape[1]
    if outputs == "traced":
        return torch.einsum("iaja->ij", theta) / count
    if outputs == "summed":
        return theta.sum((1, 3)) / count
    return theta.reshape(len(J), len(J))


class TiedWeights(nn.Module):
    """Two layers, one weight; own biases."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class FunctionalReuse(nn.Module):
    """The layer's weight is used a second time where no module hook sees it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) @ self.layer.weight


class PermutedRows(nn.Module):
    """Right for every point, but inside, row i of the layer is not point i."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(x.flip(0))).flip(0))


class BareParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu() * self.scale


class MeanOverTokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class KeepsReferences(nn.Module):
    """Uses its weight through a list, which torch.func does not replace: vmap gives a zero Jacobian for it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.kept = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.kept[0].T)


class Branching(nn.Module):
    """Control flow on values: vmap refuses."""

    def __init__(self):
        super().__init__()
        self.positive, self.negative = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.positive(row) if row.sum() > 0 else self.negative(row) for row in x.split(1)])


class KeywordCall(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.Tanh, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1])


def frozen(model: nn.Module, *names: str) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


def batch_norm_net() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(2 * torch.randn(20, 6) + 1)  # running statistics away from 0 and 1
    return model


def weight_norm_net() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 2))


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


TREATMENTS = ("full", "traced", "summed")


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of the inputs
    tokens: int = 0  # integer inputs below this, instead of normal ones

    def make(self, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(1)
        model = self.build().to(dtype)
        if self.tokens:
            return model, torch.randint(self.tokens, self.shape)
        return model, torch.randn(self.shape, dtype=torch.float64).to(dtype)


CASES = [
    Case("linear", lambda: mlp(6, 3), (5, 6)),
    Case("one point", lambda: mlp(6, 4, 3), (1, 6)),
    Case("mlp tanh", lambda: mlp(6, 9, 7, 3), (17, 6)),
    Case("mlp gelu", lambda: mlp(6, 8, 3, activation=nn.GELU), (5, 6)),
    Case("in-place relu", lambda: mlp(6, 9, 7, 3, activation=lambda: nn.ReLU(inplace=True)), (5, 6)),
    Case("no bias", lambda: mlp(6, 8, 3, bias=False), (5, 6)),
    Case("frozen weight", lambda: frozen(mlp(6, 8, 3), "0.weight"), (5, 6)),
    Case("frozen bias", lambda: frozen(mlp(6, 8, 3), "0.bias", "2.bias"), (5, 6)),
    Case("frozen layer", lambda: frozen(mlp(6, 8, 3), "0.weight", "0.bias"), (5, 6)),
    Case("one output, no axis", lambda: nn.Sequential(mlp(6, 8, 1), nn.Flatten(0)), (5, 6)),
    Case("outputs of two axes", lambda: nn.Sequential(mlp(6, 8, 6), nn.Unflatten(1, (3, 2))), (4, 6)),
    Case("keyword call", KeywordCall, (5, 6)),
    Case("tied weights", TiedWeights, (5, 6)),
    Case("module used twice", UsedTwice, (5, 6)),
    Case("functional reuse", FunctionalReuse, (5, 6)),
    Case("permuted rows", PermutedRows, (5, 6)),
    Case("bare parameter", BareParameter, (5, 6)),
    Case("weight norm", weight_norm_net, (5, 6)),
    Case("pruned", pruned_net, (5, 6)),
    Case("forward of the instance", instance_forward_net, (5, 6)),
    Case("other hooks", user_hook_net, (5, 6)),
    Case("batch norm, dropout", batch_norm_net, (5, 6)),
    Case("layer norm", lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)), (5, 6)),
    Case(
        "conv, group norm",
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)
        ),
        (4, 2, 4, 4),
    ),
    Case("embedding", lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)), (5, 3), tokens=7),
    Case("linear on tokens", lambda: nn.Sequential(mlp(4, 6, 5), MeanOverTokens(), nn.Linear(5, 2)), (5, 3, 4)),
    Case("attention", SelfAttention, (4, 3, 8)),
    Case("lstm", LastState, (4, 3, 4)),
    Case("kept references", KeepsReferences, (5, 6)),
    Case("branching on values", Branching, (6, 6)),
]


def relative_error(kernel: Tensor, reference: Tensor) -> float:
    reference = reference.double()
    return float((kernel.double() - reference).abs().max() / reference.abs().max())
