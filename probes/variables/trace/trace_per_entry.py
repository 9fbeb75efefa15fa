"""Mean diagonal entry of the kernel."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def trace_per_entry(kernel: Float64[Tensor, "side side"]) -> float:
    """Tr Θ / side, so that kernels of different numbers of points compare; in the kernel's unit, ≥ 0."""
    return float(kernel.diagonal().mean())


VARIABLE = Variable("trace_per_entry", version=1, source="CV eq. 10, per row", compute=trace_per_entry)
