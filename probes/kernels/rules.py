"""The table of exact rules, one per layer type; parameters no rule covers go to per-sample Jacobians.

To add a rule, write one file with the two functions below and add one line to ``RULES``. Types match exactly: a
subclass may compute anything in its ``forward``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from probes.kernels import linear


@dataclass(frozen=True)
class Rule:
    """One layer type's share of the kernel, from its inputs and the gradients at its outputs.

    applies(module, inputs, outputs_shape): whether the rule is exact for this use of the layer, given the layer's
    inputs and the shape of its outputs, both with the N data points first.

    add_kernel(kernel [N, R, N, R], module, inputs [N, ...], gradients [N, R, C, ...]): adds in place, counting only
    parameters with requires_grad. ``gradients`` are those of the R·C scalar functions of each point with respect to
    the layer's outputs; axis C is summed over. Entries below the diagonal of the flattened [N·R, N·R] kernel need
    not be right: the engine mirrors the upper triangle once at the end.
    """

    applies: Callable[[nn.Module, Tensor, tuple[int, ...]], bool]
    add_kernel: Callable[[Tensor, nn.Module, Tensor, Tensor], None]


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: Rule(linear.applies, linear.add_kernel),
}
