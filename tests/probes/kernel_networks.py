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


# Architectures of the field, very small


class Attention(nn.Module):
    """Our own attention, of plain linear layers."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def transformer_block(width: int = 4) -> nn.Module:
    return Net(
        lambda net, x: (y := x + net.scale * net.attention(net.first(x))) + net.mlp(net.second(y)),
        first=nn.LayerNorm(width),
        attention=Attention(width, 2),
        scale=nn.Parameter(torch.full((width,), 0.1)),
        second=nn.LayerNorm(width),
        mlp=mlp(width, 6, width, activation=nn.GELU),
    )


def tagger() -> nn.Module:
    """Token outputs [N, T, tags]."""
    return Net(
        lambda net, t: net.head(net.norm(net.block(net.words(t) + net.places(torch.arange(t.shape[1]))))),
        words=nn.Embedding(9, 4, padding_idx=0),
        places=nn.Embedding(3, 4),
        block=transformer_block(),
        norm=nn.LayerNorm(4),
        head=nn.Linear(4, 2),
    )


def language_model() -> nn.Module:
    """The embedding's matrix is also the head's."""
    model = Net(
        lambda net, t: net.head(net.body(net.words(t)).tanh()).mean(1),
        words=nn.Embedding(5, 4),
        body=nn.Linear(4, 4),
        head=nn.Linear(4, 5, bias=False),
    )
    return tied(model, "head.weight", "words.weight")


def vision_transformer() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        patches = net.patches(x).flatten(2).transpose(1, 2)
        return net.head(net.block(torch.cat([net.token.expand(len(x), 1, 4), patches], 1) + net.places)[:, 0])

    return Net(
        run,
        patches=nn.Conv2d(2, 4, 2, stride=2),
        token=nn.Parameter(torch.zeros(1, 1, 4)),
        places=nn.Parameter(torch.zeros(5, 4)),
        block=transformer_block(),
        head=nn.Linear(4, 2),
    )


def residual_block(c_in: int, c_out: int, stride: int) -> nn.Module:
    return Net(
        lambda net, x: F.relu_(net.body(x).add_(net.downsample(x))),
        body=nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out),
        ),
        downsample=nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)),
    )


def resnet() -> nn.Module:
    return nn.Sequential(
        residual_block(2, 3, 1), residual_block(3, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 3),
    )  # fmt: skip


def squeeze_excite() -> nn.Module:
    return Net(
        lambda net, x: (h := net.conv(x)) * net.gate(h.mean((2, 3))).sigmoid()[..., None, None],
        conv=nn.Conv2d(2, 4, 3),
        gate=mlp(4, 2, 4, activation=nn.ReLU),
    )


def u_net() -> nn.Module:
    def run(net: Net, x: Tensor) -> Tensor:
        outer = net.down(x).relu()
        inner = net.inner(F.max_pool2d(outer, 2)).relu()
        return net.out(torch.cat([outer, net.up(inner).relu()], 1))

    return Net(
        run,
        down=nn.Conv2d(1, 3, 3, padding=1),
        inner=nn.Conv2d(3, 4, 3, padding=1),
        up=nn.ConvTranspose2d(4, 2, 2, stride=2),
        out=nn.Conv2d(5, 1, 1),
    )


def autoencoder() -> nn.Module:
    """A variational one, seen as the decoder's mean at the encoder's mean: the head of variances plays no part."""
    return Net(
        lambda net, x: net.decoder(net.mean(net.encoder(x))),
        encoder=nn.Sequential(nn.Linear(12, 5), nn.ReLU()),
        mean=nn.Linear(5, 2),
        log_variance=nn.Linear(5, 2),
        decoder=nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 12)),
    )


def depthwise_separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU6(inplace=True), nn.Conv2d(4, 3, 1)
    )


def last_state(recurrent: nn.Module, width: int) -> nn.Module:
    return Net(lambda net, x: net.head(net.recurrent(x)[0][:, -1]), recurrent=recurrent, head=nn.Linear(width, 2))


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
