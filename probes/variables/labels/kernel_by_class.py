"""The kernel between points, with the points of a class side by side: for figures."""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def kernel_by_class(
    block_kernel: Float64[Tensor, "N R N R"], point_kernel: Float64[Tensor, "N N"], classes: Int64[Tensor, " N"]
) -> Float64[np.ndarray, " N*N"]:
    """Mean over logits of Θ[ia, ja], row by row, points ordered by class and then as they were drawn.

    N² numbers a kernel are a lot to keep: a study of 50 points and 60 snapshots takes 2 MB a run for both splits.
    """
    order = torch.argsort(classes, stable=True)
    return (point_kernel[order][:, order] / block_kernel.shape[1]).flatten().cpu().numpy()


VARIABLE = Variable("kernel_by_class", version=1, source="Seleznova 2023", compute=kernel_by_class, kind="profile")
