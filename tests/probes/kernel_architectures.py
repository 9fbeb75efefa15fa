"""Architectures of the field, very small, for the table of ``kernel_cases``."""

import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from kernel_graphs import Net
from kernel_networks import mlp, tied
from torch import Tensor, nn


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
        lambda net, t: net.head(
            net.norm(net.block(net.words(t) + net.places(torch.arange(t.shape[1], device=t.device))))
        ),
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
