"""Sharpness of the loss, by Gauss-Newton."""

import math

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from tangentscope.probes.variables.variable import Variable


def sharpness(
    eigenvalues: Float64[np.ndarray, " side"],
    eigenvectors: Float64[np.ndarray, "side side"],
    output_hessian: Float64[Tensor, "N O O"],
) -> float:
    """λ_max(H^½ΘH^½)/N, H the points' ∂²L_n/∂f∂f: that of the mean loss, Gauss-Newton; unstable above 2/η.

    λ_max(Θ)/N for ½‖f − y‖². Taken as λ_max(Θ^½HΘ^½), the same, so that H may be indefinite.
    """
    points, outputs = output_hessian.shape[:2]
    root = (eigenvectors * np.sqrt(eigenvalues)).reshape(points, outputs, -1)
    curvature = np.einsum("nak,nab->nbk", root, output_hessian.cpu().numpy())
    matrix = root.reshape(points * outputs, -1).T @ curvature.reshape(points * outputs, -1)
    if not np.isfinite(matrix).all():
        return math.nan
    return float(np.linalg.eigvalsh(matrix / 2 + matrix.T / 2)[-1]) / points


VARIABLE = Variable("sharpness", version=1, source="Cohen 2021", compute=sharpness, treatments=("full",))
