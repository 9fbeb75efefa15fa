"""VGG-16 (Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D), with one dense layer, for small images."""

from collections import OrderedDict
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from tangentscope.models.base import Model, ModelError, image_shape

# By stage, between two poolings: how many convolutions, and of how many times `width` channels.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
LEAST_SIDE = 2 ** len(STAGES)


class VGG16(Model, frozen=True):
    """Thirteen 3×3 convolutions in five stages, each closed by a 2×2 max-pooling, and one dense layer on their mean.

    As usual on 32×32 images, the three dense layers of the published network are one: after five poolings one position
    is left. Convolutions have torchvision's initialisation (He, by fan-out, biases zero); features have its names.

    Args:
        width: channels of the first stage; 64 is the published network.
        batch_norm: whether each convolution is followed by a batch normalisation.
    """

    name: Literal["vgg16"] = "vgg16"
    width: int = Field(default=64, ge=1)
    batch_norm: bool = True

    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """From images `[n, channels, height, width]`, of 32×32 or more, to `[n, outputs]`.

        Raises:
            ModelError: if the images are smaller.
        """
        channels, *sides = image_shape(input_shape, self.name)
        if min(sides) < LEAST_SIDE:
            raise ModelError(
                f"vgg16 pools five times and takes images of {LEAST_SIDE}×{LEAST_SIDE} or more, got "
                f"{sides[0]}×{sides[1]}: set task.pad (2 makes 28×28 fit) or choose another model"
            )
        layers: list[nn.Module] = []
        for count, multiple in STAGES:
            for _ in range(count):
                layers.append(nn.Conv2d(channels, channels := multiple * self.width, 3, padding=1))
                nn.init.kaiming_normal_(layers[-1].weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore
                nn.init.zeros_(layers[-1].bias)  # pyright: ignore
                layers += [nn.BatchNorm2d(channels)] if self.batch_norm else []
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))
        return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), classifier=pooled))
