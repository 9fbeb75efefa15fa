"""What every model has: a frozen config that builds a module."""

from abc import abstractmethod
from typing import ClassVar

from pydantic import BaseModel
from torch import nn


class Model(BaseModel, frozen=True, extra="forbid"):
    """The fields of an architecture, as a study file gives them.

    A subclass sets `name` to a `Literal` with its key in `models.MODELS`, and `version` to an integer that goes up
    whenever the same fields and seed begin to mean another network: both are part of a run's identity.
    """

    name: str
    version: ClassVar[int]

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """A freshly initialised network that maps `[n, *input_shape]` to `[n, outputs]`.

        All randomness comes from torch's global generator: `torch.manual_seed` before the call fixes every parameter.
        """
