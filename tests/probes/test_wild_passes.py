"""Layers without a rule share their passes through the network: neither their number nor the points' adds to them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_attention import by_hand, softmax
from wild_case import disturb
from wild_dense import Conv1D, ScaledEmbedding
from wild_norms import BatchNormAct2d, FastLayerNorm, LayerScale
from wild_parametrised import Lora, Scaled, parametrised

from tangentscope.probes import draw_kernels, layer_kernels, layer_traces, tangent_kernel


class Counted(nn.Module):
    """A network that counts how often it is called."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x)


def calls(call: Callable[[nn.Module, Tensor], object], network: nn.Module, inputs: Tensor) -> int:
    model = Counted(network)
    disturb(model)
    call(model, inputs)
    return model.calls


CALLS = {
    "kernel": tangent_kernel,
    "layers": layer_kernels,
    "traces": layer_traces,
    "draws": lambda model, inputs: draw_kernels(model, inputs, torch.tensor([[0, 1, 2], [1, 2, 3]])),
    "between": lambda model, inputs: tangent_kernel(model, inputs, others=inputs[:2]),
}


def stacked(layer: Callable[[], nn.Module], head: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    return lambda depth: nn.Sequential(*(layer() for _ in range(depth)), nn.Flatten(), head())


def words(depth: int) -> nn.Module:
    """Several scaled embeddings of the same words."""
    return Net(
        lambda net, t: net.head(sum(part(t) for part in net.parts).tanh().mean(1)),
        parts=nn.ModuleList(ScaledEmbedding(5, 4) for _ in range(depth)),
        head=nn.Linear(4, 2),
    )


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)


def images(layer: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    return stacked(lambda: nn.Sequential(layer(), nn.Conv2d(2, 2, 1)), lambda: nn.Linear(18, 2))


def tokens(layer: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    return stacked(lambda: nn.Sequential(layer(), nn.Tanh()), lambda: nn.Linear(12, 2))


def residual() -> nn.Module:
    return Net(lambda net, x: x + net.scale(net.up(net.norm(x)).tanh()), norm=FastLayerNorm(4), up=nn.Linear(4, 4),
               scale=LayerScale(4))  # fmt: skip


def stateful() -> nn.Module:
    return Net(lambda net, x: net.recurrent(x)[0], recurrent=nn.GRU(4, 4, batch_first=True))


DEEP = {
    "encoder layers": (stacked(encoder, lambda: nn.Linear(12, 2)), (4, 3, 4)),
    "Conv1D": (tokens(lambda: Conv1D(4, 4)), (4, 3, 4)),
    "norms of a subclass": (tokens(residual), (4, 3, 4)),
    "batch norms of a subclass": (images(lambda: BatchNormAct2d(2)), (4, 2, 3, 3)),
    "instance norms": (images(lambda: nn.InstanceNorm2d(2, affine=True)), (4, 2, 3, 3)),
    "prelu": (images(lambda: nn.PReLU(2)), (4, 2, 3, 3)),
    "recurrent layers": (stacked(stateful, lambda: nn.Linear(12, 2)), (4, 3, 4)),
    "weight norms": (tokens(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))), (4, 3, 4)),
    "spectral norms": (images(lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 1))), (4, 2, 3, 3)),
    "parametrised layers": (tokens(lambda: parametrised(nn.Linear(4, 4), Scaled())), (4, 3, 4)),
    "adapters merged": (tokens(lambda: Lora(nn.Linear(4, 4), True)), (4, 3, 4)),
    "scaled embeddings": (words, lambda: torch.randint(5, (4, 3))),
}


@pytest.mark.parametrize(
    "call", [pytest.param(call, marks=() if call in ("kernel", "layers") else (pytest.mark.slow,)) for call in CALLS]
)
@pytest.mark.parametrize("name", DEEP)
def test_passes_do_not_grow_with_the_layers(name: str, call: str):
    build, shape = DEEP[name]
    inputs = shape() if callable(shape) else torch.randn(shape)
    few, many = (calls(CALLS[call], build(depth), inputs) for depth in (2, 6))
    assert few == many


def attention(
    layer: Callable[[], nn.Module] = lambda: nn.Linear(4, 4), norm: Callable[[], nn.Module] = nn.Identity
) -> nn.Module:
    """Keys' biases, and shifts of their norms, have gradients that are nothing but rounding."""
    model = by_hand(lambda net, q, k, v: softmax(net.first(q), net.second(k), v), first=norm, second=norm)()
    for name in ("q", "k", "v", "out"):
        setattr(model, name, layer())
    return model


def selfish(layer: Callable[[], nn.Module]) -> nn.Module:
    return Net(lambda net, x: net.inner(x[:, :1]), inner=attention(layer))


def columns() -> nn.Module:
    return Conv1D(4, 4)


def positive() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softplus(), nn.PReLU(), nn.Linear(4, 2))


def multihead(**options: bool) -> nn.Module:
    return Net(
        lambda net, x: net.head(net.attention(x, x, x, need_weights=False)[0].mean(1)),
        attention=nn.MultiheadAttention(4, 2, batch_first=True, **options),
        head=nn.Linear(4, 2),
    )


def normed() -> nn.Module:
    """Queries and keys normed without a scale; the shift of a norm before a norm changes nothing."""
    return Net(
        lambda net, x: net.head(F.layer_norm(net.shift + net.norm(net.body(x)).mean(2, keepdim=True), (1,)).flatten(1)),
        body=Conv1D(4, 4), norm=FastLayerNorm(4), shift=nn.Parameter(torch.zeros(1)), head=nn.Linear(3, 2),
    )  # fmt: skip


def shifted() -> nn.Module:
    """A shift that softmax takes away, of logits and of scores."""
    return Net(
        lambda net, x: (net.body(x).mean(1) + net.shift).softmax(1),
        body=Conv1D(3, 4), shift=nn.Parameter(torch.zeros(1)),
    )  # fmt: skip


EXACT_ZEROS = {
    "attention by softmax": attention,
    "attention by softmax, bare matrices": lambda: attention(columns),
    "attention by softmax, normed keys": lambda: attention(norm=lambda: nn.LayerNorm(2, eps=0.1)),
    "attention by softmax, keys normed by a subclass": lambda: attention(norm=lambda: FastLayerNorm(2, eps=0.1)),
    "a token to itself": lambda: selfish(lambda: nn.Linear(4, 4)),
    "a token to itself, bare matrices": lambda: selfish(columns),
    "multi-head attention": multihead,
    "multi-head attention with a key more": lambda: multihead(add_bias_kv=True),
    "encoder layer": lambda: nn.Sequential(encoder(), nn.Flatten(), nn.Linear(12, 2)),
    "prelu of positive numbers": positive,
    "norm of a single number": normed,
    "shift under softmax": shifted,
}


@pytest.mark.parametrize(("call", "dtype"), [("kernel", torch.float64), ("layers", torch.float32)])
@pytest.mark.parametrize("name", EXACT_ZEROS)
def test_gradients_of_nothing_but_rounding_take_no_loop_over_points(name: str, call: str, dtype: torch.dtype):
    model = EXACT_ZEROS[name]().to(dtype)
    few, many = (calls(CALLS[call], model, torch.randn(points, 3, 4, dtype=dtype)) for points in (6, 18))
    assert few == many
