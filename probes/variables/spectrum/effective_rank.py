"""Effective rank of the kernel."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def effective_rank(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """exp(S), S the spectrum's entropy (BSC eq. 3, Nam eq. 1.16), in [1, side]; NaN for the zero kernel.

    BSC take it of the cosine-normalised kernel: that is ``effective_rank_cosine``.
    """
    return math.exp(shannon_entropy(eigenvalues))


VARIABLE = Variable("effective_rank", version=1, source="BSC eq. 3, Nam eq. 1.16", compute=effective_rank)
