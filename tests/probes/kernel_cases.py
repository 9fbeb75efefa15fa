"""A table of small networks, each with its inputs, and the brute-force kernels they are held against."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from kernel_graphs import GRAPH_NETWORKS, Net
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch

Inputs = Tensor | Batch

TREATMENTS = ("full", "traced", "summed")


# Brute force


def jacobian(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The definition, one gradient at a time: by parameter, ∂f_a(x_n)/∂θ as [N, O, its size]."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    was_training = model.training
    model.eval()
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for n in range(count(inputs)):
        for value in model(take(inputs, [n])).reshape(-1):
            found = torch.autograd.grad(
                value, list(parameters.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for name, gradient in zip(parameters, found, strict=True):
                rows[name].append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1))
    model.train(was_training)
    return {name: torch.stack(row).unflatten(0, (count(inputs), -1)) for name, row in rows.items()}


def contract(J: Tensor, outputs: str) -> Tensor:
    """The kernel of a Jacobian [N, O, P], the outputs treated as asked."""
    theta = torch.einsum("iap,jbp->iajb", J, J)
    if outputs == "traced":
        return torch.einsum("iaja->ij", theta) / theta.shape[1]
    if outputs == "summed":
        return theta.sum((1, 3)) / theta.shape[1]
    return theta.flatten(2).flatten(0, 1)


def brute_force_kernel(model: nn.Module, inputs: Inputs, outputs: str) -> Tensor:
    return contract(torch.cat(list(jacobian(model, inputs).values()), 2), outputs)


def relative_error(kernel: Tensor, reference: Tensor) -> float:
    reference = reference.double()
    return float((kernel.double() - reference).abs().max() / reference.abs().max())


def block(kernel: Tensor, points: int, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """What the kernel of all points holds for ``rows`` against ``columns``, both of them points."""
    blocks = kernel.unflatten(1, (points, -1)).unflatten(0, (points, -1))
    return blocks[list(rows)][:, :, list(columns)].flatten(2).flatten(0, 1)


def least_memory(call: Callable[..., object]) -> int:
    """The bytes that ``call`` asks for at least, as it says when it is given one."""
    with pytest.raises(ValueError, match=r"memory_bytes=1\b.*at least [\d_,]+") as caught:
        call(memory_bytes=1)
    return int(re.sub("[_,]", "", re.search(r"at least ([\d_,]*\d)", str(caught.value))[1]))


# Inputs: tensors whose first axis is the points, or batches of graphs


def count(inputs: Inputs) -> int:
    return len(inputs) if isinstance(inputs, Tensor) else inputs.num_graphs


def take(inputs: Inputs, points: Sequence[int]) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs[list(points)]
    return Batch.from_data_list([inputs[i] for i in points])


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    if isinstance(inputs, Tensor):
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    return inputs.clone().apply(lambda value: cast(value, dtype))


def tokens(below: int, *shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(below, shape)


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[int, ...] | Callable[[], Inputs]  # the shape of normal ones, or what draws them
    as_built: bool = False  # with the parameters that ``build`` gave

    def make(self, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        """The same numbers at every call and in every dtype: those of float32."""
        torch.manual_seed(1)
        model = self.build()
        inputs = self.inputs() if callable(self.inputs) else torch.randn(self.inputs)
        if not self.as_built:
            disturb(model)
        return model.to(dtype), cast(inputs, dtype)

    @functools.cache  # noqa: B019  cases live as long as the tests
    def jacobian(self) -> dict[str, Tensor]:
        """In float64, by parameter."""
        return jacobian(*self.make(torch.float64))

    def kernel(self, outputs: str, *names: str) -> Tensor:
        """The brute-force kernel of the parameters of these names, of all without any."""
        return contract(torch.cat([J for name, J in self.jacobian().items() if not names or name in names], 2), outputs)


def disturb(model: nn.Module) -> None:
    """Leave no parameter at 0 or 1, where a mistake could hide, nor any running statistic."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)


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


SEQUENCES, IMAGES, TOKENS, ROWS = (4, 4, 7), (3, 2, 5, 5), (4, 3, 4), (5, 4)

# Single layers: a name, the layer, the shape of its inputs.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear on tokens": (lambda: nn.Linear(4, 5), TOKENS),
    "linear on tokens, no bias": (lambda: nn.Linear(4, 5, bias=False), TOKENS),
    "linear on tokens, frozen weight": (lambda: frozen(nn.Linear(4, 5), "weight"), TOKENS),
    "linear on a grid": (lambda: nn.Linear(4, 3), (3, 2, 3, 4)),
    "linear on one token": (lambda: nn.Linear(4, 3), (4, 1, 4)),
    "linear, more tokens than width": (lambda: nn.Linear(1, 1), (3, 12, 1)),
    "linear on as many tokens as points": (lambda: nn.Linear(4, 3), (4, 4, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 3, 3), SEQUENCES),
    "conv1d, stride and dilation": (lambda: nn.Conv1d(4, 3, 2, stride=2, dilation=3, padding=1), SEQUENCES),
    "conv1d, same": (lambda: nn.Conv1d(4, 3, 4, padding="same"), SEQUENCES),
    "conv1d, same, circular": (lambda: nn.Conv1d(4, 3, 4, padding="same", padding_mode="circular"), SEQUENCES),
    "conv1d, valid": (lambda: nn.Conv1d(4, 3, 2, padding="valid"), SEQUENCES),
    "conv1d, groups": (lambda: nn.Conv1d(4, 6, 3, groups=2), SEQUENCES),
    "conv1d, replicate": (lambda: nn.Conv1d(4, 3, 3, padding=2, padding_mode="replicate"), SEQUENCES),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), IMAGES),
    "conv2d, no bias": (lambda: nn.Conv2d(2, 3, 3, bias=False), IMAGES),
    "conv2d, frozen weight": (lambda: frozen(nn.Conv2d(2, 3, 3), "weight"), IMAGES),
    "conv2d, frozen bias": (lambda: frozen(nn.Conv2d(2, 3, 3), "bias"), IMAGES),
    "conv2d, stride": (lambda: nn.Conv2d(2, 3, 3, stride=(2, 1), padding=1), IMAGES),
    "conv2d, stride that leaves a border": (lambda: nn.Conv2d(2, 3, 2, stride=2), IMAGES),
    "conv2d, dilation": (lambda: nn.Conv2d(2, 3, (2, 3), dilation=(3, 1)), IMAGES),
    "conv2d, reflect": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), IMAGES),
    "conv2d, circular": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular", stride=2), IMAGES),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(1, 2)), IMAGES),
    "conv2d, groups": (lambda: nn.Conv2d(2, 6, 3, groups=2), IMAGES),
    "conv2d, depthwise": (lambda: nn.Conv2d(2, 2, 3, groups=2, padding=1, bias=False), IMAGES),
    "conv2d, 1 by 1": (lambda: nn.Conv2d(2, 4, 1), IMAGES),
    "conv2d, one position": (lambda: nn.Conv2d(2, 3, 5), IMAGES),
    "conv2d, channels last": (lambda: nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last), IMAGES),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (2, 1, 3, 3, 3)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(4, 2, 3, stride=2), (3, 4, 3)),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(2, 3, 3), (3, 2, 3, 3)),
    "transposed conv2d, stride": (lambda: nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, bias=False), (3, 2, 3, 3)),
    "transposed conv2d, output padding": (
        lambda: nn.ConvTranspose2d(2, 2, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=1),
        (3, 2, 2, 3),
    ),
    "transposed conv2d, groups": (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2, stride=2), (3, 4, 2, 2)),
    "transposed conv2d, dilation": (lambda: nn.ConvTranspose2d(2, 3, 2, dilation=(2, 3)), (3, 2, 2, 2)),
    "layer norm": (dense_and_norm(lambda: nn.LayerNorm(6)), ROWS),
    "layer norm on tokens": (dense_and_norm(lambda: nn.LayerNorm(6)), TOKENS),
    "layer norm over two axes": (dense_and_norm(lambda: nn.LayerNorm((3, 6))), (3, 2, 3, 4)),
    "layer norm over all": (conv_and_norm(3, lambda: nn.LayerNorm((3, 3, 3))), IMAGES),
    "layer norm, no bias": (dense_and_norm(lambda: nn.LayerNorm(6, bias=False)), TOKENS),
    "layer norm, frozen weight": (dense_and_norm(lambda: frozen(nn.LayerNorm(6), "weight")), TOKENS),
    "layer norm without parameters": (dense_and_norm(lambda: nn.LayerNorm(6, elementwise_affine=False)), TOKENS),
    "rms norm": (dense_and_norm(lambda: nn.RMSNorm(6)), TOKENS),
    "rms norm over two axes, large eps": (dense_and_norm(lambda: nn.RMSNorm((3, 6), eps=0.1)), TOKENS),
    "group norm": (conv_and_norm(4, lambda: nn.GroupNorm(2, 4)), IMAGES),
    "group norm on rows": (dense_and_norm(lambda: nn.GroupNorm(3, 6, eps=0.1)), ROWS),
    "group norm without parameters": (conv_and_norm(4, lambda: nn.GroupNorm(1, 4, affine=False)), IMAGES),
    "instance norm": (conv_and_norm(3, lambda: nn.InstanceNorm2d(3, affine=True)), IMAGES),
    "batch norm 1d": (dense_and_norm(lambda: nn.BatchNorm1d(6)), ROWS),
    "batch norm 1d on sequences": (lambda: nn.Sequential(nn.Conv1d(4, 3, 3), nn.BatchNorm1d(3)), SEQUENCES),
    "batch norm 2d": (conv_and_norm(3, lambda: nn.BatchNorm2d(3, eps=0.1)), IMAGES),
    "batch norm 2d, frozen bias": (conv_and_norm(3, lambda: frozen(nn.BatchNorm2d(3), "bias")), IMAGES),
    "batch norm without parameters": (conv_and_norm(3, lambda: nn.BatchNorm2d(3, affine=False)), IMAGES),
    "prelu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU(3)), ROWS),
    "depthwise separable": (depthwise_separable, IMAGES),
    "squeeze and excite": (squeeze_excite, IMAGES),
    "conv used twice": (shared_convolution, IMAGES),
    "residual blocks": (lambda: nn.Sequential(residual_block(2, 3, 2), residual_block(3, 3, 1)), (2, 2, 4, 4)),
    "transformer block": (transformer_block, TOKENS),
}

ROWS_OF_SIX = (5, 6)

# fmt: off
CASES = [
    Case("linear", lambda: mlp(6, 3), ROWS_OF_SIX),
    Case("one point", lambda: mlp(6, 4, 3), (1, 6)),
    Case("mlp tanh", lambda: mlp(6, 9, 7, 3), (17, 6)),
    Case("mlp gelu", lambda: mlp(6, 8, 3, activation=nn.GELU), ROWS_OF_SIX),
    Case("in-place relu", lambda: mlp(6, 9, 7, 3, activation=lambda: nn.ReLU(inplace=True)), ROWS_OF_SIX),
    Case("no bias", lambda: mlp(6, 8, 3, bias=False), ROWS_OF_SIX),
    Case("frozen weight", lambda: frozen(mlp(6, 8, 3), "0.weight"), ROWS_OF_SIX),
    Case("frozen bias", lambda: frozen(mlp(6, 8, 3), "0.bias", "2.bias"), ROWS_OF_SIX),
    Case("frozen layer", lambda: frozen(mlp(6, 8, 3), "0.weight", "0.bias"), ROWS_OF_SIX),
    Case("one output, no axis", lambda: nn.Sequential(mlp(6, 8, 1), nn.Flatten(0)), ROWS_OF_SIX),
    Case("outputs of two axes", lambda: nn.Sequential(mlp(6, 8, 6), nn.Unflatten(1, (3, 2))), (4, 6)),
    Case("dropout and batch norm",
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)),
        ROWS_OF_SIX),
    # Layers used in unusual ways, or not only as layers.
    Case("keyword call", hidden(lambda net, x: net.layer(input=x)), ROWS_OF_SIX),
    Case("forward called past the hooks", hidden(lambda net, x: net.layer.forward(x)), ROWS_OF_SIX),
    Case("module used twice", hidden(lambda net, x: net.layer(net.layer(x).tanh())), ROWS_OF_SIX),
    Case("used twice, once detached", hidden(lambda net, x: net.layer(x) + net.layer(x.tanh()).detach()), ROWS_OF_SIX),
    Case("used twice, once on its own gradient-free output", hidden(partly_without_gradient), ROWS_OF_SIX),
    Case("functional reuse", hidden(lambda net, x: net.layer(x).tanh() @ net.layer.weight), ROWS_OF_SIX),
    Case("weight in a penalty", hidden(lambda net, x: net.layer(x) * net.layer.weight.square().sum()), ROWS_OF_SIX),
    Case("permuted rows", hidden(lambda net, x: net.layer(x.flip(0)).flip(0)), ROWS_OF_SIX),
    Case("sorted rows", hidden(sorted_rows), ROWS_OF_SIX),
    Case("every row twice", hidden(lambda net, x: net.layer(torch.cat([x, 2 * x])).tanh().unflatten(0, (2, -1)).sum(0)),
        ROWS_OF_SIX),
    Case("rows in two calls", hidden(lambda net, x: torch.cat([net.layer(x[:1]), net.layer(x[1:])])), ROWS_OF_SIX),
    Case("one point a call", hidden(lambda net, x: torch.stack([net.layer(row) for row in x])), ROWS_OF_SIX),
    Case("one point a call, vmap", hidden(lambda net, x: torch.vmap(net.layer)(x)), ROWS_OF_SIX),
    Case("one output tensor split", hidden(lambda net, x: net.layer(x).chunk(2, 1)[1].exp().repeat(1, 2)), ROWS_OF_SIX),
    Case("outputs overwritten", hidden(overwritten), ROWS_OF_SIX),
    Case("tokens merged with points",
        hidden(lambda net, x: net.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2]).tanh().prod(1)), (4, 3, 6)),
    Case("points merged with tokens",
        hidden(lambda net, x: net.layer(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (3, -1)).tanh().prod(0)),
        (4, 3, 6)),
    Case("tokens first", hidden(lambda net, x: net.layer(x.transpose(0, 1)).tanh().prod(0)), (4, 3, 6)),
    Case("tokens first, as many as points", hidden(lambda net, x: net.layer(x.transpose(0, 1)).tanh().prod(0)),
        (4, 4, 6)),
    Case("no tokens", hidden(lambda net, x: x[:, 0] + net.layer(x[:, :0]).sum(1)), (4, 3, 6)),
    Case("channels first", hidden(lambda net, x: net.layer(x.transpose(1, 2)).tanh().sum(1)), (4, 6, 3)),
    Case("layer on a constant", hidden(lambda net, x: x * net.layer(torch.ones_like(x[0])).exp()), ROWS_OF_SIX),
    Case("layer on a constant row", hidden(lambda net, x: x * net.layer(torch.ones_like(x[:1])).exp()), ROWS_OF_SIX),
    Case("layer on as many constant rows as points",
        hidden(lambda net, x: x @ net.layer(torch.eye(5, 6).to(x)).exp().T @ torch.ones(5, 6).to(x)), ROWS_OF_SIX),
    Case("no gradient at a layer", unused_layers, ROWS_OF_SIX),
    Case("checkpointed", hidden(lambda net, x: checkpoint(net.layer, x, use_reentrant=False)), ROWS_OF_SIX),
    Case("through a fourier transform", hidden(lambda net, x: torch.fft.fft(net.layer(x)).abs()), ROWS_OF_SIX),
    Case("kept references", KeepsReferences, ROWS_OF_SIX),
    Case("branching on values", branching, (6, 6)),
    Case("function without a batching rule",
        lambda: Net(lambda net, x: net.layer(Cube.apply(net.scale.exp() * x)), scale=nn.Parameter(torch.ones(6)),
        layer=nn.Linear(6, 2)), ROWS_OF_SIX),
    Case("other hooks", user_hook_net, ROWS_OF_SIX),
    Case("forward of the instance", instance_forward_net, ROWS_OF_SIX),
    Case("weight norm", weight_norm_net, ROWS_OF_SIX),
    Case("spectral norm", spectral_norm_net, (4, 2, 4)),
    Case("pruned", pruned_net, ROWS_OF_SIX),
    Case("images one a call", lambda: Net(lambda net,
        x: torch.stack([net.conv(image) for image in x]).tanh().mean((2, 3)), conv=nn.Conv2d(2, 3, 3)), IMAGES),
    Case("frames merged with points",
        lambda: Net(lambda net, x: net.conv(x.flatten(0, 1)).tanh().mean((2, 3)).unflatten(0, x.shape[:2]).prod(1),
        conv=nn.Conv2d(2, 3, 2)), (3, 2, 2, 3, 3)),
    Case("channels-last images", read_out(lambda: Net(lambda net,
        x: net.conv(x.contiguous(memory_format=torch.channels_last)),
        conv=nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)), IMAGES), IMAGES),
    Case("transposed conv2d, output size",
        read_out(lambda: Net(lambda net, x: net.up(x, output_size=[6, 5]),
        up=nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)), (3, 2, 3, 3)), (3, 2, 3, 3)),
    Case("few channels, many positions", read_out(lambda: nn.Conv2d(1, 1, 2), (2, 1, 12, 12)), (2, 1, 12, 12)),
    Case("many channels, few positions", read_out(lambda: nn.Conv2d(24, 24, 1), (2, 24, 1, 2)), (2, 24, 1, 2)),
    # Tied and bare parameters.
    Case("tied weights", lambda: tied(mlp(6, 6, 6, 3), "2.weight", "0.weight"), ROWS_OF_SIX),
    Case("tied layers", lambda: tied(tied(mlp(6, 6, 6, 3), "2.weight", "0.weight"), "2.bias", "0.bias"), ROWS_OF_SIX),
    Case("tied weights, one bias frozen", lambda: frozen(tied(mlp(6, 6, 6, 3), "2.weight", "0.weight"), "0.bias"),
        ROWS_OF_SIX),
    Case("tied weights of dense layers on rows and on tokens",
        lambda: tied(Net(lambda net, x: net.head(net.tokens(x).tanh().mean(1) * net.rows(x[:, 0])),
        tokens=nn.Linear(4, 4), rows=nn.Linear(4, 4), head=nn.Linear(4, 2)), "rows.weight", "tokens.weight"), TOKENS),
    Case("tied convolutions", lambda: tied(nn.Sequential(nn.Conv1d(4, 4, 3), nn.Tanh(),
        nn.Conv1d(4, 4, 3, padding=1, dilation=2), nn.Flatten()), "2.weight", "0.weight"), SEQUENCES),
    Case("tied norms", lambda: tied(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.LayerNorm(6)),
        "3.weight", "1.weight"), TOKENS),
    Case("tied to a bare parameter",
        lambda: tied(Net(lambda net, x: net.layer(x).tanh() @ net.matrix, matrix=nn.Parameter(torch.zeros(6, 6)),
        layer=nn.Linear(6, 6)), "layer.weight", "matrix"), ROWS_OF_SIX),
    Case("tied to a recurrent layer",
        lambda: tied(Net(lambda net, x: net.layer(net.cell(x, x.tanh())), cell=nn.GRUCell(4, 4),
        layer=nn.Linear(4, 12)), "layer.weight", "cell.weight_hh"), ROWS),
    Case("autoencoder of one matrix", hidden(lambda net, x: F.linear(net.layer(x).tanh(), net.layer.weight.T)),
        ROWS_OF_SIX),
    Case("bare parameter", lambda: Net(lambda net, x: net.layer(x).relu() * net.scale, layer=nn.Linear(6, 4),
        scale=nn.Parameter(torch.ones(4)), unused=nn.Parameter(torch.ones(3))), ROWS_OF_SIX),
    Case("layer scale, as many channels as columns",
        read_out(lambda: Net(lambda net, x: net.conv(x) * net.scale[:, None, None], conv=nn.Conv2d(2, 4, 1),
        scale=nn.Parameter(torch.ones(4))), (3, 2, 4, 4)), (3, 2, 4, 4)),
    Case("layer scale, other channels than columns",
        read_out(lambda: Net(lambda net, x: net.conv(x) + net.shift.view(1, -1, 1, 1), conv=nn.Conv2d(2, 3, 1),
        shift=nn.Parameter(torch.ones(3))), (3, 2, 4, 5)), (3, 2, 4, 5)),
    Case("another weight during the call",
        lambda: Net(lambda net, x: net.head(torch.func.functional_call(net.layer, {"weight": net.layer.weight * 2},
        (x,)).tanh()), layer=nn.Linear(6, 6), head=nn.Linear(6, 2)), ROWS_OF_SIX),
    Case("last row fixed, others permuted",
        hidden(lambda net, x: net.layer(x[[2, 0, 1, *range(3, len(x))]])[[1, 2, 0, *range(3, len(x))]]
        if len(x) > 2 else net.layer(x)), ROWS_OF_SIX),
    Case("rows all alike, tokens first",
        lambda: Net(lambda net, x: net.head((net.layer(torch.zeros_like(x).transpose(0, 1).flatten(0, 1))
        .unflatten(0, (x.shape[1], -1)).transpose(0, 1) * x.exp()).tanh().sum(1)), layer=nn.Linear(4, 4),
        head=nn.Linear(4, 2)), (4, 3, 4)),
    Case("inputs changed in place", lambda: Net(lambda net, x: net.layer(x.mul_(2)), layer=nn.Linear(6, 3)),
        ROWS_OF_SIX),
    Case("sparse embedding", lambda: nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), nn.Linear(12, 3)),
        tokens(7, 5, 3)),
    Case("norm with a scale of zero",
        read_out(lambda: Net(lambda net, x: x + net.norm(net.conv(x)), conv=nn.Conv2d(2, 2, 3, padding=1),
        norm=zeroed(nn.BatchNorm2d(2))), IMAGES), IMAGES, as_built=True),
    Case("norm used twice", lambda: Net(lambda net, x: net.head(net.norm(net.norm(x).exp())), norm=nn.LayerNorm(4),
        head=nn.Linear(4, 2)), TOKENS),
    Case("batch norm used twice", lambda: Net(lambda net, x: net.norm(net.norm(x).exp() * x), norm=nn.BatchNorm1d(4)),
        ROWS),
    Case("siamese", siamese, (4, 5, 4)),
    # Embeddings.
    Case("embedding", lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)), tokens(7, 5, 3)),
    Case("embedding with padding, repeated tokens",
        lambda: nn.Sequential(nn.Embedding(3, 4, padding_idx=1), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)),
        tokens(3, 4, 5)),
    Case("embedding of single tokens", lambda: nn.Sequential(nn.Embedding(3, 4), nn.Tanh(), nn.Linear(4, 2)),
        tokens(3, 6)),
    Case("embedding of a grid", lambda: nn.Sequential(nn.Embedding(4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)),
        tokens(4, 3, 2, 3)),
    Case("frozen embedding", lambda: frozen(nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(9, 2)),
        "0.weight"), tokens(4, 5, 3)),
    Case("embedding of padding only",
        lambda: nn.Sequential(nn.Embedding(2, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2)),
        lambda: torch.zeros(3, 2, dtype=torch.int64)),
    Case("embedding bag", lambda: nn.Sequential(nn.EmbeddingBag(5, 4), nn.Tanh(), nn.Linear(4, 2)), tokens(5, 4, 3)),
    Case("embedding used twice", lambda: Net(lambda net,
        t: net.head((net.words(t).mean(1) * net.words(t[:, 0])).tanh()), words=nn.Embedding(4, 3),
        head=nn.Linear(3, 2)), tokens(4, 5, 3)),
    Case("embedded places, as many as points",
        lambda: Net(lambda net, x: net.head((x + net.places(torch.arange(4))).tanh().prod(1)),
        places=nn.Embedding(4, 4), head=nn.Linear(4, 2)), (4, 4, 4)),
    Case("language model, tied head", language_model, tokens(5, 4, 3)),
    # Architectures.
    Case("resnet", resnet, (3, 2, 6, 6)),
    Case("vgg", vgg, (3, 2, 4, 4)),
    Case("u-net", u_net, (2, 1, 4, 4)),
    Case("variational autoencoder", autoencoder, (4, 12)),
    Case("tagger", tagger, tokens(9, 3, 3)),
    Case("vision transformer", vision_transformer, (3, 2, 4, 4)),
    Case("transformer encoder layer",
        lambda: Net(lambda net, x: net.head(net.encoder(x).mean(1)),
        encoder=nn.TransformerEncoderLayer(4, 2, 5, batch_first=True), head=nn.Linear(4, 2)), TOKENS),
    Case("multi-head attention", lambda: Net(lambda net,
        x: net.head(net.attention(x, x, x, need_weights=False)[0].mean(1)),
        attention=nn.MultiheadAttention(4, 2, batch_first=True), head=nn.Linear(4, 2)), TOKENS),
    Case("lstm", lambda: last_state(nn.LSTM(4, 5, batch_first=True), 5), TOKENS),
    Case("lstm of two directions", lambda: last_state(nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), 6),
        TOKENS),
    Case("gru", lambda: last_state(nn.GRU(4, 3, batch_first=True), 3), TOKENS),
    *(Case(name, read_out(*layer), layer[1]) for name, layer in LAYERS.items()),
    *(Case(name, *network) for name, network in GRAPH_NETWORKS.items()),
]
# fmt: on

CASE = {case.name: case for case in CASES}


EVERY_CASE = [
    pytest.param(case, outputs, id=f"{case.name}-{outputs}", marks=() if (i + j) % 3 == 0 else (pytest.mark.slow,))
    for i, case in enumerate(CASES)
    for j, outputs in enumerate(TREATMENTS)
]
"""Every case in every treatment; each in one of them by default, in the other two where slow tests run."""
