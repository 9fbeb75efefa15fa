"""How far one step on a new point moves the parameters."""

import torch
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def new_point_step_parameters(
    point_blocks: Float64[Tensor, "N R R"], new_point_residual: Float64[Tensor, "N O"]
) -> float:
    """Mean over the points of ‖Δθ‖/η = sqrt(rᵀ Θ_xx r) of one small step of rate η on a point with loss ln C.

    CV §3.1's late data: the cross-entropy is the same for all points, networks and times, so that a change is due to
    the state of the network alone; r is its residual there (``new_point_residual``).
    """
    squares = torch.einsum("na,nab,nb->n", new_point_residual, point_blocks, new_point_residual)
    return float(squares.clamp(min=0).sqrt().mean())


VARIABLE = Variable(
    "new_point_step_parameters", version=1, source="CV §3.1", compute=new_point_step_parameters, treatments=("full",)
)
