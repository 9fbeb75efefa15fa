"""The residual's projections on the modes, times their eigenvalues."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def projection_factors(
    eigenvalues: Float64[np.ndarray, " side"], projections: Float64[np.ndarray, " side"]
) -> Float64[np.ndarray, " side"]:
    """λ_k ⟨v_k, r⟩ by mode, in the order of the eigenvalues: the modes' shares of Θr; r = ∂L/∂f, L a sum over points.

    The sign is that of v_k with its component of largest magnitude positive.
    """
    return eigenvalues * projections


VARIABLE = Variable(
    "projection_factors",
    version=1,
    source="CV eq. 7-8",
    compute=projection_factors,
    treatments=("full",),
    kind="profile",
)
