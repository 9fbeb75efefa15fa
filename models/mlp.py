"""Dense networks of any width and depth, in the standard and in the NTK parameterisation."""

from collections import OrderedDict
from itertools import pairwise
from math import prod, sqrt
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from tangentscope.models.base import ACTIVATIONS, Activation, Depth, Init, Model, Scale, initialise

ScaleFactor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MLP(Model, frozen=True):
    """`depth` dense layers, `width` units in each hidden one, an activation between each two.

    `depth` counts weight layers: depth 3 on MNIST is 784-width-width-10, depth 1 is a linear model that ignores
    `width`.

    `init` names the distribution of the weights; biases start at zero, except in `standard`:

    | init                  | weights                                                                            |
    | --------------------- | ---------------------------------------------------------------------------------- |
    | `lecun`               | N(0, 1/fan_in)                                                                     |
    | `he`                  | N(0, 2/fan_in)                                                                     |
    | `xavier`              | N(0, 2/(fan_in + fan_out))                                                         |
    | `..._uniform`         | uniform and centred, of the same variance                                          |
    | `standard`            | torch's own for `nn.Linear`: weights and biases U(-1/√fan_in, 1/√fan_in)           |
    | `ntk`                 | N(0, 1), in layers that compute W x/√fan_in + b (Jacot et al. 2018, with β = 1)    |

    `ntk` starts as the same function as `lecun` but trains differently: its tangent kernel has a limit as the width
    grows.

    Args:
        width, depth, activation, init, bias: see above.
        input_scale, weight_scale, output_scale: what inputs, all parameters at the start, and outputs are multiplied by
            (Nam Table 6.1): with a smaller one networks move from lazy to rich training, or the other way.
    """

    name: Literal["mlp"] = "mlp"
    width: int = Field(ge=1)
    depth: Depth = 3
    activation: Activation = "relu"
    init: Init = "lecun"
    bias: bool = True
    input_scale: ScaleFactor = 1.0
    weight_scale: ScaleFactor = 1.0
    output_scale: ScaleFactor = 1.0

    version: ClassVar[int] = 1

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Sequential:
        """A dense network from `[n, *input_shape]` to `[n, outputs]`, with parameters `linear_1.weight` and so on."""
        sizes = [prod(input_shape), *[self.width] * (self.depth - 1), outputs]
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        if self.input_scale != 1:
            modules["input_scale"] = Scale(self.input_scale)
        for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
            if number > 1:
                modules[f"activation_{number - 1}"] = ACTIVATIONS[self.activation]()
            if self.init == "ntk":
                modules[f"scale_{number}"] = Scale(1 / sqrt(fan_in))
            layer = nn.Linear(fan_in, fan_out, bias=self.bias)
            initialise(layer, self.init)
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter *= self.weight_scale
            modules[f"linear_{number}"] = layer
        if self.output_scale != 1:
            modules["output_scale"] = Scale(self.output_scale)
        return nn.Sequential(modules)
