"""How far the network uses each feature: its utilisation, alone and of the first k together."""

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.features.quantities import Eigenfunctions
from tangentscope.probes.variables.variable import Variable


def utilisation(eigenfunctions: Eigenfunctions, learned_space: Float64[Tensor, "q dim"]) -> Float64[np.ndarray, " p"]:
    """Q̂_k = ⟨e_k|P_Ĥ[e_k]⟩/(dim Ĥ ⟨e_k|e_k⟩) on held-out points, in [0, 1/dim Ĥ]; Ĥ is the span of the outputs.

    Nam eq. 2.5 prints ⟨e_k|P_Ĥ[e_k]⟩ squared, with which Π̂(p) would not be 1. 0 and NaN as in ``quality``.
    """
    return eigenfunctions.overlaps(learned_space)


def utilisation_cumulative(
    eigenfunctions: Eigenfunctions, learned_space: Float64[Tensor, "q dim"]
) -> Float64[np.ndarray, " p"]:
    """Π̂(k), the share of the outputs' span that the first k features span, in [0, 1]; see ``quality_cumulative``.

    Π̂(p) = 1, but for a bias that adds a constant which is in no span of the features.
    """
    return eigenfunctions.expressed(learned_space)


UTILISATION = Variable("utilisation", version=1, source="Nam eq. 1.31, 1.34, 2.5", compute=utilisation, kind="profile")
CUMULATIVE = Variable(
    "utilisation_cumulative", version=1, source="Nam eq. 1.32, 2.5", compute=utilisation_cumulative, kind="profile"
)
