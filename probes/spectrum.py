"""Spectra of kernels, in float64 whatever the kernel's own precision."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

SYMMETRY_TOLERANCE = 1e-4
"""Largest |Θ − Θᵀ| relative to the largest |Θ| that still counts as float32 rounding."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a kernel and how much had to be clipped to make them non-negative.

    eigenvalues: [side], descending, ≥ 0, in the kernel's unit; all NaN where the kernel is not finite.
    clipped_mass: Σ|negative eigenvalues| / Σ|eigenvalues| before clipping, in [0, 1]; about the rounding error for a
        true kernel, 0 for the zero kernel, NaN where the kernel is not finite.
    """

    eigenvalues: Float64[np.ndarray, " side"]
    clipped_mass: float


def spectrum(kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"]) -> Spectrum:
    """Spectrum of a symmetric kernel (the λ_k of CV eq. 7-9).

    Negative eigenvalues are clipped to 0, and so are positive ones below side · 2⁻⁵² · λ_max, which float64 cannot
    tell from 0. A kernel that is not finite gives NaN, not an exception.

    Raises:
        TypeError: the kernel is not a floating-point tensor or array.
        ValueError: the kernel is not square, is empty or is not symmetric.
    """
    kernel = float64_kernel(kernel)
    side = len(kernel)
    if not bool(torch.isfinite(kernel).all()):
        return Spectrum(np.full(side, np.nan), float("nan"))
    # On a CPU numpy's is the faster of the two.
    raw = torch.linalg.eigvalsh(kernel).cpu().numpy() if kernel.is_cuda else np.linalg.eigvalsh(kernel.numpy())
    total = float(np.abs(raw).sum())
    clipped_mass = float(-raw[raw < 0].sum()) / total if total > 0 else 0.0
    threshold = side * np.finfo(np.float64).eps * max(float(raw[-1]), 0.0)
    return Spectrum(np.where(raw > threshold, raw, 0.0)[::-1].copy(), clipped_mass)


def eigenvalues(kernel: Float[Tensor, "side side"] | Float[np.ndarray, "side side"]) -> Float64[np.ndarray, " side"]:
    """Eigenvalues of a symmetric kernel, descending, clipped to ≥ 0: ``spectrum(kernel).eigenvalues``."""
    return spectrum(kernel).eigenvalues


def float64_kernel(kernel: Tensor | np.ndarray) -> Float64[Tensor, "side side"]:
    """The kernel as an exactly symmetric float64 tensor on its own device.

    Raises:
        TypeError: the kernel is not a floating-point tensor or array.
        ValueError: the kernel is not square, is empty or is not symmetric.
    """
    if not isinstance(kernel, (Tensor, np.ndarray)):
        raise TypeError(f"the kernel is a {type(kernel).__name__}, expected a tensor or array [side, side]: convert it")
    matrix = torch.as_tensor(kernel).detach()
    if not matrix.is_floating_point():
        raise TypeError(f"the kernel has dtype {matrix.dtype}, expected a floating-point one: convert it to float64")
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(
            f"the kernel has shape {list(matrix.shape)}, expected a square [side, side]: flatten an [N, O, N, O] one "
            "with reshape(N * O, N * O)"
        )
    matrix = matrix.to(torch.float64)
    asymmetry = float((matrix - matrix.T).abs().max())
    # Written so that a kernel with NaN passes: it has no symmetry to check, and gives NaN later.
    if asymmetry > SYMMETRY_TOLERANCE * float(matrix.abs().max()):
        raise ValueError(
            f"the kernel differs from its transpose by up to {asymmetry:.3g}, expected a symmetric one: "
            "a kernel between two different sets of points has no spectrum"
        )
    return matrix / 2 + matrix.T / 2
