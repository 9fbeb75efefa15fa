"""Largest eigenvalue of the kernel."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def largest_eigenvalue(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """λ_1, the largest eigenvalue, in the kernel's unit, ≥ 0."""
    return float(eigenvalues[0])


VARIABLE = Variable("largest_eigenvalue", version=1, source="λ_1 of CV eq. 7-8", compute=largest_eigenvalue)
