"""CV's estimate of the kinetic energy."""

import torch
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def kinetic_energy_bound(point_blocks: Float64[Tensor, "N R R"], residual: Float64[Tensor, "N O"]) -> float:
    """Mean over the points of ½ Tr Θ_ii Σ_p ‖∂L(x_p)/∂θ‖², m_i = 1 (CV eq. 11); ‖∂L(x_p)/∂θ‖² = r_pᵀΘ_pp r_p.

    It bounds ``kinetic_energy`` where the points' gradients do not reinforce each other, ‖Σ_p g_p‖² ≤ Σ_p ‖g_p‖²;
    N times it always does.
    """
    traces = point_blocks.diagonal(dim1=1, dim2=2).sum(1)
    gradients = torch.einsum("na,nab,nb->", residual, point_blocks, residual)
    return float(traces.mean() * gradients) / 2


VARIABLE = Variable(
    "kinetic_energy_bound", version=1, source="CV eq. 11", compute=kinetic_energy_bound, treatments=("full",)
)
