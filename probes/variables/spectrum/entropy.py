"""Entropy of the kernel's spectrum."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """S = −Σ p_k ln p_k, p_k = λ_k/Σλ (CV eq. 9), in nats, in [0, ln side]; NaN for the zero kernel."""
    return shannon_entropy(eigenvalues)


VARIABLE = Variable("entropy", version=1, source="CV eq. 9", compute=entropy)
