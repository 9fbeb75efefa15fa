"""Local elasticity of the network with respect to classes."""

import math

from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.variables.formulas import ratio
from tangentscope.probes.variables.quantities import class_pairs
from tangentscope.probes.variables.variable import Variable


def local_elasticity(point_kernel: Float64[Tensor, "N N"], classes: Int64[Tensor, " N"]) -> float:
    """w/(w + b), in [0, 1]; ½ where nothing is locally elastic; NaN without pairs of both sorts or where some Θ_ii = 0.

    w and b are the means, over ordered pairs of different points of one class and of two, of He & Su's relative
    similarity |Δf(x_j)|/|Δf(x_i)| after a step on x_i: |Θ_ij|/Θ_ii, Θ_ij summed over equal logits. The share is ours.
    """
    own = point_kernel.diagonal()
    if not bool((own > 0).all()):
        return math.nan
    similarity = point_kernel.abs() / own[:, None]
    same, different = class_pairs(classes)
    within, between = (ratio(float(similarity[pairs].sum()), int(pairs.sum())) for pairs in (same, different))
    return ratio(within, within + between)


VARIABLE = Variable("local_elasticity", version=1, source="He & Su 2020", compute=local_elasticity)
