"""What every model has: a frozen config that builds a module. And what several share: activations, initialisations."""

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field
from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "identity"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}

Codes = Mapping[str, tuple[int, ...]]
"""Of each part of an input, how many codes each of its features has."""

Init = Literal["lecun", "lecun_uniform", "he", "he_uniform", "xavier", "xavier_uniform", "standard", "ntk"]


Depth = Annotated[int, Field(ge=1, le=10_000)]
"""How many layers or blocks: each is a module, which takes time and memory before it has any parameters."""


class ModelError(ValueError):
    """A network that cannot be built for a task's data: one line with what was got and expected, and what to do."""


class Model(BaseModel, frozen=True, extra="forbid"):
    """The fields of an architecture, as a study file gives them.

    A subclass sets `name` to a `Literal` with its key in `models.MODELS`, and `version` to an integer that goes up
    whenever the same fields and seed begin to mean another network: both are part of a run's identity. It overrides
    `build`, `build_for_codes` or, if it takes both kinds of inputs, both.
    """

    name: str
    version: ClassVar[int]

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A freshly initialised network that maps numbers `[n, *input_shape]` to `[n, outputs]`.

        All randomness comes from torch's global generator: `torch.manual_seed` before the call fixes every parameter.

        Raises:
            ModelError: if there is no such network for inputs of this shape.
        """
        raise ModelError(f"{self.name} takes codes, such as words, got numbers: choose another task or model")

    def build_for_codes(self, input_shape: tuple[int, ...], outputs: int, codes: Codes) -> nn.Module:
        """The same for inputs that are whole numbers from 0, which stand for words, atoms and the like.

        Args:
            input_shape, outputs: as in `build`; of a network that labels each place of a sequence, for each place.
            codes: of each part of an input, how many codes each of its features has.

        Raises:
            ModelError: if there is no such network for inputs of this shape or these parts.
        """
        raise ModelError(f"{self.name} takes numbers, got codes ({', '.join(codes)}): choose another task or model")

    def network(self, input_shape: Sequence[int], outputs: int, codes: Mapping[str, Sequence[int]]) -> nn.Module:
        """The one of `build` and `build_for_codes` that a task's data ask for: the former where there are no codes."""
        if not codes:
            return self.build(tuple(input_shape), outputs)
        return self.build_for_codes(tuple(input_shape), outputs, {part: tuple(n) for part, n in codes.items()})


def image_shape(input_shape: tuple[int, ...], model: str) -> tuple[int, int, int]:
    """Channels, height and width of one input.

    Raises:
        ModelError: if inputs are no images.
    """
    if len(input_shape) != 3:
        raise ModelError(
            f"{model} takes images [channels, height, width], got inputs of shape {list(input_shape)}: "
            "choose another task or model"
        )
    channels, height, width = input_shape
    return channels, height, width


def initialise(layer: nn.Linear | nn.Conv2d, init: Init) -> None:
    """Draw the weights of a new layer from the distribution that `init` names (see `MLP`); biases become zero.

    `standard` leaves the layer as torch made it. `ntk` needs a `Scale` of `1/√fan_in` before the layer.
    """
    if init == "standard" or layer.weight.is_meta:  # nothing to draw; torch would import its compiler to do it
        return
    outputs, *window = layer.weight.shape
    fan_in, fan_out = prod(window), outputs * prod(window[1:])
    variance = {
        "lecun": 1 / fan_in,
        "he": 2 / fan_in,
        "xavier": 2 / (fan_in + fan_out),
        "ntk": 1.0,
    }[init.removesuffix("_uniform")]
    if init.endswith("_uniform"):
        bound = sqrt(3 * variance)
        nn.init.uniform_(layer.weight, -bound, bound)
    else:
        nn.init.normal_(layer.weight, std=sqrt(variance))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Scale(nn.Module):
    """Multiplies its input by a constant.

    The NTK parameterisation is this in front of a plain layer, rather than a layer of its own, so that whatever has a
    rule for the plain layer has one for these too.
    """

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """`factor · x`, of the shape of `x`."""
        return self.factor * x

    def extra_repr(self) -> str:
        """The factor, for `print(module)`."""
        return f"factor={self.factor:.4g}"


def models_among(names: Mapping[str, Any]) -> dict[str, type[Model]]:
    """The models among a module's names, by what study files call them; a base class has no such name."""
    classes = [value for value in names.values() if isinstance(value, type) and issubclass(value, Model)]
    return {name: each for each in classes if isinstance(name := each.model_fields["name"].default, str)}
