"""Entropy of the cosine-normalised kernel's spectrum."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy_cosine(cosine_eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """Entropy of the spectrum of Θ̂ (BSC App. B.3), in nats, in [0, ln side]; NaN where some Θ_ii is 0."""
    return shannon_entropy(cosine_eigenvalues)


VARIABLE = Variable("entropy_cosine", version=1, source="BSC App. B.3", compute=entropy_cosine)
