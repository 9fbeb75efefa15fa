"""Effective rank of the cosine-normalised kernel."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def effective_rank_cosine(cosine_eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """exp of the entropy of Θ̂'s spectrum, BSC's effective rank, in [1, side]; NaN where some Θ_ii is 0."""
    return math.exp(shannon_entropy(cosine_eigenvalues))


VARIABLE = Variable("effective_rank_cosine", version=1, source="BSC eq. 3, App. B.3", compute=effective_rank_cosine)
