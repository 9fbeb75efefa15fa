"""How far the features are from the fewest that could make the outputs, and the regime."""

from typing import Literal

from jaxtyping import Float64
from torch import Tensor
from torch.linalg import matrix_norm

from tangentscope.probes.variables.features.quantities import Sample
from tangentscope.probes.variables.variable import Variable

MINIMUM_FEATURE = 0.1
"""ε of Nam Def. 2."""

Regime = Literal["minimum feature", "extended feature"]


def kappa_cka(
    centred_features: Float64[Tensor, "q p"], learned_space: Float64[Tensor, "q dim"], sample: Sample
) -> float:
    """κ = 1 − CKA(T, T_MP) on held-out points, in [0, 1]; 0 where T is a projection on the span of the outputs.

    c(T_MP) = a₂ c(P_Ĥ): the constant's part falls out by centring. Norms come of p × p and p × dim Ĥ products.
    """
    space = sample.centred(learned_space)
    overlap = matrix_norm(centred_features.T @ space) ** 2
    norms = matrix_norm(centred_features.T @ centred_features) * matrix_norm(space.T @ space)
    return max(0.0, 1 - float(overlap / norms))


def regime_of(kappa: float) -> Regime | None:
    """The regime of a network with this κ_CKA (Nam Def. 2, ε = 0.1); None for NaN."""
    if kappa != kappa:
        return None
    return "minimum feature" if kappa < MINIMUM_FEATURE else "extended feature"


VARIABLE = Variable("kappa_cka", version=1, source="Nam eq. 2.8-2.9, Def. 1-2", compute=kappa_cka)
