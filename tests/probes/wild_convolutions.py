"""Convolutions that are not as they were built, and those whose arguments are words."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from kernel_graphs import Net
from torch import Tensor, nn
from wild_case import Wild

SEQUENCES, IMAGES, VOLUMES = (3, 2, 7), (3, 2, 6, 6), (2, 2, 4, 4, 4)


def network(body: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    """A layer and a dense head on all that it puts out, so that every position counts differently."""

    def build() -> nn.Module:
        model = nn.Sequential(body(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
        model.eval()(torch.zeros(shape))
        return model.train()

    return build


def changed(layer: nn.Module, **attributes: object) -> nn.Module:
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


def put_in(layer: nn.Module, bias: int | None = None, **attributes: object) -> nn.Module:
    """The layer with a weight of another shape, or another bias."""
    shape = attributes.pop("weight", layer.weight.shape)
    layer.weight = nn.Parameter(0.3 * torch.randn(shape))
    layer.bias = layer.bias if bias is None else nn.Parameter(torch.zeros(bias))
    return changed(layer, **attributes)


class Standardised(nn.Conv2d):
    """Weight standardisation, as Big Transfer's networks have it."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (deviation + 1e-5), self.bias)


class SamePadded(nn.Conv2d):
    """Padded as TensorFlow does, which depends on the size of the images."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Masked(nn.Conv2d):
    """PixelCNN's, whose weight is masked in place before every call."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones_like(self.weight)
        mask[:, :, 1, 1:] = 0
        mask[:, :, 2:] = 0
        self.weight.data *= mask
        return super().forward(x)


class Causal(nn.Conv1d):
    """WaveNet's: padded on both sides, cut on one."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, : -self.padding[0]]


class Partial(nn.Conv2d):
    """Renormalised where the window leaves the image."""

    def forward(self, x: Tensor) -> Tensor:
        seen = F.conv2d(torch.ones_like(x[:1, :1]), torch.ones_like(self.weight[:1, :1]), padding=self.padding)
        return (super().forward(x) - self.bias[:, None, None]) * 9 / seen + self.bias[:, None, None]


def dilated(net: nn.Module) -> nn.Module:
    """As segmentation takes the last strides of a residual network away."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            module.dilation = (2, 2)
            kernel, _ = module.kernel_size
            module.padding = (kernel // 2) * 2, (kernel // 2) * 2
    return net


def case(name: str, layer: Callable[[], nn.Module], shape: tuple[int, ...], **attributes: object) -> Wild:
    return Wild(name, network(lambda: changed(layer(), **attributes), shape), shape)


# fmt: off
CONVOLUTIONS = [
    Wild("conv2d dilated afterwards", lambda: nn.Sequential(changed(nn.Conv2d(2, 2, 3, padding=1), dilation=(2, 2),
        padding=(2, 2)), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()), (3, 2, 8, 8)),
    Wild("conv2d padded the other way", lambda: nn.Sequential(changed(nn.Conv2d(2, 2, 3, padding=(2, 0)),
        padding=(0, 2)),
        nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()), (3, 2, 8, 8)),
    Wild("residual network dilated afterwards", lambda: dilated(nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1, bias=False),
        nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(3, 2))), IMAGES),
    case("conv1d, padding changed", lambda: nn.Conv1d(2, 3, 3), SEQUENCES, padding=(2,)),
    case("conv1d, dilation changed", lambda: nn.Conv1d(2, 3, 3, padding=1), SEQUENCES, dilation=(2,)),
    case("conv1d, dilation and padding changed", lambda: nn.Conv1d(2, 3, 3, padding=1), SEQUENCES, dilation=(2,),
        padding=(2,)),
    case("conv1d, stride changed", lambda: nn.Conv1d(2, 3, 3, padding=1), SEQUENCES, stride=(2,)),
    case("conv1d, padding taken away", lambda: nn.Conv1d(2, 3, 3, padding=2), SEQUENCES, padding=(0,)),
    case("conv1d, padding as a number", lambda: nn.Conv1d(2, 3, 3), SEQUENCES, padding=1),
    case("conv1d, padding as a word", lambda: nn.Conv1d(2, 3, 4), SEQUENCES, padding="same"),
    case("conv1d, same taken away", lambda: nn.Conv1d(2, 3, 3, padding="same"), SEQUENCES, padding=(0,)),
    case("conv1d, valid made same", lambda: nn.Conv1d(2, 3, 2, padding="valid"), SEQUENCES, padding="same"),
    case("conv1d, zeros made circular", lambda: nn.Conv1d(2, 3, 3, padding=2), SEQUENCES, padding_mode="circular"),
    case("conv1d, circular made zeros", lambda: nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular"), SEQUENCES,
        padding_mode="zeros"),
    case("conv2d, padding changed", lambda: nn.Conv2d(2, 3, 3), IMAGES, padding=(1, 2)),
    case("conv2d, stride changed", lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), IMAGES, stride=(1, 1)),
    case("conv2d, everything as numbers", lambda: nn.Conv2d(2, 3, 2), IMAGES, padding=2, stride=2, dilation=2),
    case("conv2d, zeros made reflect and padding changed", lambda: nn.Conv2d(2, 3, 3, padding=1), IMAGES,
        padding_mode="reflect", padding=(2, 2)),
    case("conv2d, circular, padding changed", lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), IMAGES,
        padding=(2, 2)),
    case("conv2d, replicate made zeros", lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate"), IMAGES,
        padding_mode="zeros", padding=(1, 2)),
    case("conv2d, even kernel, same", lambda: nn.Conv2d(2, 3, (4, 2), padding="same"), IMAGES),
    case("conv2d, even kernel, same, reflect", lambda: nn.Conv2d(2, 3, (4, 2), padding="same", padding_mode="reflect"),
        IMAGES),
    case("conv2d, even kernel, same, dilated afterwards", lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), IMAGES,
        dilation=(3, 1)),
    case("conv2d, even kernel, same, groups", lambda: nn.Conv2d(2, 4, 2, padding="same", groups=2), IMAGES),
    case("conv2d, groups changed", lambda: put_in(nn.Conv2d(2, 4, 3, padding=1), groups=2, weight=(4, 1, 3, 3)),
        IMAGES),
    case("conv2d, groups changed back", lambda: put_in(nn.Conv2d(2, 4, 3, padding=1, groups=2), groups=1,
        weight=(4, 2, 3, 3)), IMAGES),
    case("conv2d, larger kernel put in", lambda: put_in(nn.Conv2d(2, 3, 3, padding=1), weight=(3, 2, 5, 5)), IMAGES),
    case("conv2d, fewer channels put in", lambda: put_in(nn.Conv2d(3, 3, 3, padding=1), weight=(3, 2, 3, 3)), IMAGES),
    case("conv2d, more outputs put in", lambda: put_in(nn.Conv2d(2, 3, 3), weight=(5, 2, 3, 3), bias=5), IMAGES),
    case("conv2d, bias put in", lambda: put_in(nn.Conv2d(2, 3, 3, bias=False), bias=3), IMAGES),
    case("conv2d, bias taken away", lambda: nn.Conv2d(2, 3, 3), IMAGES, bias=None),
    case("conv3d, padding changed", lambda: nn.Conv3d(2, 2, 3), VOLUMES, padding=(1, 0, 2)),
    case("conv3d, dilation and padding changed", lambda: nn.Conv3d(2, 2, 2, padding=1), VOLUMES, dilation=(2, 1, 2),
        padding=(1, 0, 1)),
    case("conv3d, even kernel, same", lambda: nn.Conv3d(2, 2, 2, padding="same"), VOLUMES),
    case("conv3d, zeros made replicate", lambda: nn.Conv3d(2, 2, 2, padding=1), VOLUMES, padding_mode="replicate"),
    case("transposed conv1d, padding and stride changed", lambda: nn.ConvTranspose1d(2, 3, 3), SEQUENCES, stride=(2,),
        padding=(1,)),
    case("transposed conv1d, dilation changed", lambda: nn.ConvTranspose1d(2, 3, 3, stride=2), SEQUENCES,
        dilation=(2,)),
    case("transposed conv2d, padding changed", lambda: nn.ConvTranspose2d(2, 3, 3, padding=(1, 0)), IMAGES,
        padding=(0, 1)),
    case("transposed conv2d, stride and rest changed", lambda: nn.ConvTranspose2d(2, 3, 3), IMAGES, stride=(2, 1),
        output_padding=(1, 0)),
    case("transposed conv2d, groups changed", lambda: put_in(nn.ConvTranspose2d(2, 4, 2), groups=2,
        weight=(2, 2, 2, 2)), IMAGES),
    case("transposed conv3d, padding and dilation changed", lambda: nn.ConvTranspose3d(2, 2, 2), VOLUMES,
        padding=(1, 1, 0),
        dilation=(2, 1, 1)),
    case("conv2d of standardised weights", lambda: Standardised(2, 3, 3, padding=1), IMAGES),
    case("conv2d padded as its images need", lambda: SamePadded(2, 3, 3, stride=2), IMAGES),
    case("conv2d masked in place", lambda: Masked(2, 3, 3, padding=1), IMAGES),
    case("conv2d of partial windows", lambda: Partial(2, 3, 3, padding=1), IMAGES),
    case("conv1d, causal", lambda: Causal(2, 3, 3, padding=2), SEQUENCES),
    case("conv2d over images without a batch", lambda: Net(lambda net, x: torch.stack([net.conv(image) for image in x]),
        conv=changed(nn.Conv2d(2, 3, 3), padding=(2, 2))), IMAGES),
    case("conv1d, lazy, padding changed", lambda: changed(nn.LazyConv1d(3, 3), padding=(2,)), SEQUENCES),
]
# fmt: on
