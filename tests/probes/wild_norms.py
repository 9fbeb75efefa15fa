"""Norms of subclasses and by hand, learned activations, scales and shifts of channels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_case import Wild

ROWS, TOKENS, IMAGES, SEQUENCES = (4, 6), (4, 3, 6), (3, 2, 5, 5), (3, 2, 6)


class FastLayerNorm(nn.LayerNorm):
    """timm's: the same by another way."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ChannelsFirst(nn.Module):
    """ConvNeXt's, by hand."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        x = (x - mean) / (variance + 0.01).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class BatchNormAct2d(nn.BatchNorm2d):
    """timm's: a norm with its activation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(
            F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        )


class GroupNorm1(nn.GroupNorm):
    def __init__(self, channels: int):
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class Rms(nn.Module):
    """Llama's, in the precision of its inputs; Gemma's with ``offset`` 1."""

    def __init__(self, width: int, offset: float = 0.0):
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.zeros(width)), offset

    def forward(self, x: Tensor) -> Tensor:
        return (self.offset + self.weight) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.01))


class FrozenBatchNorm2d(nn.Module):
    """torchvision's detectors have it: buffers in place of parameters."""

    def __init__(self, channels: int):
        super().__init__()
        for name, value in {"weight": 0.7, "bias": 0.2, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = (self.weight * (self.running_var + 1e-5).rsqrt())[:, None, None]
        return x * scale + (self.bias[:, None, None] - self.running_mean[:, None, None] * scale)


class Response(nn.Module):
    """ConvNeXt V2's global response normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, channels, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(1, keepdim=True) + 1e-6)) + self.beta + x


class DynamicTanh(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.5]))
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.alpha * x) * self.weight + self.bias


class LayerScale(nn.Module):
    def __init__(self, *shape: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class InPlaceScale(LayerScale):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.gamma)


class StarReLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x) ** 2 + self.bias


class Swish(nn.Module):
    """With a learned slope for every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta.view(1, -1, *[1] * (x.dim() - 2)) * x)


class Spline(nn.Module):
    """A Kolmogorov-Arnold layer on radial functions."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_out, d_in, 3))

    def forward(self, x: Tensor) -> Tensor:
        centres = torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype, device=x.device)
        return torch.einsum("oik,nik->no", self.weight, (-(x[:, :, None] - centres).square()).exp())


def modulated(net: Net, x: Tensor) -> Tensor:
    """Scale and shift come of the inputs, as in FiLM and in diffusion transformers."""
    scale, shift, gate = net.condition(F.silu(x.mean(1, keepdim=True))).chunk(3, 2)
    return net.head((x + gate * net.body(net.norm(x) * (1 + scale) + shift)).tanh().mean(1))


def one_prelu() -> nn.Module:
    """One activation for all layers, as people write who think of it as a function."""
    slope = nn.PReLU()
    return nn.Sequential(nn.Linear(6, 4), slope, nn.Linear(4, 4), slope, nn.Linear(4, 2))


def one_norm() -> nn.Module:
    shared = FastLayerNorm(4), LayerScale(4)
    return nn.Sequential(nn.Linear(6, 4), *shared, nn.Linear(4, 4), *shared, nn.Linear(4, 2))


def images(*body: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(2, 3, 3), *(layer() for layer in body), nn.Tanh(), nn.Flatten(),
                                 nn.Linear(27, 2))  # fmt: skip


def tokens(*body: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(6, 4), *(layer() for layer in body), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    )


def rows(*body: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(6, 4), *(layer() for layer in body), nn.Linear(4, 2))


def sequences(*body: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv1d(2, 3, 3), *(layer() for layer in body), nn.Tanh(), nn.Flatten(),
                                 nn.Linear(12, 2))  # fmt: skip


# fmt: off
NORMS = [
    Wild("layer norm of a subclass", tokens(lambda: FastLayerNorm(4)), TOKENS),
    Wild("layer norm of a subclass, on rows", rows(lambda: FastLayerNorm(4), nn.Tanh), ROWS),
    Wild("layer norm over channels", images(lambda: LayerNorm2d(3, eps=0.01)), IMAGES),
    Wild("layer norm over channels by hand", images(lambda: ChannelsFirst(3)), IMAGES),
    Wild("layer norm in place of a group norm", images(lambda: GroupNorm1(3)), IMAGES),
    Wild("batch norm with its activation", images(lambda: BatchNormAct2d(3)), IMAGES),
    Wild("batch norm synchronised", images(lambda: nn.SyncBatchNorm(3)), IMAGES),
    Wild("batch norm of buffers", images(lambda: FrozenBatchNorm2d(3)), IMAGES),
    Wild("rms norm by hand", tokens(lambda: Rms(4)), TOKENS),
    Wild("rms norm by hand, from one", tokens(lambda: Rms(4, 1.0)), TOKENS),
    Wild("instance norm 1d", sequences(lambda: nn.InstanceNorm1d(3, affine=True, eps=0.1)), SEQUENCES),
    Wild("instance norm 2d", images(lambda: nn.InstanceNorm2d(3, affine=True, eps=0.1)), IMAGES),
    Wild("instance norm 2d, running statistics",
        images(lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True)), IMAGES),
    Wild("instance norm 3d", lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.InstanceNorm3d(2, affine=True, eps=0.1),
        nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)), (3, 1, 3, 3, 3)),
    Wild("response norm", images(lambda: Response(3)), IMAGES),
    Wild("dynamic tanh", tokens(lambda: DynamicTanh(4)), TOKENS),
    Wild("prelu of one slope", rows(nn.PReLU), ROWS),
    Wild("prelu of one slope, on images", images(nn.PReLU), IMAGES),
    Wild("prelu of channels, on images", images(lambda: nn.PReLU(3)), IMAGES),
    Wild("prelu of channels, on sequences", sequences(lambda: nn.PReLU(3)), SEQUENCES),
    Wild("prelu that sees nothing below zero", lambda: nn.Sequential(nn.Linear(6, 4), nn.Softplus(), nn.PReLU(),
        nn.Linear(4, 2)), ROWS),
    Wild("prelu used twice", lambda: Net(lambda net, x: net.b(net.slope(net.a(net.slope(x)))), slope=nn.PReLU(),
        a=nn.Linear(6, 4), b=nn.Linear(4, 2)), ROWS),
    Wild("one prelu at two places", one_prelu, ROWS),
    Wild("one norm and one scale at two places", one_norm, TOKENS),
    Wild("star relu", rows(StarReLU), ROWS),
    Wild("swish of channels", images(lambda: Swish(3)), IMAGES),
    Wild("splines", lambda: nn.Sequential(Spline(6, 4), nn.Tanh(), Spline(4, 2)), ROWS),
    Wild("layer scale on tokens", tokens(lambda: LayerScale(4)), TOKENS),
    Wild("layer scale on images", images(lambda: LayerScale(3, 1, 1)), IMAGES),
    Wild("layer scale in place", tokens(lambda: InPlaceScale(4)), TOKENS),
    Wild("layer scale of one number", tokens(lambda: LayerScale(1)), TOKENS),
    Wild("layer scale of a number without axes", tokens(lambda: LayerScale()), TOKENS),
    Wild("layer scale of a residual branch", lambda: Net(lambda net, x: net.head((x + net.scale(net.body(net.norm(x)))
        ).mean(1)), norm=nn.LayerNorm(6), body=nn.Linear(6, 6), scale=LayerScale(6), head=nn.Linear(6, 2)), TOKENS),
    Wild("modulated by the inputs", lambda: Net(modulated, condition=nn.Linear(6, 18), norm=nn.LayerNorm(6,
        elementwise_affine=False), body=nn.Linear(6, 6), head=nn.Linear(6, 2)), TOKENS),
    Wild("gated linear units", lambda: Net(lambda net, x: net.down(F.silu(net.gate(x)) * net.up(x)).mean(1),
        gate=nn.Linear(6, 5), up=nn.Linear(6, 5), down=nn.Linear(5, 2)), TOKENS),
]
# fmt: on
