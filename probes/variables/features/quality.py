"""How useful each feature is for the task: its quality, alone and of the first k together."""

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.features.quantities import Eigenfunctions
from tangentscope.probes.variables.variable import Variable


def quality(eigenfunctions: Eigenfunctions, target_space: Float64[Tensor, "q dim"]) -> Float64[np.ndarray, " p"]:
    """Q*_k = ⟨e_k|P_H*[e_k]⟩/(C ⟨e_k|e_k⟩) on held-out points, in [0, 1/C]; of one target ⟨e_k|f*⟩²/⟨f*|f*⟩.

    P_H* projects on the span of the C targets. 0 for a feature without intensity, NaN beyond as many as there are
    training or held-out points.
    """
    return eigenfunctions.overlaps(target_space)


def quality_cumulative(
    eigenfunctions: Eigenfunctions, target_space: Float64[Tensor, "q dim"]
) -> Float64[np.ndarray, " p"]:
    """Π*(k), the share of the target space that the first k features span, in [0, 1].

    It is Σ_{j≤k} Q*_j with eigenfunctions that are orthonormal on the held-out points too, each less what those before
    it span. The sum of Q*_j as they are overshoots by up to k/n there, and may exceed 1. Of n held-out points, k
    features that know nothing of the task already span k/n of what is left.
    """
    return eigenfunctions.expressed(target_space)


QUALITY = Variable("quality", version=1, source="Nam eq. 1.30, 1.34, 2.3", compute=quality, kind="profile")
CUMULATIVE = Variable(
    "quality_cumulative", version=1, source="Nam eq. 1.32, 2.4", compute=quality_cumulative, kind="profile"
)
