"""Rotation of the leading eigenspace since the last measurement."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import misaligned_subspace
from tangentscope.probes.variables.variable import Variable


def misalignment_subspace_step(
    eigenvectors: Float64[np.ndarray, "side side"],
    previous_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − ‖V_nᵀV'_n‖²_F/n, V' those of the kernel measured before (BSC eq. 17, of subspaces), in [0, 1].

    n is ``misalignment_rank``; the chance level is 1 − n/side. NaN where the rank is undefined.
    """
    return misaligned_subspace(eigenvectors, previous_eigenvectors, misalignment_rank)


VARIABLE = Variable("misalignment_subspace_step", version=1, source="BSC eq. 17", compute=misalignment_subspace_step)
