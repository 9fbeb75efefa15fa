"""What a rule is."""

from collections.abc import Callable
from dataclasses import dataclass

from tangentscope.probes.kernels.gradients.per_sample import Part, Use


@dataclass(frozen=True)
class Rule:
    """How one kind of node turns gradients at its output into per-sample gradients of what it takes.

    part(use, place): the gradient of the tensor taken there, in its own coordinates; None where the rule does not
    reach (another rule does then).
    bias: the place of a tensor whose part can be taken along with that at the ``weight``: ``joint(use)`` gives both as
    one, or None where two are cheaper or the rule does not reach.
    """

    part: Callable[[Use, int], Part | None]
    weight: int | None = None
    bias: int | None = None
    joint: Callable[[Use], Part | None] = lambda use: None
