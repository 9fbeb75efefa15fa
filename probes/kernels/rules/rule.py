"""What a rule is."""

from collections.abc import Callable
from dataclasses import dataclass

from probes.kernels.parts import Call, Part


@dataclass(frozen=True)
class Rule:
    """How one type of layer turns inputs and gradients at its outputs into per-sample gradients of its parameters.

    applies(call): whether ``part`` is exact for this call.
    part(call, names): the gradients of the layer's parameters ``names``, a subset of {"weight", "bias"}.
    joins(call): whether weight and bias make one part, cheaper than two.
    """

    applies: Callable[[Call], bool]
    part: Callable[[Call, frozenset[str]], Part]
    joins: Callable[[Call], bool] = lambda call: True
