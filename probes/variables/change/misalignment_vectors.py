"""Rotation of the leading eigenvectors."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import misaligned_vectors
from tangentscope.probes.variables.variable import Variable


def misalignment_vectors(
    eigenvectors: Float64[np.ndarray, "side side"],
    initial_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − (1/n) Σ_k |v_k·v'_k| over the first n, v' those at step 0 (BSC eq. 17, by vector), in [0, 1].

    n is ``misalignment_rank``; modes that swap places count as rotated. NaN where the rank is undefined.
    """
    return misaligned_vectors(eigenvectors, initial_eigenvectors, misalignment_rank)


VARIABLE = Variable("misalignment_vectors", version=1, source="BSC eq. 17", compute=misalignment_vectors)
