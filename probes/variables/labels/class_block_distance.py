"""Distance of the kernel from its class blocks."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.variables.quantities import ClassMeans, class_pairs
from tangentscope.probes.variables.variable import Variable


def class_block_distance(
    block_kernel: Float64[Tensor, "N R N R"], class_means: ClassMeans, classes: Int64[Tensor, " N"]
) -> float:
    """‖Θ − Θ_block‖_F/‖Θ‖_F, in [0, 1]; NaN for the zero kernel.

    Θ_block is the nearest kernel of Seleznova's block structure: one value for a point with itself, one within classes,
    one between them, the same for all logits, and 0 between different logits.
    """
    same, different = class_pairs(classes)
    blocks = torch.full_like(block_kernel[:, 0, :, 0], class_means.own)
    blocks[same] = class_means.within
    blocks[different] = class_means.between
    scale = block_kernel.abs().max()  # first, so that squares neither overflow nor vanish
    scaled = block_kernel / scale
    rest = scaled.clone()
    rest.diagonal(dim1=1, dim2=3).sub_((blocks / scale)[..., None])
    return float((rest.square().sum() / scaled.square().sum()).sqrt())


VARIABLE = Variable("class_block_distance", version=1, source="Seleznova 2023", compute=class_block_distance)
