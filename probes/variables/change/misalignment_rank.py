"""Number of eigenvectors that the misalignments compare."""

from tangentscope.probes.variables.variable import Variable


def misalignment_rank(misalignment_rank: float) -> float:
    """n = round(exp S(Θ̂)), BSC's effective rank (of the cosine-normalised present kernel), in 1..side.

    NaN where some Θ_ii is 0.
    """
    return misalignment_rank


VARIABLE = Variable("misalignment_rank", version=1, source="BSC eq. 17, App. B.3", compute=misalignment_rank)
