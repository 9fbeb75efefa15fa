"""What a network is made of, looked up once for each computation: neither modules nor parameters change during it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from probes.kernels.checks import trainable_parameters
from probes.kernels.rules import rule_of
from probes.kernels.rules.rule import Rule


@dataclass(frozen=True)
class Layer:
    """A module that has a rule, and its trainable parameters by their names in it."""

    rule: Rule
    parameters: dict[str, nn.Parameter]


@dataclass(frozen=True)
class Anatomy:
    """A network and its trainable parameters by name, tied ones by their first one's."""

    model: nn.Module
    trainable: dict[str, nn.Parameter]

    @classmethod
    def of(cls, model: nn.Module) -> "Anatomy":
        """Of a network as it is now.

        Raises:
            ValueError, TypeError: see ``trainable_parameters``.
        """
        return cls(model, trainable_parameters(model))

    @property
    def device(self) -> torch.device:
        """Where all of it lies."""
        return next(iter(self.trainable.values())).device

    @cached_property
    def names(self) -> dict[int, str]:
        """Names of the trainable parameters, by id."""
        return {id(parameter): name for name, parameter in self.trainable.items()}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Types of all modules, by name and in their order."""
        return {name: type(module).__name__ for name, module in self.model.named_modules()}

    @cached_property
    def layers(self) -> dict[nn.Module, Layer]:
        """The modules that have a rule and trainable parameters."""
        layers = {}
        for module in self.model.modules():
            own = {name: p for name, p in module._parameters.items() if p is not None and p.requires_grad}
            if own and (rule := rule_of(module)):
                layers[module] = Layer(rule, own)
        return layers

    @cached_property
    def rounding(self) -> float:
        """How much of the largest entry rounding may make out, in the least precise of the parameters."""
        floating = {p.dtype for p in self.model.parameters() if p.is_floating_point()}
        return max(torch.finfo(dtype).eps for dtype in floating) ** 0.5
