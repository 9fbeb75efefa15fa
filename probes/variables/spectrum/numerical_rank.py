"""Numerical rank of the kernel."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable


def numerical_rank(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """Number of eigenvalues above side · 2⁻⁵² · λ_1 (those not clipped to 0), in 0..side.

    Rounding of a kernel computed in single precision counts as rank.
    """
    return math.nan if np.isnan(eigenvalues).any() else float((eigenvalues > 0).sum())


VARIABLE = Variable("numerical_rank", version=1, source="spectrum of CV eq. 7-9", compute=numerical_rank)
