"""Alignment of the kernel with the labels."""

from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.formulas import alignment
from tangentscope.probes.variables.variable import Variable


def label_alignment(unit_kernel: Float64[Tensor, "side side"], label_vectors: Float64[Tensor, "side columns"]) -> float:
    """⟨Θ, yyᵀ⟩_F/(‖Θ‖_F ‖yyᵀ‖_F), uncentred (BSC eq. 16), in [0, 1]; NaN for the zero kernel or labels all 0.

    A full kernel against vec(Y)vec(Y)ᵀ; one between points, traced or summed, against the points' YYᵀ.
    """
    return alignment(unit_kernel, label_vectors)


VARIABLE = Variable("label_alignment", version=1, source="BSC eq. 16", compute=label_alignment)
