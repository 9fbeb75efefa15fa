"""Trace of the kernel."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def trace(kernel: Float64[Tensor, "side side"]) -> float:
    """Tr Θ = Σ Θ_ii over all rows of the kernel (CV eq. 10), in the kernel's unit, ≥ 0."""
    return float(kernel.diagonal().sum())


VARIABLE = Variable("trace", version=1, source="CV eq. 10", compute=trace)
