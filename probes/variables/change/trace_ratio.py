"""Growth of the kernel's trace."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def trace_ratio(kernel: Float64[Tensor, "side side"], initial_kernel: Float64[Tensor, "side side"]) -> float:
    """(Tr Θ − Tr Θ_0)/Tr Θ_0, ≥ −1; NaN where Tr Θ_0 = 0.

    BSC eq. 5 is its value at the least test loss: ``tangentscope.probes.trajectories.curves.trace_ratio``.
    """
    before = float(initial_kernel.diagonal().sum())
    return ratio(float(kernel.diagonal().sum()) - before, before)


VARIABLE = Variable("trace_ratio", version=1, source="BSC eq. 5", compute=trace_ratio)
