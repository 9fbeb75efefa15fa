"""Entropy of the spectrum on a scale from 0 to 1."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import shannon_entropy
from tangentscope.probes.variables.variable import Variable


def entropy_normalised(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """S / ln(side), in [0, 1]; NaN for the zero kernel and for side 1, where S and ln(side) are both 0."""
    side = len(eigenvalues)
    return shannon_entropy(eigenvalues) / math.log(side) if side > 1 else math.nan


VARIABLE = Variable("entropy_normalised", version=1, source="CV eq. 9 over ln(side)", compute=entropy_normalised)
