"""How far one step on a new point moves the outputs at that point."""

import torch
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def new_point_step_outputs(point_blocks: Float64[Tensor, "N R R"], new_point_residual: Float64[Tensor, "N O"]) -> float:
    """Mean over the points of ‖Δf(x)‖/η = ‖Θ_xx r‖ of one small step of rate η on a point x with loss ln C.

    CV §3.1's late data, see ``new_point_step_parameters``.
    """
    return float(torch.einsum("nab,nb->na", point_blocks, new_point_residual).norm(dim=1).mean())


VARIABLE = Variable(
    "new_point_step_outputs", version=1, source="CV §3.1", compute=new_point_step_outputs, treatments=("full",)
)
