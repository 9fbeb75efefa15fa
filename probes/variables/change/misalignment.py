"""Rotation of the leading eigenspace, and of its vectors, since step 0 and since the last measurement (BSC eq. 17)."""

import numpy as np
from jaxtyping import Float64

from tangentscope.probes.variables.formulas import misaligned_subspace, misaligned_vectors
from tangentscope.probes.variables.variable import Variable


def misalignment_rank(misalignment_rank: float) -> float:
    """n = round(exp S(Θ̂)), BSC's effective rank (of the cosine-normalised present kernel), in 1..side.

    NaN where some Θ_ii is 0.
    """
    return misalignment_rank


RANK = Variable("misalignment_rank", version=1, source="BSC eq. 17, App. B.3", compute=misalignment_rank)


def misalignment_subspace(
    eigenvectors: Float64[np.ndarray, "side side"],
    initial_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − ‖V_nᵀV'_n‖²_F/n, V' those at step 0 (BSC eq. 17, of subspaces), in [0, 1].

    n is ``misalignment_rank``; the chance level is 1 − n/side. NaN where the rank is undefined.
    """
    return misaligned_subspace(eigenvectors, initial_eigenvectors, misalignment_rank)


SUBSPACE = Variable("misalignment_subspace", version=1, source="BSC eq. 17", compute=misalignment_subspace)


def misalignment_vectors(
    eigenvectors: Float64[np.ndarray, "side side"],
    initial_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − (1/n) Σ_k |v_k·v'_k| over the first n, v' those at step 0 (BSC eq. 17, by vector), in [0, 1].

    n is ``misalignment_rank``; modes that swap places count as rotated. NaN where the rank is undefined.
    """
    return misaligned_vectors(eigenvectors, initial_eigenvectors, misalignment_rank)


VECTORS = Variable("misalignment_vectors", version=1, source="BSC eq. 17", compute=misalignment_vectors)


def misalignment_subspace_step(
    eigenvectors: Float64[np.ndarray, "side side"],
    previous_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − ‖V_nᵀV'_n‖²_F/n, V' those of the kernel measured before (BSC eq. 17, of subspaces), in [0, 1].

    n is ``misalignment_rank``; the chance level is 1 − n/side. NaN where the rank is undefined.
    """
    return misaligned_subspace(eigenvectors, previous_eigenvectors, misalignment_rank)


SUBSPACE_STEP = Variable(
    "misalignment_subspace_step", version=1, source="BSC eq. 17", compute=misalignment_subspace_step
)


def misalignment_vectors_step(
    eigenvectors: Float64[np.ndarray, "side side"],
    previous_eigenvectors: Float64[np.ndarray, "side side"],
    misalignment_rank: float,
) -> float:
    """1 − (1/n) Σ_k |v_k·v'_k| over the first n, v' of the kernel measured before (BSC eq. 17, by vector), in [0, 1].

    n is ``misalignment_rank``; modes that swap places count as rotated. NaN where the rank is undefined.
    """
    return misaligned_vectors(eigenvectors, previous_eigenvectors, misalignment_rank)


VECTORS_STEP = Variable("misalignment_vectors_step", version=1, source="BSC eq. 17", compute=misalignment_vectors_step)
