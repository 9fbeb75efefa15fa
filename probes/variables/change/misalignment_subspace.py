"""Rotation of the leading eigenspace."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import misaligned_subspace
from tangentscope.probes.variables.variable import Variable


def misalignment_subspace(
    eigenvectors: Float64[np.ndarray, "side side"],
    initial_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − ‖V_nᵀV'_n‖²_F/n, V' those at step 0 (BSC eq. 17, of subspaces), in [0, 1].

    n is ``misalignment_rank``; the chance level is 1 − n/side. NaN where the rank is undefined.
    """
    return misaligned_subspace(eigenvectors, initial_eigenvectors, misalignment_rank)


VARIABLE = Variable("misalignment_subspace", version=1, source="BSC eq. 17", compute=misalignment_subspace)
