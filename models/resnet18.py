"""ResNet-18 (He, Zhang, Ren, Sun 2015, arXiv 1512.03385), with the stem for small images."""

from math import gcd
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import Model, image_shape

Norm = Literal["batch", "group", "none"]
GROUPS = 32  # at most, as Wu and He 2018 have them


class ResNet18(Model, frozen=True):
    """Residual network of 18 layers whose first is a 3×3 convolution, without a pooling after it, for 32×32 images.

    Four stages of two blocks with `width`, 2·`width`, 4·`width` and 8·`width` channels; all but the first halve the
    sides of the image. Parameters have torchvision's names, and convolutions its initialisation (He, by fan-out).

    Args:
        width: channels of the first stage; 64 is the published network.
        norm: `batch` is the published one; `group` normalises each point by itself (Wu and He 2018: 32 groups, fewer in
            narrow layers, of two channels or more); `none` gives convolutions a bias instead, and lets activations
            grow by about √2 a block at the start.
    """

    name: Literal["resnet18"] = "resnet18"
    width: int = Field(default=64, ge=1)
    norm: Norm = "batch"

    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From images `[n, channels, height, width]` of any size to `[n, outputs]`."""
        channels, _, _ = image_shape(input_shape, self.name)
        network = _ResNet(channels, outputs, self.width, self.norm)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        return network


class _ResNet(nn.Module):
    def __init__(self, channels: int, outputs: int, width: int, norm: Norm):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, width, norm), _norm(width, norm)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(_Block(width, width, 1, norm), _Block(width, width, 1, norm))
        self.layer2 = nn.Sequential(_Block(width, 2 * width, 2, norm), _Block(2 * width, 2 * width, 1, norm))
        self.layer3 = nn.Sequential(_Block(2 * width, 4 * width, 2, norm), _Block(4 * width, 4 * width, 1, norm))
        self.layer4 = nn.Sequential(_Block(4 * width, 8 * width, 2, norm), _Block(8 * width, 8 * width, 1, norm))
        self.fc = nn.Linear(8 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class _Block(nn.Module):
    """Two convolutions beside a path that leaves the image as it is or, where its shape changes, projects it."""

    def __init__(self, channels: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, width, norm, stride), _norm(width, norm)
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = _conv(width, width, norm), _norm(width, norm)
        project = stride != 1 or channels != width
        projection = [_conv(channels, width, norm, stride, kernel=1), _norm(width, norm)] if project else []
        self.downsample = nn.Sequential(*projection)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(residual + self.downsample(x))


def _conv(channels: int, width: int, norm: Norm, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    # A normalisation has a shift of its own.
    return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=norm == "none")


def _norm(width: int, norm: Norm) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "none":
        return nn.Identity()
    groups = gcd(GROUPS, width)
    # A group of a single channel would lose that channel's mean, which is all that the last layer reads.
    return nn.GroupNorm(groups if groups < width else max(1, width // 2), width)
