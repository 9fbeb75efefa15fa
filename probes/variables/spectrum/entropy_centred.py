"""Entropy of the centred kernel's spectrum."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy_centred(centred_eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """S(CΘC), C = (1 − 11ᵀ/N) ⊗ 1 over the points of each logit, in nats, in [0, ln side]; NaN where CΘC = 0."""
    return shannon_entropy(centred_eigenvalues)


VARIABLE = Variable("entropy_centred", version=1, source="CV eq. 9, centred", compute=entropy_centred)
