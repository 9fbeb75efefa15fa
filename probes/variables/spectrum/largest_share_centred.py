"""Share of the largest eigenvalue of the centred kernel."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def largest_share_centred(centred_eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """λ_1/Σλ of CΘC, C = (1 − 11ᵀ/N) ⊗ 1 over the points of each logit, in [1/side, 1]; NaN where CΘC = 0."""
    return ratio(centred_eigenvalues[0], centred_eigenvalues.sum())


VARIABLE = Variable(
    "largest_share_centred", version=1, source="λ_1 of CV eq. 7-9, centred", compute=largest_share_centred
)
