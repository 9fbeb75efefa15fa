"""Convolutional networks of any width and depth: blocks of a convolution and a pooling, then dense layers."""

from collections import OrderedDict
from math import sqrt
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from tangentscope.models.base import ACTIVATIONS, Activation, Depth, Init, Model, Scale, image_shape, initialise

KERNEL = 3
LEAST_SIDE = 4  # smaller maps are not pooled: a deep network would have nothing left


class CNN(Model, frozen=True):
    """`depth` blocks of a 3×3 convolution with `width` channels, an activation and a 2×2 pooling; then dense layers.

    The family of CV fig. 1 (width, depth, activation), and with `width: 32, depth: 3, hidden: 64` the network of BSC's
    noise scaling. Convolutions keep the side of their input; a block pools as long as both sides are at least 4, so
    that depth is not bounded by the size of the images: 28 becomes 14, 7, 3 and stays there.

    Args:
        width: channels of every convolution.
        depth: how many convolutions.
        hidden: units of a dense layer between the last block and the outputs; 0 for none.
        activation: after each convolution and the hidden dense layer.
        init: distribution of the weights as in `MLP`, where the fans of a convolution are its channels times its window
            of 9; biases start at zero except in `standard`.
        pooling: what a pooling takes of its four values.
    """

    name: Literal["cnn"] = "cnn"
    width: int = Field(ge=1)
    depth: Depth = 3
    hidden: int = Field(default=0, ge=0)
    activation: Activation = "relu"
    init: Init = "lecun"
    pooling: Literal["max", "average"] = "max"

    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """From images `[n, channels, height, width]` to `[n, outputs]`, with parameters `conv_1.weight` and so on."""
        channels, *sides = image_shape(input_shape, self.name)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, self.depth + 1):
            self._add(modules, f"conv_{number}", nn.Conv2d(channels, self.width, KERNEL, padding="same"))
            modules[f"activation_{number}"] = ACTIVATIONS[self.activation]()
            channels = self.width
            if min(sides) >= LEAST_SIDE:
                modules[f"pool_{number}"] = nn.MaxPool2d(2) if self.pooling == "max" else nn.AvgPool2d(2)
                sides = [side // 2 for side in sides]
        modules["flatten"] = nn.Flatten()
        features = channels * sides[0] * sides[1]
        if self.hidden:
            self._add(modules, "hidden", nn.Linear(features, self.hidden))
            modules["hidden_activation"] = ACTIVATIONS[self.activation]()
            features = self.hidden
        self._add(modules, "head", nn.Linear(features, outputs))
        return nn.Sequential(modules)

    def _add(self, modules: OrderedDict[str, nn.Module], name: str, layer: nn.Linear | nn.Conv2d) -> None:
        if self.init == "ntk":
            modules[f"{name}_scale"] = Scale(1 / sqrt(layer.weight[0].numel()))
        initialise(layer, self.init)
        modules[name] = layer
