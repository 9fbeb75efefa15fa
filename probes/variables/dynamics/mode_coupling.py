"""Cumulative coupling of the residual to the modes."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def mode_coupling(mode_weights: Float64[np.ndarray, " side"]) -> Float64[np.ndarray, " side"]:
    """Σ_{j≤k} c_j²/‖r‖², c_j = ⟨v_j, r⟩, by mode in the order of the eigenvalues; rises to 1; NaN for r = 0.

    What falls on the null space (λ_k = 0) is spread evenly over it.
    """
    total = mode_weights.sum()
    return np.cumsum(mode_weights) / (total if total != 0 else np.nan)


VARIABLE = Variable(
    "mode_coupling",
    version=1,
    source="modes of CV eq. 7-8",
    compute=mode_coupling,
    treatments=("full",),
    kind="profile",
)
