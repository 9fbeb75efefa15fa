"""A table of small networks, each with its inputs, and the brute-force kernels they are held against."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from kernel_architectures import autoencoder, language_model, last_state, resnet, tagger, u_net, vgg, vision_transformer
from kernel_brute_force import Inputs, cast, contract, jacobian, tokens
from kernel_graphs import GRAPH_NETWORKS, Net
from kernel_layers import IMAGES, LAYERS, ROWS, SEQUENCES, TOKENS
from kernel_networks import (
    Cube,
    KeepsReferences,
    branching,
    frozen,
    hidden,
    instance_forward_net,
    mlp,
    overwritten,
    partly_without_gradient,
    pruned_net,
    read_out,
    siamese,
    sorted_rows,
    spectral_norm_net,
    tied,
    unused_layers,
    user_hook_net,
    weight_norm_net,
    zeroed,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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
        lambda: Net(lambda net, x: net.head((x + net.places(torch.arange(4, device=x.device))).tanh().prod(1)),
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
