"""Share of the largest eigenvalue."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.variable import Variable


def largest_share(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """λ_1/Σλ, in [1/side, 1]; NaN for the zero kernel."""
    return ratio(eigenvalues[0], eigenvalues.sum())


VARIABLE = Variable("largest_share", version=1, source="λ_1 of CV eq. 7-9", compute=largest_share)
