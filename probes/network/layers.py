"""What a network is made of, looked up once for each computation: neither modules nor parameters change during it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from tangentscope.probes.network.checks import Chosen, trainable_parameters


@dataclass(frozen=True)
class Anatomy:
    """A network and its trainable parameters by name, tied ones by their first one's."""

    model: nn.Module
    trainable: dict[str, nn.Parameter]

    @classmethod
    def of(cls, model: nn.Module, chosen: Chosen = None) -> "Anatomy":
        """Of a network as it is now; only the parameters that are ``chosen`` count as trainable.

        Raises:
            ValueError, TypeError: see ``trainable_parameters``.
        """
        return cls(model, trainable_parameters(model, chosen))

    @property
    def device(self) -> torch.device:
        """Where all of it lies."""
        return next(iter(self.trainable.values())).device

    @cached_property
    def modules(self) -> list[nn.Module]:
        """All of them, the network itself first."""
        return list(self.model.modules())

    @cached_property
    def names(self) -> dict[int, str]:
        """Names of the trainable parameters, by id."""
        return {id(parameter): name for name, parameter in self.trainable.items()}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Types of all modules, by name and in their order."""
        return {name: type(module).__name__ for name, module in self.model.named_modules()}

    @cached_property
    def hooked(self) -> bool:
        """Whether modules have hooks on their gradients."""
        everywhere = nn.modules.module
        if everywhere._global_backward_hooks or everywhere._global_backward_pre_hooks:
            return True
        return any(module._backward_hooks or module._backward_pre_hooks for module in self.modules)

    @cached_property
    def code(self) -> int:
        """Hash of the classes and functions that the network is made of, and of how many hooks it has."""
        return hash(tuple(_code(module) for module in self.modules))

    @cached_property
    def rounding(self) -> float:
        """How much of the largest entry rounding may make out, in the least precise of the trainable parameters."""
        return max(torch.finfo(parameter.dtype).eps for parameter in self.trainable.values()) ** 0.5

    @cached_property
    def rounds_elsewhere(self) -> bool:
        """Whether frozen parameters are less precise than all trainable ones."""
        frozen = [p for p in self.model.parameters() if p.is_floating_point() and not p.requires_grad]
        return any(torch.finfo(parameter.dtype).eps ** 0.5 > self.rounding for parameter in frozen)


def _code(module: nn.Module) -> tuple[object, ...]:
    own = [getattr(value, "__code__", None) for value in vars(module).values()]
    hooks = len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)
    forward = getattr(type(module), "forward", None)
    return type(module), getattr(forward, "__code__", None), *filter(None, own), *hooks
