"""Linear layers: rows are the vectors that the layer sees, one or many a point."""

import math

from torch import Tensor

from probes.kernels.factors import Dense
from probes.kernels.parts import Call, Direct, Outer, Part, with_ones


def applies(call: Call) -> bool:
    """The features lie in the last dimension, the points in another."""
    return call.inputs.dim() >= 2 and call.layout.dim < call.inputs.dim() - 1


def part(call: Call, names: frozenset[str]) -> Part:
    """A: the rows; B: the gradients at the outputs."""
    d_o = call.outputs_shape[-1]

    def rows(values: Tensor) -> Tensor:  # [N, T, d]
        return values.flatten(1, -2)

    if names == {"bias"}:
        return Direct(d_o, lambda: lambda gradients: rows(call.layout.arrange(gradients)).sum(1))

    def factor() -> Dense:
        values = rows(call.arranged())[:, None]
        return Dense(with_ones(values) if "bias" in names else values)

    *leading, d_i = call.rows
    return Outer(
        groups=1,
        inputs=d_i + ("bias" in names),
        outputs=d_o,
        rows=math.prod(leading),
        factor=factor,
        gradients=lambda gradients: rows(call.layout.arrange(gradients)).transpose(1, 2)[:, None],
    )
