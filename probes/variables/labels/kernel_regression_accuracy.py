"""Accuracy of regression with the kernel."""

import math

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable

RIDGE = 1e-6
"""Ridge as a share of the mean eigenvalue: below what single precision knows of a kernel, above what double does."""
TIE = 1e-9
"""Predictions of one-hot labels that differ by less are equal but for rounding."""


def kernel_regression_accuracy(
    eigenvalues: Float64[np.ndarray, " side"],
    eigenvectors: Float64[np.ndarray, "side side"],
    labels: Float64[Tensor, "N O"],
    classes: Int64[Tensor, " N"],
) -> float:
    """Share of points that ridge regression with Θ on all other points gives their class, in [0, 1].

    One-hot rows are regressed without offset, ridge 1e-6 Tr Θ/side, one point left out at a time, in closed form; full
    kernels in the system of side N·O, points left out with all their outputs. A tie counts as wrong. Fort 2020 and Long
    2021 use separate test points. NaN for one output and for the zero kernel.
    """
    points, outputs = labels.shape
    ridge = RIDGE * eigenvalues.mean()
    targets = labels.cpu().numpy()
    if outputs == 1 or not ridge > 0 or not np.isfinite(targets).all():
        return math.nan
    inverse = 1 / (eigenvalues + ridge)
    rows = len(eigenvalues) // points
    blocks = eigenvectors.reshape(points, rows, -1)
    dual = ((eigenvectors * inverse) @ (eigenvectors.T @ targets.reshape(points * rows, -1))).reshape(points, rows, -1)
    own = np.einsum("iak,k,ibk->iab", blocks, inverse, blocks, optimize=True)
    predicted = targets - np.linalg.solve(own, dual).reshape(points, outputs)  # (Θ+ρ)⁻¹_ii⁻¹ ((Θ+ρ)⁻¹y)_i is the error
    truth = classes.cpu().numpy()[:, None]
    right = np.take_along_axis(predicted, truth, 1)[:, 0]
    np.put_along_axis(predicted, truth, -np.inf, 1)
    return float((right > predicted.max(1) + TIE).mean())


VARIABLE = Variable(
    "kernel_regression_accuracy",
    version=1,
    source="Fort et al. 2020, Long 2021 (there on test points)",
    compute=kernel_regression_accuracy,
)
