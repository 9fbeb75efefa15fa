"""Distance of the kernel from the initial one."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.formulas import cosine_distance, normalised
from tangentscope.probes.variables.variable import Variable


def kernel_distance(unit_kernel: Float64[Tensor, "side side"], initial_kernel: Float64[Tensor, "side side"]) -> float:
    """1 − ⟨Θ, Θ_0⟩_F/(‖Θ‖_F ‖Θ_0‖_F), Θ_0 the kernel at step 0, in [0, 1]; NaN where either is the zero kernel."""
    return cosine_distance(unit_kernel, normalised(initial_kernel))


VARIABLE = Variable("kernel_distance", version=1, source="Fort et al. 2020", compute=kernel_distance)
