"""Exponent of the spectrum's tail."""

import math

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.variable import Variable

PRECISION = 1e-6
"""Of λ_1, about what is left of an eigenvalue's digits in a kernel computed in single precision."""


def tail_exponent(eigenvalues: Float64[np.ndarray, " side"]) -> float:
    """α of λ_k ∝ k^−α, ≥ 0: least squares of ln λ_k on ln k, over k ≥ 2 with λ_k > 1e-6 λ_1; NaN with fewer than three.

    The first mode is left out as an outlier, and what single precision does not know of a kernel.
    """
    k = np.arange(1, len(eigenvalues) + 1)
    tail = (k >= 2) & (eigenvalues > PRECISION * eigenvalues[0])
    if tail.sum() < 3:  # a NaN is not larger than anything
        return math.nan
    x, y = np.log(k[tail]), np.log(eigenvalues[tail])
    x -= x.mean()
    return float(-(x @ y) / (x @ x))


VARIABLE = Variable("tail_exponent", version=1, source="power law of the spectrum", compute=tail_exponent)
