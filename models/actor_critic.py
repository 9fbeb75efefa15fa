"""Actor and critic in one network: logits of the actions, and the value of a state as the last output."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tangentscope.models.base import ACTIVATIONS, Activation, Model, ModelError, image_shape, initialise

Positive = Annotated[int, Field(ge=1)]


class ActorCritic(Model, frozen=True):
    """Convolutions and dense layers with an actor and a critic on top: one trunk for both, or one for each.

    `convolutions` are (channels, window, stride), by default smaller than in Mnih et al. 2013 as frames are;
    none for inputs that are no images. Where windows would not reach the lower or right edge, zeros are added there.
    `hidden` are the widths of the dense layers that follow.
    """

    name: Literal["actor_critic"] = "actor_critic"
    trunk: Literal["shared", "separate"] = "shared"
    convolutions: tuple[tuple[Positive, Positive, Positive], ...] = ((16, 8, 4), (32, 4, 2))
    hidden: tuple[Positive, ...] = (256,)
    activation: Activation = "relu"
    init: Literal["lecun", "he", "xavier", "standard"] = "lecun"
    version: ClassVar[int] = 2

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Maps states `[n, *input_shape]` to `[n, outputs]`: `outputs − 1` logits, then the value."""
        if outputs < 2:
            raise ModelError(f"{self.name} needs an action and a value, got {outputs} output: choose another task")
        if self.trunk == "shared":
            trunk, width = self._trunk(input_shape)
            return _Shared(trunk, self._head(width, outputs - 1), self._head(width, 1))
        towers = []
        for count in (outputs - 1, 1):
            trunk, width = self._trunk(input_shape)
            towers.append(nn.Sequential(*trunk, self._head(width, count)))
        return _Separate(*towers)

    def _trunk(self, input_shape: tuple[int, ...]) -> tuple[nn.Sequential, int]:
        layers: list[nn.Module] = []
        if self.convolutions:
            channels, height, width = image_shape(input_shape, self.name)
            for into, window, stride in self.convolutions:
                if window > min(height, width):
                    raise ModelError(
                        f"{self.name}: a window of {window} pixels on a map of {height}×{width}: give smaller windows, "
                        "strides or fewer convolutions"
                    )
                # Or else a tenth of an Atari frame was unseen, and with it all that moves along the lower edge.
                below, right = (window - height) % stride, (window - width) % stride
                if below or right:
                    layers.append(nn.ZeroPad2d((0, right, 0, below)))
                layers += [nn.Conv2d(channels, into, window, stride), ACTIVATIONS[self.activation]()]
                height, width = (height + below - window) // stride + 1, (width + right - window) // stride + 1
                channels = into
            input_shape = (channels, height, width)
        layers.append(nn.Flatten())
        size = torch.Size(input_shape).numel()
        for wide in self.hidden:
            layers += [nn.Linear(size, wide), ACTIVATIONS[self.activation]()]
            size = wide
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                initialise(layer, self.init)
        return nn.Sequential(*layers), size

    def _head(self, width: int, outputs: int) -> nn.Linear:
        head = nn.Linear(width, outputs)
        initialise(head, self.init)
        return head


class _Shared(nn.Module):
    def __init__(self, trunk: nn.Module, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = trunk, actor, critic

    def forward(self, states: Tensor) -> Tensor:
        features = self.trunk(states)
        return torch.cat([self.actor(features), self.critic(features)], 1)


class _Separate(nn.Module):
    def __init__(self, actor: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, states: Tensor) -> Tensor:
        return torch.cat([self.actor(states), self.critic(states)], 1)
