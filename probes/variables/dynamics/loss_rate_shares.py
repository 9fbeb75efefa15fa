"""Shares of the modes in the loss rate."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def loss_rate_shares(
    eigenvalues: Float64[np.ndarray, " side"], mode_weights: Float64[np.ndarray, " side"]
) -> Float64[np.ndarray, " side"]:
    """λ_k c_k²/Σ_j λ_j c_j², c_k = ⟨v_k, r⟩, by mode in the order of the eigenvalues; sums to 1; NaN where rᵀΘr = 0."""
    rates = eigenvalues * mode_weights
    total = rates.sum()
    return rates / (total if total != 0 else np.nan)


VARIABLE = Variable(
    "loss_rate_shares",
    version=1,
    source="modes of CV eq. 7-8",
    compute=loss_rate_shares,
    treatments=("full",),
    kind="profile",
)
